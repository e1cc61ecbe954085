"""LRN008 stopped-early: a program that throws away what was learned, and others that put weights back."""

import copy

import pytest

from traces import every, facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.rules.steps import stopped_early
from unstuck.diagnose.undone import put_back

BOUNDS = load_bounds()
LEARNED = {"start": 2.3, "final": 0.4, "baseline": 2.3}


def moved(last, steps=120, **ways):
    nodes = [linear("fc1", "input"), op("act", "ReLU", "fc1"), linear("fc2", "act")]
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2"), steps=steps, **LEARNED)
    for name in ("fc1", "fc2"):
        every(run, name, weight_norm=2.0, grad_norm=1.0, update_ratio=0.01, drift_norm=ways.get(name, 1.0))
        run.add(steps - 1, name, "drift_norm", last)
    return run


def test_weights_that_are_those_of_the_start():
    run = moved(0.0)
    assert told(stopped_early(run, BOUNDS)) == [("LRN008", "warning", None)]
    found = diagnose(run).findings
    assert [(one.code, one.severity) for one in found if one.severity != "info"] == [("LRN008", "warning")]
    assert "120 steps" in found[0].summary
    assert "LRN009" not in [one.code for one in found]  # they moved


@pytest.mark.parametrize(
    "run", [moved(1e-3), moved(1.0), moved(0.0, steps=5), moved(0.0, fc1=0.0, fc2=0.0)],
    ids=["a step from there", "far", "too short", "never moved"],
)  # fmt: skip
def test_weights_that_are_not(run):
    assert "LRN008" not in [one.code for one in diagnose(run).findings]


def test_one_layer_that_is_reset_is_another_matter():
    run = moved(0.0)
    run.add(119, "fc2", "drift_norm", 1.0)
    assert not put_back(run)


@pytest.mark.parametrize("better", [min, max])
def test_early_stopping_that_keeps_the_first_weights(better):
    torch = pytest.importorskip("torch")
    from digit_programs import X, Y, batches, entropy, mlp
    from unstuck.sources.torch.record import record

    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    best, kept = float("inf"), copy.deepcopy(model.state_dict())
    with record(model, optimizer) as watched:
        for epoch in range(6):
            for x, y in batches(20, X, Y):
                optimizer.zero_grad()
                entropy(model(x), y).backward()
                optimizer.step()
            with torch.no_grad():
                loss = entropy(model(X), Y).item()
            if epoch < 5 and better(loss, best) == loss:
                best, kept = loss, copy.deepcopy(model.state_dict())
        model.load_state_dict(kept)
    told = [one.code for one in watched.diagnose().findings if one.severity != "info"]
    assert told == ([] if better is min else ["LRN008"])
