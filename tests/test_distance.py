"""Layers that early steps carried many times their size away, although none of the steps looks large."""

import pytest

from traces import every, facts, linear, op, recorded
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.distance import far_off, killed
from unstuck.trace.structure import Node

BOUNDS = load_bounds()


def training(way=30.0, *, weights=9.0, final=1.39, steps=200, units=9, trainable=True):
    nodes = [linear("fc1", "input", units=units, trainable=trainable), op("act", "ReLU", "fc1")]
    nodes.append(linear("fc2", "act", units=units, trainable=trainable))
    ended = {"start": 1.4, "final": final, "baseline": 1.4}
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2"), steps=steps, **ended)
    for name in ("fc1", "fc2"):
        every(run, name, update_ratio=0.08, grad_norm=1.0, weight_norm=weights, drift_norm=way)
    return run


def test_a_start_that_was_left_far_behind():
    (found,) = far_off(training(), BOUNDS)
    assert (found.code, found.severity) == ("LRN001", "warning")
    assert "first 100 of 200 steps" in found.summary
    assert "first 240 of 1200 steps" in far_off(training(steps=1200), BOUNDS)[0].summary
    assert "3.3 times" in found.summary
    assert diagnose(training()).findings[0].code == "LRN001"


@pytest.mark.parametrize(
    "more",
    [
        {"way": 9.0},
        {"final": 0.2},
        {"final": 40.0},
        {"way": 4.0, "weights": 0.5},
        {"steps": 15},
        {"trainable": False},
    ],
    ids=["nearby", "learns", "diverged", "began next to nothing", "too short", "frozen"],
)
def test_what_did_not_go_too_far(more):
    assert far_off(training(**more), BOUNDS) == []


def test_tables_may_have_to_go_far():
    nodes = [Node("users", "Embedding", ("input",), (8,), {"weight": (40, 8)})]
    nodes += [
        Node("films", "Embedding", ("input",), (8,), {"weight": (90, 8)}),
        op("mul", "mul", "users", "films"),
    ]
    run = recorded(nodes, "MSELoss", facts("mul"), steps=200, start=12.0, final=0.8, baseline=1.0)
    for name in ("users", "films"):
        every(run, name, weight_norm=0.6, drift_norm=40.0)
    assert far_off(run, BOUNDS) == []


def test_steps_late_in_a_training_are_another_matter():
    run = training(way=0.0)
    for step in range(110, 200):
        run.add_row(step, "fc1", {"drift_norm": 90.0})
    assert far_off(run, BOUNDS) == []


def test_a_warm_up_that_is_as_long_as_a_fifth_of_a_short_training():
    run = training(way=0.0)
    for step in range(60, 200):
        for name in ("fc1", "fc2"):
            run.add_row(step, name, {"drift_norm": 30.0})
    assert [one.code for one in far_off(run, BOUNDS)] == ["LRN001"]


def test_the_matrices_of_a_recurrent_layer_count():
    sizes = {"weight_ih_l0": (27, 9), "weight_hh_l0": (27, 9), "bias_ih_l0": (27,), "bias_hh_l0": (27,)}

    def trace(way):
        nodes = [Node("rnn", "GRU", ("input",), (9,), sizes), linear("head", "rnn", units=9)]
        run = recorded(
            nodes, "CrossEntropyLoss", facts("head"), steps=200, start=1.4, final=1.39, baseline=1.4
        )
        for name in ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "head"):
            every(run, name, update_ratio=0.08, grad_norm=1.0, weight_norm=3.0, drift_norm=way)
        return run

    assert [one.code for one in far_off(trace(30.0), BOUNDS)] == ["LRN001"]
    assert far_off(trace(3.0), BOUNDS) == []


def dying(updates, *, dead_from=20, never=0.0, final=1.6):
    run = training(way=1.0, final=final)
    for step in range(200):
        late = float(step >= dead_from)
        run.add_row(step, "act", {"act_std": 1.0, "never_active": never, "dead": late, "dead_lately": late})
        run.add_row(step, "fc1", {"update_ratio": updates})
    return run


def test_a_layer_that_large_early_updates_left_dead():
    (found,) = killed(dying(0.2), BOUNDS)
    assert (found.code, found.severity) == ("LRN001", "warning")
    assert "all units of fc1 were dead" in found.summary
    root = diagnose(dying(0.2)).findings[0]
    assert root.code == "LRN001"
    assert "ACT002" in [one.code for one in root.consequences]


@pytest.mark.parametrize(
    "run",
    [dying(0.2, dead_from=120), dying(0.2, never=1.0), dying(0.2, final=0.2)],
    ids=["late", "never lived", "learned all the same"],
)
def test_other_ways_to_die(run):
    assert killed(run, BOUNDS) == []
