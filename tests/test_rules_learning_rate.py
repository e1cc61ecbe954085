import math

import pytest

from small_network import Network, blobs, train
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.learning_rate import (
    lazy_training,
    learning_rate_too_high,
    learning_rate_too_low,
)

BOUNDS = load_bounds()
X, T = blobs()
NET = (4, 16, 3)


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


def probed(network, lr, steps, length=20, at=None):
    """A training with paired probes: the same network at its own rate, a tenth of and ten times it."""
    run = train(network(), X, T, lr=lr, steps=steps, classes=True)
    at = steps - 1 if at is None else at
    run.add(at, "", "probe.steps", length)
    for name, factor in (("same", 1.0), ("low", 0.1), ("high", 10.0)):
        copy = network()
        train(copy, X, T, lr=lr, steps=at + 1, classes=True)
        values = train(copy, X, T, lr=lr * factor, steps=length + 1, classes=True).series("full_loss").values
        run.add(at, "", "probe.start", float(values[0]))
        run.add(at, "", f"probe.{name}", float(values[-1]))
    return run


def tanh():
    return Network(NET, "Tanh")


# ---- LRN001 learning-rate-too-high


def squashed():
    """Sigmoids all the way: a rate that is too high cannot blow up, it jumps about."""
    return Network(NET, "Tanh", "Sigmoid")


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_a_loss_that_blows_up_needs_no_probe():
    run = train(tanh(), X, T, lr=30, steps=60, classes=True)
    assert told(learning_rate_too_high(run, BOUNDS)) == [("LRN001", "error", None)]
    with pytest.raises(NotChecked, match="probes"):
        learning_rate_too_high(train(tanh(), X, T, lr=0.1, steps=60, classes=True), BOUNDS)


def test_a_tenth_of_the_rate_does_better_where_it_is_too_high():
    run = probed(squashed, lr=100.0, steps=30, length=60, at=0)
    assert told(learning_rate_too_high(run, BOUNDS)) == [("LRN001", "error", None)]
    assert learning_rate_too_low(run, BOUNDS) == []
    run = probed(squashed, lr=3.0, steps=60, at=0)
    assert learning_rate_too_high(run, BOUNDS) == []


def test_less_noise_at_a_tenth_of_the_rate_near_the_end_is_no_fault():
    run = train(tanh(), X, T, lr=0.3, steps=100, classes=True)
    end = run.last("full_loss")
    probes = {"start": end, "same": 1.02 * end, "low": 0.8 * end, "high": 3 * end, "steps": 20}
    for name, value in probes.items():
        run.add(99, "", f"probe.{name}", value)
    assert learning_rate_too_high(run, BOUNDS) == []
    assert diagnose(run).healthy


@pytest.mark.filterwarnings("ignore:invalid")
def test_bad_data_are_not_the_rates_fault():
    x = X.copy()
    x[0, 0] = math.nan
    run = train(tanh(), x, T, lr=0.1, steps=30, classes=True)
    assert diagnose(run, select=["LRN001"]).findings == ()


# ---- LRN002 learning-rate-too-low


def test_a_rate_far_too_low_is_told_by_its_probe():
    run = probed(tanh, lr=1e-4, steps=40)
    assert told(learning_rate_too_low(run, BOUNDS)) == [("LRN002", "warning", None)]
    assert told(diagnose(run).findings) == [("LRN002", "warning", None)]
    assert learning_rate_too_low(probed(tanh, lr=0.1, steps=60), BOUNDS) == []


def test_without_probes_it_is_not_checked():
    diagnosis = diagnose(train(tanh(), X, T, lr=1e-4, steps=40, classes=True))
    assert diagnosis.status == "no known cause"
    reasons = {skipped.code: skipped.because for skipped in diagnosis.not_checked}
    assert "probe" in reasons["LRN002"]


def test_a_plateau_is_not_a_low_rate():
    run = probed(lambda: Network(NET, "Tanh", init={0: 0.0}), lr=0.05, steps=80)
    assert learning_rate_too_low(run, BOUNDS) == []


# ---- LRN009 lazy-training


def test_a_wide_network_learns_while_its_hidden_weights_hardly_move():
    x, t = blobs(features=16, seed=1)
    wide = train(Network((16, 1000, 3), "Tanh"), x, t, lr=0.005, steps=60, classes=True)
    assert told(lazy_training(wide, BOUNDS)) == [("LRN009", "info", None)]
    assert diagnose(wide).healthy
    narrow = train(tanh(), X, T, lr=0.2, steps=100, classes=True)
    assert lazy_training(narrow, BOUNDS) == []


def test_weights_that_hardly_move_without_learning_are_not_lazy_training():
    assert lazy_training(train(tanh(), X, T, lr=1e-4, steps=40, classes=True), BOUNDS) == []
