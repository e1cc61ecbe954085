"""Steps that are too large without blowing up: what had been learned is lost, far from the start."""

import numpy as np
import pytest

from traces import every, facts, linear, op, recorded
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.relapse import relapse

BOUNDS = load_bounds()
FALLS_AND_RISES = [0.6] * 30 + [1.2] * 170


def training(losses, *, drift=3.0, ratio=0.08, noise=0.02):
    nodes = [linear("fc1", "input"), op("act", "ReLU", "fc1"), linear("fc2", "act")]
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2"), steps=len(losses))
    rng = np.random.default_rng(0)
    for step, loss in enumerate(losses):
        run.add_row(step, "", {"loss": loss + noise * rng.normal(), "baseline_loss": 1.4, "lr": 0.1})
    for name in ("fc1", "fc2"):
        every(run, name, drift=drift, update_ratio=ratio, grad_norm=1.0, weight_norm=9.0)
    return run


def test_a_loss_that_rose_again_far_from_the_start():
    (found,) = relapse(training(FALLS_AND_RISES), BOUNDS)
    assert (found.code, found.severity) == ("LRN001", "warning")
    assert "steps, then rose" in found.summary
    assert diagnose(training(FALLS_AND_RISES)).findings[0].code == "LRN001"


@pytest.mark.parametrize(
    ("losses", "more"),
    [
        ([0.6] * 100 + [0.5] * 100, {}),
        (FALLS_AND_RISES, {"drift": 0.4}),
        (FALLS_AND_RISES, {"ratio": 0.01}),
        ([1.3] * 30 + [1.35] * 170, {}),
        ([1.2] * 170 + [0.9] * 30, {}),
        ([0.6] * 30 + [1.2] * 30, {}),
        ([0.6, 1.2] * 100, {"noise": 0.3}),
        ([0.7] * 30 + [0.9] * 170, {}),
    ],
    ids=["learns", "nearby", "small steps", "never fell", "falls late", "short", "up and down", "keeps most"],
)
def test_what_is_no_relapse(losses, more):
    assert relapse(training(losses, **more), BOUNDS) == []
