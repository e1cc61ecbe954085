import math

import numpy as np
import pytest
import torch
from torch import nn

from traces import facts, linear, op, recorded, told
from unstuck import datasets
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.signal import no_signal
from unstuck.sources.torch.probes import PROBES, run_probes
from unstuck.trace.recording import Recording

BOUNDS = load_bounds()


def run_of(*, effect=0.0, chance=0.6, overfit=0.1, final=2.3):
    nodes = [linear("fc1", "input"), op("mid", "Tanh", "fc1"), linear("fc2", "mid")]
    ended = {"start": 2.3, "final": final, "baseline": 2.3}
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2", given=(300, 10), wanted=(300,)), **ended)
    run.add_row(
        0,
        "",
        {
            "probe.signal": effect,
            "probe.signal_p": chance,
            "probe.signal_samples": 300.0,
            "probe.overfit": overfit,
        },
    )
    return run


def test_nothing_to_learn():
    assert told(no_signal(run_of(), BOUNDS)) == [("DAT008", "info", None)]


def test_something_to_learn_or_another_fault():
    for more in ({"effect": 0.1}, {"chance": 0.1}, {"overfit": 0.9}, {"final": 0.3}):
        assert no_signal(run_of(**more), BOUNDS) == []
    with pytest.raises(NotChecked, match="simple models"):
        no_signal(run_of(effect=math.nan), BOUNDS)


def measured(x, y):
    recording, model = Recording(), nn.Linear(x[0].numel(), 10)
    loss_fn = nn.MSELoss() if y.is_floating_point() else nn.CrossEntropyLoss()
    run_probes(model, loss_fn, x, y, None, recording, 0, probes={"signal": PROBES["signal"]})
    return recording.first("probe.signal"), recording.first("probe.signal_p")


def test_the_probe_sees_classes_and_numbers_and_not_what_was_dealt_out():
    digits = datasets.digits()
    x = torch.tensor(digits.inputs[:300].reshape(300, -1))
    y = torch.tensor(digits.targets[:300]).long()
    for targets in (y, x[:, 20] + 0.5 * torch.randn(300, generator=torch.Generator().manual_seed(2))):
        effect, chance = measured(x, targets)
        assert effect > 0.3
        assert chance == pytest.approx(0.01)
    found = [
        measured(x, y[torch.randperm(300, generator=torch.Generator().manual_seed(i))]) for i in range(10)
    ]
    assert all(abs(effect) < 0.2 for effect, _ in found)
    assert 0.15 < np.mean([chance for _, chance in found]) < 0.85


def test_neighbours_see_a_ring_that_no_line_does():
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    effect, chance = measured(x, (x.norm(dim=1) > 1.2).long())
    assert effect > 0.3
    assert chance == pytest.approx(0.01)


def test_images_and_few_samples_measure_nothing():
    assert measured(torch.randn(300, 1, 4, 4), torch.arange(300) % 10) == (None, None)
    assert measured(torch.randn(199, 4), torch.zeros(199).long()) == (None, None)
