import numpy as np
import pytest

from small_network import Network, blobs, train
from traces import every, facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.gradients import no_gradient, vanishing_gradient

BOUNDS = load_bounds()
X, T = blobs()
DEEP = (4, 16, 16, 16, 16, 3)


# ---- GRD001 vanishing-gradient


def test_a_deep_sigmoid_network_by_glorot_loses_its_gradient():
    run = train(Network(DEEP, output="Sigmoid"), X, T, lr=1, steps=60, classes=True)
    assert told(vanishing_gradient(run, BOUNDS)) == [("GRD001", "error", "fc1")]
    assert [f.code for f in diagnose(run).findings] == ["GRD001"]
    run = train(Network(DEEP, output="Sigmoid", init={0: 4.0}), X, T, lr=4, steps=60, classes=True)
    assert vanishing_gradient(run, BOUNDS) == []


def test_an_exact_zero_is_no_vanishing_gradient():
    run = train(Network((4, 8, 8, 8, 3), init={4: 0.0}), X, T, lr=0.5, steps=30, classes=True)
    assert vanishing_gradient(run, BOUNDS) == []


def test_two_layers_are_no_depth():
    with pytest.raises(NotChecked, match="three"):
        vanishing_gradient(train(Network((4, 8, 3)), X, T, lr=0.5, steps=3, classes=True), BOUNDS)


def test_a_rate_that_is_too_low_is_no_vanishing_gradient():
    widths = (4, *[16] * 6, 3)
    run = train(Network(widths, "ReLU", init={0: np.sqrt(2.0)}), X, T, lr=1e-6, steps=25, classes=True)
    assert vanishing_gradient(run, BOUNDS) == []


def test_where_the_rate_lets_no_layer_move_its_gradient_is_not_to_blame():
    def run(rate):
        nodes, before = [], "input"
        for i in range(4):
            nodes += [linear(f"fc{i}", before), op(f"act{i}", "Tanh", f"fc{i}")]
            before = f"act{i}"
        stuck = {"start": 2.3, "final": 2.3, "baseline": 2.3}
        found = recorded(nodes, "CrossEntropyLoss", facts(before), **stuck, lr=rate)
        found.meta.optimizer = "Adam"
        for i in range(4):
            every(found, f"fc{i}", grad_norm=1e-5 * 30.0**i, weight_norm=1.6, update_ratio=rate)
        return found

    assert told(vanishing_gradient(run(9e-4), BOUNDS)) == [("GRD001", "error", "fc0")]
    assert vanishing_gradient(run(5e-7), BOUNDS) == []


# ---- GRD003 no-gradient


def test_a_cut_graph_leaves_a_layer_without_gradient():
    run = train(Network((4, 8, 8, 3)), X, T, lr=0.5, steps=60, classes=True, cut=1)
    assert told(no_gradient(run, BOUNDS)) == [("GRD003", "error", "fc1")]
    run = train(Network((4, 8, 8, 3)), X, T, lr=0.5, steps=60, classes=True)
    assert no_gradient(run, BOUNDS) == []


def test_behind_zero_layers_the_gradient_is_zero_for_as_many_steps_as_there_are():
    run = train(Network((4, 8, 8, 8, 3), init={3: 0.0, 4: 0.0}), X, T, lr=0.5, steps=30, classes=True)
    found = no_gradient(run, BOUNDS)
    assert told(found) == [("GRD003", "info", f"fc{i}") for i in (1, 2, 3)]
    assert ["until step 2" in f.summary for f in found] == [True, True, False]


def test_a_frozen_layer_needs_no_gradient():
    run = train(Network((4, 8, 8, 3), frozen=(1,)), X, T, lr=0.5, steps=20, classes=True, cut=1)
    assert no_gradient(run, BOUNDS) == []


