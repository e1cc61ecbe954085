import math

import msgspec
import numpy as np
import pytest

from traces import every, facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.learning_rate import learning_rate_too_low
from unstuck.diagnose.rules.steps import (
    clipping_always_on,
    decay_dominates,
    few_updates,
    odd_optimizer,
    schedule_ends_early,
    stopped_early,
)

BOUNDS = load_bounds()
LEARNED = {"start": 2.3, "final": 0.4, "baseline": 2.3}
HALF = {"start": 2.3, "final": 1.6, "baseline": 2.3}
STUCK = {"start": 2.3, "final": 2.3, "baseline": 2.3}
LAYERS = ("fc1", "fc2")


def run_of(optimizer="SGD", ended=STUCK, steps=40, options=None, layers=None, **network):
    """A run of two layers that move by a hundredth of their weights in a step, unless told otherwise."""
    nodes = [linear("fc1", "input"), op("act1", "Tanh", "fc1"), linear("fc2", "act1")]
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2"), steps=steps, **ended, **network)
    run.meta.optimizer = optimizer
    run.meta.optimizer_options = options or {}
    for name in LAYERS:
        every(run, name, **({"update_ratio": 1e-2, "grad_norm": 1.0} | (layers or {})))
    return run


def series(run, layer, quantity, values):
    """Add a quantity that changes from step to step."""
    for step, value in enumerate(values):
        run.add(step, layer, quantity, value)
    return run


# ---- GRD007 clipping-always-on


def clipped(ratios, moved=1e-5, **more):
    return series(run_of(**({"layers": {"update_ratio": moved}} | more)), "", "clip_ratio", ratios)


@pytest.mark.parametrize("ended", [STUCK, HALF])
def test_a_gradient_that_is_always_cut(ended):
    run = clipped([0.01] * 40, ended=ended)
    assert told(clipping_always_on(run, BOUNDS)) == [("GRD007", "warning", None)]
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["clip=off", "clip=1"]


def test_clipping_at_a_usual_norm():
    assert clipping_always_on(clipped([0.01] * 5 + [1.0] * 35), BOUNDS) == []  # outliers only
    assert clipping_always_on(clipped([0.5] * 40), BOUNDS) == []
    assert clipping_always_on(clipped([0.01] * 40, moved=1e-2), BOUNDS) == []  # the rate makes up for it
    assert clipping_always_on(clipped([0.01] * 40, ended=LEARNED), BOUNDS) == []
    for optimizer in ("Adam", "AdamW", "RMSprop"):
        assert clipping_always_on(clipped([0.01] * 40, optimizer=optimizer), BOUNDS) == []


def test_clipping_of_a_start_that_is_far_too_large_is_its_consequence():
    """At a usual norm only such a start is cut so much; at next to nothing any start is."""

    def large(clip):
        run = clipped([clip / 1000.0] * 40, moved=1e-6, layers=None, ended={**STUCK, "start": 900.0})
        run = every(run, "fc1", weight_norm=30.0, grad_norm=1000.0, update_ratio=1e-6)
        return every(series(run, "", "lr", [1e-4] * 40), "fc2", weight_norm=30.0)

    usual = diagnose(large(1.0), select=["INI004", "GRD007"]).findings
    assert [one.code for one in usual] == ["INI004"]
    assert [one.code for one in usual[0].consequences] == ["GRD007"]
    nothing = diagnose(large(1e-4), select=["INI004", "GRD007"]).findings
    assert {one.code for one in nothing} == {"INI004", "GRD007"}


def test_clipping_of_layers_that_no_optimiser_holds_is_told_by_what_would_be_left():
    run = clipped([1e-3] * 40)
    nodes = tuple(msgspec.structs.replace(node, optimised=False) for node in run.structure.nodes)
    run.structure = msgspec.structs.replace(run.structure, nodes=nodes)
    every(series(run, "", "lr", [0.1] * 40), "fc1", weight_norm=2.0)
    every(run, "fc2", weight_norm=2.0)
    assert told(clipping_always_on(run, BOUNDS)) == [("GRD007", "warning", None)]


