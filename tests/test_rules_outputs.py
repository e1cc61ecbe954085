import numpy as np
import pytest

from small_network import Network, blobs, train
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.outputs import constant_prediction

BOUNDS = load_bounds()
X, T = blobs()


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


def dead():
    network = Network((4, 16, 3), "ReLU")
    network.biases[0] -= 1e3
    return network


def test_a_constant_answer_rests_at_the_constant_predictors_loss():
    run = train(dead(), X, T, lr=0.3, steps=80, classes=True)
    assert told(constant_prediction(run, BOUNDS)) == [("OUT010", "error", "fc2")]
    run = train(Network((4, 16, 3), "ReLU"), X, T, lr=0.1, steps=80, classes=True)
    assert constant_prediction(run, BOUNDS) == []


def test_it_is_a_consequence_where_a_cause_is_known():
    run = train(Network((4, 16, 3), "Tanh", init={0: 0.0}), X, T, lr=0.3, steps=80, classes=True)
    root = diagnose(run).findings[0]
    assert root.code == "INI001"
    assert "OUT010" in [effect.code for effect in root.consequences]


def test_without_a_fixed_sample_the_batches_speak():
    run = train(dead(), X, T, lr=0.3, steps=80, classes=True)
    from unstuck.trace.recording import Recording

    own = Recording(run.structure, run.meta)
    for quantity in ("loss", "baseline_loss", "output_variation"):
        series = run.series(quantity)
        for step, value in zip(series.steps, series.values, strict=True):
            own.add(int(step), "", quantity, float(value))
    assert told(constant_prediction(own, BOUNDS)) == [("OUT010", "error", "fc2")]


def test_a_loss_on_its_way_does_not_rest():
    network = dead()
    network.biases[1] += 3.0
    run = train(network, X, T, lr=0.02, steps=60, classes=True)
    assert constant_prediction(run, BOUNDS) == []


def test_a_regression_that_learns_may_vary_little_beside_its_mean():
    x = np.linspace(-1, 1, 40)[:, None]
    network = Network((1, 16, 1), "Tanh", init={0: 2.0})
    network.biases[1] += 100.0
    run = train(network, x, 100 + np.sin(3 * x), lr=0.1, steps=150)
    assert run.last("output_variation") < BOUNDS.output.constant
    assert constant_prediction(run, BOUNDS) == []
    assert diagnose(run).healthy


def test_a_few_steps_say_nothing():
    with pytest.raises(NotChecked, match="few"):
        constant_prediction(train(dead(), X, T, lr=0.3, steps=5, classes=True), BOUNDS)


@pytest.mark.parametrize(
    ("varies", "severity"),
    [
        ([0.002, 0.002, 0.0021, 0.0019, 0.002, 0.0022, 0.0024, 0.003, 0.0045, 0.007], "info"),  # leaves it
        ([0.002] * 10, "error"),
        ([0.002, 0.003, 0.0015, 0.004, 0.002, 0.001, 0.003, 0.0015, 0.002, 0.005], "error"),  # jumps about
        ([1e-12, 2e-12, 1e-12, 2e-12, 1e-12, 2e-12, 4e-12, 8e-12, 1e-11, 2e-11], "error"),  # rounding
        ([0.03, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4, 5e-5], "error"),  # collapses
    ],
)
def test_a_network_that_leaves_the_plateau_is_no_fault(varies, severity):
    from unstuck.trace.recording import Recording

    stuck = train(dead(), X, T, lr=0.3, steps=80, classes=True)
    own = Recording(stuck.structure, stuck.meta)
    steps = np.linspace(0, 79, 10).astype(int)
    baseline = stuck.first("baseline_loss")
    for step, value in zip(steps, varies, strict=True):
        for quantity, number in (("full_loss", baseline), ("baseline_loss", baseline), ("loss", baseline)):
            own.add(int(step), "", quantity, number)
        own.add(int(step), "", "output_variation", value)
    assert told(constant_prediction(own, BOUNDS)) == [("OUT010", severity, "fc2")]
    assert (diagnose(own).status == "faulty") == (severity == "error")