def test_a_sample_of_zeros_is_no_missing_gradient():
    points, labels = np.array([[0.0], [0.3], [0.6], [1.0]]), np.eye(2)[[0, 1, 0, 1]]
    network = Network((1, 8, 2), "ReLU", "Sigmoid", init={0: 2.0})
    run = train(network, points, labels, lr=0.5, steps=200, batch=1, classes=True)
    assert run.first("grad_norm", "fc1") == 0  # the first sample is the 0, and it comes round again
    assert no_gradient(run, BOUNDS) == []


def test_nothing_left_to_learn_is_no_missing_gradient():
    network = Network((4, 8, 3), "ReLU")
    x = X[:4]
    t = network.forward(x)[-1] + np.array([[1.0], [-1.0], [1.0], [-1.0]])
    run = train(network, x, t, lr=0.05, steps=30)
    for step in range(20, 30):
        run.add(step, "fc1", "grad_norm", 0.0)
        run.add(step, "fc2", "grad_norm", 0.0)
        run.add(step, "fc1", "drift_norm", 1.0)
        run.add(step, "fc2", "drift_norm", 1.0)
        run.add(step, "", "full_loss", 0.0)
    assert no_gradient(run, BOUNDS) == []


def halves(first, second, *, optimised=True, final=1.0):
    """Two layers before a cut, and one after it that seems to read the input; and a side branch."""
    shapes = {"grad_norm": None, "zero_grad": None}
    nodes = [
        linear("reader", "input", fan_in=2, connected=False, optimised=optimised),
        linear("mixer", "input", units=first, connected=False, optimised=optimised),
        linear("answer", "input", units=2, fan_in=second, optimised=True),
        linear("aside", "input", connected=False, optimised=True),
    ]
    run = recorded(nodes, "CrossEntropyLoss", facts("answer", (32, 2)), start=1.0, final=final, baseline=1.0)
    for name in ("reader", "mixer", "aside"):
        every(run, name, **shapes)
    return every(run, "answer", grad_norm=1.0)


def test_a_cut_path_is_told_from_what_is_not_used():
    cut = [("GRD003", "error", "reader"), ("GRD003", "error", "mixer")]
    assert told(no_gradient(halves(8, 8), BOUNDS)) == cut
    assert told(no_gradient(halves(2, 2), BOUNDS)) == cut
    assert no_gradient(halves(2, 2, final=0.2), BOUNDS) == []
    kept = [("GRD003", "warning", "reader"), ("GRD003", "warning", "mixer")]
    assert told(no_gradient(halves(8, 8, final=0.2), BOUNDS)) == kept
    assert no_gradient(halves(8, 8, optimised=False), BOUNDS) == []


def cut_off(*, gradient=None, drift=0.0, steps=40, optimised=True):
    """A network whose loss hangs on a tensor that was made to ask for a gradient."""
    nodes = [
        linear("reader", "input", connected=False, optimised=optimised),
        linear("answer", "input", units=2, connected=False, optimised=optimised),
        op("accumulate_grad_1", "accumulate_grad", "input", shape=(2,)),
    ]
    run = recorded(nodes, "CrossEntropyLoss", facts("accumulate_grad_1", (32, 2)), steps=steps, baseline=1.0)
    for name in ("reader", "answer"):
        every(run, name, grad_norm=gradient, zero_grad=gradient, drift_norm=drift)
    return run


def test_a_loss_that_does_not_hang_on_the_network_names_its_last_layer():
    found = no_gradient(cut_off(), BOUNDS)
    assert told(found) == [("GRD003", "error", "answer")]
    assert "requires_grad_()" in found[0].summary
    assert "behind answer" in found[0].summary


def test_what_moved_had_a_gradient_or_was_not_meant_to_is_no_cut():
    assert no_gradient(cut_off(drift=0.1), BOUNDS) == []
    assert no_gradient(cut_off(gradient=1.0), BOUNDS) == []
    assert no_gradient(cut_off(steps=5), BOUNDS) == []
    assert no_gradient(cut_off(optimised=False), BOUNDS) == []
