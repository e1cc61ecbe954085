import math

import pytest

from small_network import Network, blobs, train
from traces import every, facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.explosions import exploding_gradient, non_finite

BOUNDS = load_bounds()
X, T = blobs()
DEEP = (4, *[24] * 9, 3)

# ---- GRD002 exploding-gradient


def chaotic(gain, lr, steps=60):
    return train(Network(DEEP, "Tanh", init={0: gain}), X, T, lr=lr, steps=steps, classes=True)


def test_large_weights_under_tanh_let_the_gradient_grow_before_any_update():
    run = chaotic(8.0, 0.3)
    found = exploding_gradient(run, BOUNDS)
    assert told(found) == [("GRD002", "error", "fc1")]
    assert found[0].step == 0
    root = diagnose(run).findings[0]
    assert root.code == "INI004"  # which is why it grows
    assert "GRD002" in [effect.code for effect in root.consequences]
    assert exploding_gradient(chaotic(1.0, 0.3), BOUNDS) == []


def test_a_large_gradient_that_does_no_harm_is_none():
    run = chaotic(8.0, 1e-4)
    run.meta.goal = "loss<1e6"
    assert diagnose(run).outcome.word == "learned"
    assert exploding_gradient(run, BOUNDS) == []


def test_large_inputs_enlarge_the_first_gradient_only():
    run = train(Network((4, 24, 24, 3), "Tanh"), 1e4 * X, T, lr=0.5, steps=60, classes=True)
    assert "GRD002" not in [found.code for found in diagnose(run).findings]


def spiky(*, spike, ratio=0.01, clip=None, after=math.nan, at=30):
    """A calm run whose gradient is `spike` times as large at one step; its loss afterwards."""
    run = recorded([linear("rnn", "input"), linear("head", "rnn")], "MSELoss", start=1.0, final=0.8)
    every(run, "rnn", update_ratio=ratio)
    every(run, "head", update_ratio=ratio, grad_norm=0.1)
    for step in range(run.steps):
        run.add(step, "", "baseline_loss", 0.9)
        run.add(step, "rnn", "grad_norm", 0.1 * (spike if step == at else 1.0))
        if clip is not None:
            run.add(step, "", "clip_ratio", clip if step == at else 1.0)
        if step > at:
            run.add(step, "", "loss", after)
    return run


def test_a_cliff_after_a_calm_stretch():
    found = exploding_gradient(spiky(spike=1e5), BOUNDS)
    assert told(found) == [("GRD002", "error", "rnn")]
    assert found[0].step == 30
    assert [told.code for told in diagnose(spiky(spike=1e5)).findings] == ["GRD002"]


def test_no_cliff_where_it_was_clipped_recovered_or_steps_were_large():
    assert exploding_gradient(spiky(spike=1e5, clip=1e-5), BOUNDS) == []
    assert exploding_gradient(spiky(spike=1e5, after=0.3), BOUNDS) == []
    assert exploding_gradient(spiky(spike=50.0), BOUNDS) == []
    assert exploding_gradient(spiky(spike=1e5, ratio=0.7), BOUNDS) == []


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
def test_a_rate_that_is_too_high_is_no_exploding_gradient():
    run = train(Network((4, 16, 16, 16, 3), "ReLU"), X, T, lr=30, steps=60, classes=True)
    assert [found.code for found in diagnose(run).findings] == ["LRN001"]
    assert "GRD004" in [effect.code for effect in diagnose(run).findings[0].consequences]


# ---- GRD004 non-finite


def logarithm(first_bad, *, last_bad=None, steps=40):
    """A run with a logarithm in its loss that is NaN from a step on."""
    nodes = [linear("fc1", "input"), op("log_1", "log", "fc1"), op("mean_1", "mean", "log_1")]
    run = recorded(nodes, "", None, steps=steps, start=1.0, final=0.5)
    every(run, "fc1", update_ratio=0.01, nonfinite=0.0)
    for step in range(first_bad, steps if last_bad is None else last_bad + 1):
        run.add(step, "", "loss", math.nan)
        run.add(step, "fc1", "nonfinite", 0.5)
    run.add(steps - 1, "log_1", "origin.nonfinite", float(first_bad))
    return run


def test_the_operation_is_named_where_the_first_nan_was_born():
    run = logarithm(17)
    found = non_finite(run, BOUNDS)
    assert told(found) == [("GRD004", "error", "log_1")]
    assert found[0].step == 17
    assert "logarithm of 0" in found[0].summary


def test_nan_after_small_steps_is_not_the_rates_fault():
    run = logarithm(17)
    for step in range(17):
        run.add(step, "", "baseline_loss", 2.0)
    assert [found.code for found in diagnose(run).findings] == ["GRD004"]


def test_one_bad_batch_that_was_skipped_is_worth_knowing_only():
    run = logarithm(17, last_bad=17)
    for step in range(run.steps):
        run.add(step, "", "baseline_loss", 2.0)
    assert told(non_finite(run, BOUNDS)) == [("GRD004", "info", "log_1")]
    assert diagnose(run).healthy


def test_loss_scaling_lives_with_an_overflow_now_and_then():
    run = recorded([linear("fc1", "input")], "CrossEntropyLoss", facts("fc1"), start=2.0, final=0.3)
    every(run, "fc1", nonfinite=0.0)
    for step in (0, 1, 25, 39):
        run.add(step, "fc1", "nonfinite", 0.5)
    assert non_finite(run, BOUNDS) == []
    for step in (37, 38):
        run.add(step, "fc1", "nonfinite", 0.5)
    assert told(non_finite(run, BOUNDS)) == [("GRD004", "warning", "fc1")]


def test_infinite_scores_that_mask_are_none():
    run = recorded([op("masked_fill_1", "masked_fill", "input")], start=1.0, final=0.2)
    run.add(0, "masked_fill_1", "origin.nonfinite", 0.0)
    assert non_finite(run, BOUNDS) == []


def test_nothing_measured_nothing_checked():
    from unstuck.trace.recording import Recording

    with pytest.raises(NotChecked):
        non_finite(Recording(), BOUNDS)