def test_clipping_that_was_hardly_measured():
    for ratios in ([0.01, 0.01], [math.nan] * 40):
        with pytest.raises(NotChecked, match="three"):
            clipping_always_on(clipped(ratios), BOUNDS)
    silent = series(run_of(layers={"update_ratio": math.nan}), "", "clip_ratio", [0.01] * 40)
    assert clipping_always_on(silent, BOUNDS) == []


# ---- LRN004 schedule-ends-early


def scheduled(rates, **more):
    return series(run_of(steps=len(rates), **more), "", "lr", rates)


def test_a_schedule_that_ends_at_a_tenth_of_the_run():
    run = scheduled([0.1] * 10 + [1e-4] * 90)
    found = schedule_ends_early(run, BOUNDS)
    assert told(found) == [("LRN004", "warning", None)]
    assert found[0].step == 10
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["schedule=constant"]
    assert told(schedule_ends_early(scheduled([0.1] * 10 + [0.0] * 90), BOUNDS)) == [
        ("LRN004", "warning", None)
    ]


def test_usual_schedules():
    steps = np.arange(100)
    cosine = 0.05 * (1 + np.cos(np.pi * steps / 99))
    assert cosine[-1] == 0
    restarts = 0.05 * (1 + np.cos(np.pi * (steps % 10) / 9))
    for rates in (
        cosine,
        restarts,
        np.minimum(steps / 60, 1) * 0.1,  # a long warm-up
        np.full(100, 0.1),
        np.zeros(100),
        np.where(steps < 40, 1e-4, 0.1),
        np.where(steps < 60, 0.1, 1e-4),  # ends late
        0.1 * 0.1 ** (steps // 50),
    ):
        assert schedule_ends_early(scheduled(rates), BOUNDS) == []
    assert schedule_ends_early(scheduled([0.1] * 10 + [1e-4] * 90, ended=LEARNED), BOUNDS) == []


def test_rates_that_are_not_known():
    for rates in ([math.nan] * 40, [0.1] * 5):
        with pytest.raises(NotChecked):
            schedule_ends_early(scheduled(rates), BOUNDS)


# ---- LRN008 stopped-early


def curve(values, baseline=2.3):
    run = run_of(ended={"start": 1.0, "final": 1.0, "baseline": baseline}, steps=len(values))
    return series(run, "", "full_loss", values)


def test_a_loss_that_still_falls_is_worth_knowing():
    run = curve(np.linspace(2.3, 1.5, 200))
    found = stopped_early(run, BOUNDS)
    assert told(found) == [("LRN008", "info", None)]
    assert "373 further steps" in found[0].summary  # 1.5 at 0.8 / 199 a step
    assert diagnose(run).healthy


def test_a_loss_that_rests_or_is_low_or_never_fell():
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    assert stopped_early(curve(1.5 + noise), BOUNDS) == []
    assert stopped_early(curve(np.linspace(2.3, 0.5, 200)), BOUNDS) == []
    assert stopped_early(curve(np.linspace(2.4, 2.3, 200)), BOUNDS) == []
    assert stopped_early(curve(np.linspace(1.2, 1.5, 200)), BOUNDS) == []
    assert stopped_early(curve([math.nan] + [1.5] * 199), BOUNDS) == []
    with pytest.raises(NotChecked, match="trend"):
        stopped_early(curve(np.linspace(2.3, 1.5, 30)), BOUNDS)


# ---- LRN010 decay-dominates


def shrunk(ends, decay=1.0, **more):
    run = run_of(options={"weight_decay": decay}, **more)
    for name, end in zip(LAYERS, ends, strict=True):
        series(run, name, "weight_norm", np.linspace(4.0, 4.0 * end, 40))
    return run


def test_weights_that_decay_to_nothing():
    run = shrunk([0.01, 0.02])
    for one in (run, shrunk([0.01, 0.02], ended=HALF)):
        assert told(decay_dominates(one, BOUNDS)) == [("LRN010", "warning", None)]
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["optimizer=no_decay"]


def test_decay_that_does_no_harm_or_is_none():
    assert decay_dominates(shrunk([0.01, 0.02], ended=LEARNED), BOUNDS) == []
    assert decay_dominates(shrunk([0.01, 0.02], decay=0.0), BOUNDS) == []
    assert decay_dominates(shrunk([0.9, 0.8], decay=1e-2), BOUNDS) == []
    assert decay_dominates(shrunk([0.01, 1.5]), BOUNDS) == []  # a layer that grows: not the decay
    with pytest.raises(NotChecked, match="measured"):
        decay_dominates(shrunk([math.nan, math.nan]), BOUNDS)


# ---- LRN011 odd-optimizer


def stepped(eps, size, optimizer="Adam", **more):
    """A run whose first step moves each of 64 weights by `size` of the learning rate, on average."""
    run = run_of(optimizer, options={"eps": eps}, lr=1e-3, **more)
    for name in LAYERS:
        every(run, name, update_norm=size * 1e-3 * 8)
    return run


def test_an_epsilon_above_the_gradient():
    run = stepped(1.0, 0.03)
    found = odd_optimizer(run, BOUNDS)
    assert told(found) == [("LRN011", "warning", None)]
    assert "0.03 of the learning rate" in found[0].summary
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["optimizer=default"]


def test_an_epsilon_that_no_recipe_has():
    (found,) = odd_optimizer(stepped(3.0, 0.6), BOUNDS)
    assert (found.code, found.confidence) == ("LRN011", 0.7)
    assert "eps is 3 (usual: 1e-8)" in found.summary
    assert odd_optimizer(stepped(3.0, 0.6, ended=LEARNED), BOUNDS) == []
    assert odd_optimizer(stepped(1e-3, 0.6), BOUNDS) == []


def test_an_epsilon_that_is_small_or_small_against_the_gradient():
    assert odd_optimizer(stepped(1e-8, 0.03), BOUNDS) == []
    assert odd_optimizer(stepped(1e-3, 0.9), BOUNDS) == []
    assert odd_optimizer(stepped(1.0, 0.03, ended=LEARNED), BOUNDS) == []
    for optimizer in ("Adadelta", "RAdam", "SGD"):
        assert odd_optimizer(stepped(1.0, 0.03, optimizer), BOUNDS) == []
    assert odd_optimizer(stepped(1.0, 0.0), BOUNDS) == []  # a first step that a gradient scaler skipped
    assert odd_optimizer(stepped(1.0, math.nan), BOUNDS) == []


@pytest.mark.parametrize(("momentum", "fires"), [(0.9, False), (0.95, False), (0.99, True), (1.0, True)])
def test_momentum(momentum, fires):
    run = run_of(options={"momentum": momentum}, lr=0.1, layers={"update_norm": 1.0})
    assert bool(odd_optimizer(run, BOUNDS)) == fires
    fine = run_of(options={"momentum": momentum}, lr=0.1, layers={"update_norm": 1.0}, ended=LEARNED)
    assert odd_optimizer(fine, BOUNDS) == []


def test_numbers_of_the_optimiser_that_are_not_known():
    with pytest.raises(NotChecked, match="numbers"):
        odd_optimizer(run_of(lr=0.1, layers={"update_norm": 1.0}), BOUNDS)


# ---- LRN012 few-updates


def test_a_handful_of_updates():
    run = run_of(steps=5)
    run.meta.complete = True
    assert told(few_updates(run, BOUNDS)) == [("LRN012", "info", None)]
    assert diagnose(run).status == "undetermined"
    assert few_updates(run_of(steps=40), BOUNDS) == []
    learned = run_of(steps=5, ended=LEARNED)
    learned.meta.complete = True
    assert few_updates(learned, BOUNDS) == []
    run.meta.examined = True
    assert few_updates(run, BOUNDS) == []


@pytest.mark.parametrize(("samples", "severity"), [(3000, "warning"), (64, "info")])
def test_few_updates_of_large_batches_are_their_doing(samples, severity):
    run = run_of(steps=14)
    run.meta.complete, run.meta.kind = True, "torch"
    known = msgspec.structs.replace(run.structure.loss_facts, input_shape=(samples, 10))
    run.structure = msgspec.structs.replace(run.structure, loss_facts=known)
    assert told(few_updates(run, BOUNDS)) == [("LRN012", severity, None)]


def test_steps_that_add_up_an_epoch_of_batches():
    """A part is learned in ten steps all the same: more of them were there to be made."""
    half = {"start": 100.0, "final": 60.0, "baseline": 100.0}
    for passes, samples, found in ((50, 32, 1), (1, 32, 0), (4, 32, 0), (1, 3000, 1)):
        run = run_of(steps=10, ended=half)
        run.meta.complete, run.meta.kind = True, "torch"
        known = msgspec.structs.replace(run.structure.loss_facts, input_shape=(samples, 10))
        run.structure = msgspec.structs.replace(run.structure, loss_facts=known)
        for step in range(10):
            run.add(step, "", "passes", float(passes))
        named = few_updates(run, BOUNDS)
        assert told(named) == [("LRN012", "warning", None)] * found
        if passes == 50:
            assert "each for 1600 samples at once (the gradients of 50 backward passes)" in named[0].summary
            assert "optimizer.step()" in named[0].summary
    for step in range(10):
        run.add(step, "", "loss", 100.0 - 9 * step)
    assert few_updates(run, BOUNDS) == []  # much was learned


def test_a_recording_that_was_cut_off():
    with pytest.raises(NotChecked, match="cut off"):
        few_updates(run_of(steps=5), BOUNDS)


# ---- LRN002 learning-rate-too-low, without probes


def drifted(drift, steps=120, **more):
    run = run_of(steps=steps, **more)
    for name in LAYERS:
        every(run, name, drift=drift)
    return run


def test_layers_that_hardly_moved_though_all_have_a_gradient():
    for ended in (STUCK, HALF):
        assert told(learning_rate_too_low(drifted(1e-3, ended=ended), BOUNDS)) == [
            ("LRN002", "warning", None)
        ]
    assert learning_rate_too_low(drifted(0.1), BOUNDS) == []
    assert learning_rate_too_low(drifted(1e-3, ended=LEARNED), BOUNDS) == []
    assert learning_rate_too_low(drifted(1e-3, layers={"grad_norm": 0.0}), BOUNDS) == []
    for unclear in (drifted(1e-3, steps=40), drifted(math.nan)):
        with pytest.raises(NotChecked):
            learning_rate_too_low(unclear, BOUNDS)


def test_layers_that_start_at_zero_count_by_a_usual_size():
    run = drifted(1e-3)
    every(run, "fc1", weight_norm=0.0, drift=math.nan, drift_norm=1e-3)
    assert told(learning_rate_too_low(run, BOUNDS)) == [("LRN002", "warning", None)]
    run = drifted(1e-3)
    every(run, "fc1", weight_norm=0.0, drift=math.nan, drift_norm=1.0)
    assert learning_rate_too_low(run, BOUNDS) == []


def test_the_last_layer_may_have_learned_the_mean_meanwhile():
    run = drifted(1e-3, steps=400, layers={"update_ratio": 1e-5})
    every(run, "fc1", drift=4e-3)
    every(run, "fc2", update_ratio=5e-4, drift=0.2)
    (found,) = learning_rate_too_low(run, BOUNDS)
    assert found.code == "LRN002"
    assert "no layer but the last moved by more than 0.004 of its weights (fc1)" in found.summary
    every(run, "fc2", update_ratio=5e-3)  # its steps took each other back
    assert learning_rate_too_low(run, BOUNDS) == []
