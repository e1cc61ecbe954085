import math

import pytest

from traces import linear, op, recorded, told
from unstuck.diagnose import reach
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.rules.learning_rate import learning_rate_too_low
from unstuck.diagnose.rules.steps import clipping_always_on, decay_dominates

BOUNDS = load_bounds()
NODES = (linear("fc1", "input"), op("act1", "Tanh", "fc1"), linear("fc2", "act1"))


def run_of(optimizer, *, steps=400, rate=1e-3, weight=2.0, gradient=0.5, end=2.0, final=2.3, **options):
    run = recorded(NODES, "CrossEntropyLoss", steps=steps, start=2.3, final=final, baseline=2.3, lr=rate)
    run.meta.optimizer, run.meta.optimizer_options = optimizer, options
    for layer in ("fc1", "fc2"):
        for step in (0, 1, 2, steps - 1):
            norm = weight if step < steps - 1 else end
            run.add_row(step, layer, {"weight_norm": norm, "grad_norm": gradient, "drift": 1e-4})
    return run


def test_the_farthest_way_of_an_optimiser_that_moves_by_its_rate():
    # 400 steps of 1e-3 for each of 64 weights: sqrt(64) * 0.4, beside a norm of 2
    assert reach.by_rate(run_of("Adam")) == pytest.approx(0.4 * 8 / 2)
    assert reach.by_rate(run_of("Adam", weight=100.0)) == pytest.approx(0.4 * 8 / math.sqrt(8))
    assert reach.by_rate(run_of("Adam", weight=0.0)) == pytest.approx(0.4 * 8 / math.sqrt(8))
    assert math.isnan(reach.by_rate(run_of("SGD")))


def test_a_usual_step_of_gradient_descent():
    assert reach.pushed(run_of("SGD", rate=0.1)) == pytest.approx(0.1 * 0.5 / 2)
    assert reach.pushed(run_of("SGD", rate=0.1, momentum=0.9)) == pytest.approx(0.5 / 2)
    assert math.isnan(reach.pushed(run_of("Adam")))


def test_how_fast_decay_alone_takes_the_weights():
    assert reach.halved(run_of("SGD", rate=0.1, weight_decay=1.0)) == pytest.approx(math.log(2) / 0.1)
    assert reach.halved(run_of("SGD", rate=0.1, weight_decay=1.0, momentum=0.9)) == pytest.approx(math.log(2))
    assert reach.halved(run_of("AdamW", rate=0.1, weight_decay=1.0)) == pytest.approx(math.log(2) / 0.1)
    assert math.isnan(reach.halved(run_of("Adam", weight_decay=1.0)))
    assert reach.halved(run_of("SGD", weight_decay=0.0)) == math.inf


def test_how_much_of_the_loss_the_gradient_would_take():
    assert reach.sensitivity(run_of("SGD")) == pytest.approx(2.0 * 0.5 / 2.3)
    assert reach.sensitivity(run_of("SGD", gradient=1e-8)) < 1e-7


def test_a_rate_that_can_get_nowhere_stands_apart():
    for gradient in (0.5, 0.0):  # whatever the gradient is
        found = learning_rate_too_low(run_of("Adam", rate=1e-6, gradient=gradient), BOUNDS)
        assert told(found) == [("LRN002", "warning", None)]
        assert found[0].stands_apart("NRM001")
    assert learning_rate_too_low(run_of("Adam", rate=1e-6, final=0.1), BOUNDS) == []
    assert not any(
        one.stands_apart("DAT002") for one in learning_rate_too_low(run_of("SGD", gradient=1e-8), BOUNDS)
    )


def test_steps_that_clipping_makes_too_short_for_any_way():
    run = run_of("SGD", rate=0.01)
    for step in (0, 1, 2, 399):
        run.add(step, "", "clip_ratio", 1e-4)
    found = clipping_always_on(run, BOUNDS)
    assert [one.code for one in found] == ["GRD007"]
    assert found[0].stands_apart("OUT009")
    usual = run_of("SGD", rate=0.1, gradient=20.0)  # a usual bound, under gradients that are far too large
    for step in (0, 1, 2, 399):
        usual.add(step, "", "clip_ratio", 0.05)
    assert not any(one.stands_apart("DAT001") for one in clipping_always_on(usual, BOUNDS))


def test_decay_that_no_gradient_makes_up_for():
    run = run_of("SGD", rate=0.1, weight_decay=1.0, end=1e-6)
    assert decay_dominates(run, BOUNDS)[0].stands_apart("OUT009")
    gone = run_of("SGD", rate=0.1, weight_decay=1.0, end=math.nan, final=math.nan)
    assert told(decay_dominates(gone, BOUNDS)) == [("LRN010", "warning", None)]
    usual = run_of("SGD", rate=10.0, weight_decay=5e-4, end=math.nan, final=math.nan)
    assert "LRN010" not in [one.code for one in diagnose(usual).findings]


@pytest.mark.parametrize(("rate", "expected"), [(1e-4, [("LRN002", "warning", None)]), (2e-4, [])])
def test_a_rate_so_low_that_all_steps_together_lead_nowhere(rate, expected):
    # 400 steps for each of 64 weights: sqrt(64) * 400 * rate, beside a norm of 2
    run = run_of("Adam", rate=rate)
    for layer in ("fc1", "fc2"):
        run.add(399, layer, "drift", 0.12)  # more than "hardly moved"
    assert told(learning_rate_too_low(run, BOUNDS)) == expected


def test_what_steps_of_gradient_descent_promise():
    # 400 steps of 1e-3, two layers with gradients of 0.5, beside a loss of 2.3
    assert reach.promised(run_of("SGD")) == pytest.approx(400 * 1e-3 * 0.5 / 2.3)
    assert reach.promised(run_of("SGD", momentum=0.9)) == pytest.approx(400 * 1e-2 * 0.5 / 2.3)
    assert math.isnan(reach.promised(run_of("Adam")))


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, ["LRN002"]), ({"rate": 1e-2}, []), ({"gradient": 1e-4, "rate": 1.0}, []), ({"final": 0.3}, [])],
    ids=["Adam's rate", "ten times it", "no gradient to speak of", "learned"],
)
def test_rates_of_adam_are_too_low_for_gradient_descent(more, expected):
    run = run_of("SGD", **more)
    for layer in ("fc1", "fc2"):
        run.add(399, layer, "drift", 0.12)  # more than "hardly moved"
    assert [one.code for one in learning_rate_too_low(run, BOUNDS)] == expected
    for step in (0, 1, 2):
        run.add(step, "", "clip_ratio", 0.01)
    assert learning_rate_too_low(run, BOUNDS) == []  # it is the clipping's doing
