import numpy as np
import pytest

from small_network import Network, blobs, train
from traces import every, facts, linear, op, recorded
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.activations import collapsed_representation, saturated_units

BOUNDS = load_bounds()
X, T = blobs()


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


# ---- ACT003 saturated-units


@pytest.mark.parametrize("activation", ["Sigmoid", "Tanh"])
def test_large_weights_saturate(activation):
    run = train(Network((4, 16, 3), activation, init={1: 80.0}), X, T, lr=0.001, steps=40, classes=True)
    found = saturated_units(run, BOUNDS)
    assert told(found) == [("ACT003", "warning", "fc1")]
    assert found[0].step == 0
    assert "from the start" in found[0].summary
    run = train(Network((4, 16, 3), activation), X, T, lr=0.001, steps=40, classes=True)
    assert saturated_units(run, BOUNDS) == []


def test_a_large_step_saturates_later():
    network = Network((4, 16, 16, 3), "Sigmoid", "Sigmoid", init={0: 4.0})
    run = train(network, X, T, lr=2000, steps=40, classes=True)
    found = saturated_units(run, BOUNDS)
    assert found
    assert found[0].step > 0
    assert "updates" in found[0].summary


def test_saturated_units_that_solve_the_task_are_a_code():
    run = train(Network((4, 32, 3), "Tanh", init={1: 30.0}), X, T, lr=0.05, steps=100, classes=True)
    assert run.last("saturated", "act1") > BOUNDS.signal.saturated
    assert diagnose(run).healthy


def test_a_sure_answer_of_the_last_layer_is_not_saturation():
    network = Network((4, 16, 3), "Sigmoid", "Sigmoid", init={0: 2.0, 2: 200.0})
    run = train(network, X, T, lr=1e-6, steps=25, classes=True)
    assert run.last("saturated", "act2") > BOUNDS.signal.saturated
    assert saturated_units(run, BOUNDS) == []


def answering(share, slope, varies, final=0.5):
    """A network that ends with a sigmoid, against targets of mean square 0.13."""
    nodes = [linear("fc1", "input"), linear("fc2", "fc1", units=3), op("end", "Sigmoid", "fc2", shape=(3,))]
    run = recorded(nodes, "MSELoss", facts("end", (32, 3)), start=0.5, final=final, baseline=0.13)
    every(run, "", output_variation=varies)
    for name in ("fc1", "fc2"):
        every(run, name, grad_norm=0.0, zero_grad=1.0, weight_norm=2.0, drift_norm=0.0)
    return every(run, "end", saturated=share, slope=slope)


def test_a_last_sigmoid_at_its_end_from_the_start_stands_before_the_missing_gradient():
    found = diagnose(answering(1.0, 0.0, 0.0)).findings
    assert told(found)[0] == ("ACT003", "error", "fc2")
    assert [one.code for one in found[0].consequences].count("GRD003") == 2
    assert saturated_units(answering(0.97, 0.02, 0.0), BOUNDS) == []
    assert saturated_units(answering(1.0, 0.02, 0.9), BOUNDS) == []  # both ends: wrong, but answers
    assert saturated_units(answering(1.0, 0.0, 1e-6, final=0.01), BOUNDS) == []


# ---- ACT005 collapsed-representation


def test_a_layer_that_answers_the_same_for_every_input_is_named():
    network = Network((4, 16, 16, 3), "ReLU", init={0: 1.4})
    network.biases[1] -= 1e3  # dead from the start
    run = train(network, X, T, lr=0.1, steps=60, classes=True)
    assert told(collapsed_representation(run, BOUNDS)) == [("ACT005", "error", "fc2")]
    run = train(Network((4, 16, 16, 3), "ReLU", init={0: 1.4}), X, T, lr=0.1, steps=60, classes=True)
    assert collapsed_representation(run, BOUNDS) == []


def test_inputs_that_hardly_vary_are_not_the_layers_fault():
    run = train(Network((4, 8, 3), "Tanh"), X + 1e4, T, lr=1e-12, steps=25, classes=True)
    with pytest.raises(NotChecked, match="centre"):
        collapsed_representation(run, BOUNDS)


def test_large_targets_are_no_collapse():
    x = np.linspace(-1, 1, 40)[:, None]
    run = train(Network((1, 16, 1), "Tanh"), x, 50 + np.sin(3 * x), lr=0.02, steps=100)
    assert collapsed_representation(run, BOUNDS) == []
