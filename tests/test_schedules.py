"""Learning-rate schedules, against PyTorch's, and as part of a training."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import naive_network
import twins
from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.fit import start
from unstuck.sources.engine import record_training

torch_schedules = torch.optim.lr_scheduler
SCHEDULES = [
    nn.ConstantLR(),
    nn.ConstantLR(0.25, total_iters=1),
    nn.StepLR(7),
    nn.StepLR(1, gamma=0.9),
    nn.MultiStepLR([1, 5, 21], gamma=0.5),
    nn.ExponentialLR(0.93),
    nn.ExponentialLR(1.1),
    nn.LinearLR(),
    nn.LinearLR(0.01, 0.5, total_iters=17),
    nn.CosineAnnealingLR(10),
    nn.CosineAnnealingLR(60, eta_min=0.01),
]
EACH = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
COUNT = 51


def torch_rates(make, count=COUNT, lr=0.3):
    """The rate of each of `count` steps of torch's scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, rates = make(optimizer), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def of(schedule):
    """What makes the same scheduler in PyTorch."""
    arguments = {name: value for name, value in twins.arguments(schedule).items() if name != "per"}
    return lambda optimizer: getattr(torch_schedules, schedule.type)(optimizer, **arguments)


@EACH
def test_equals_torch(schedule):
    np.testing.assert_allclose(schedule.rates(0.3, np.arange(COUNT)), torch_rates(of(schedule)), rtol=1e-12)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("part", [0.1, 0.3, 0.9])
def test_one_cycle_equals_torch(strategy, part):
    ours = nn.OneCycleLR(COUNT + 1, part, strategy, div_factor=10.0, final_div_factor=50.0)
    arguments = {name: value for name, value in twins.arguments(ours).items() if name != "per"}

    def make(optimizer):
        return torch_schedules.OneCycleLR(optimizer, 0.3, cycle_momentum=False, **arguments)

    found = ours.rates(0.3, np.arange(COUNT))
    np.testing.assert_allclose(found, torch_rates(make), rtol=1e-12)
    assert ours.per == "step"
    np.testing.assert_allclose(ours.rates(0.3, np.array([COUNT, 1000])), 0.3 / 10 / 50, rtol=1e-12)


@pytest.mark.parametrize("part", [0.0, 0.01, 1.0])
def test_one_cycle_that_only_falls_or_only_rises_stays_finite(part):
    rates = nn.OneCycleLR(20, part).rates(1.0, np.arange(30))
    assert np.isfinite(rates).all()
    assert rates.max() <= 1.0
    assert (np.diff(rates[:20]) > 0).all() if part == 1 else (np.diff(rates[:20]) < 0).all()
    assert nn.OneCycleLR(1).rates(1.0, np.arange(3)) == pytest.approx(1 / 25 / 1e4)


def test_a_warm_up_before_a_cosine_equals_torch():
    ours = nn.SequentialLR([nn.LinearLR(0.1, total_iters=5), nn.CosineAnnealingLR(40)], milestones=[5])

    def make(optimizer):
        parts = [of(part)(optimizer) for part in ours.schedulers]
        return torch_schedules.SequentialLR(optimizer, parts, [5])

    np.testing.assert_allclose(ours.rates(0.3, np.arange(45)), torch_rates(make, 45), rtol=1e-12)


@EACH
def test_any_step_can_be_asked_alone(schedule):
    together = schedule.rates(0.3, np.arange(COUNT))
    for step in range(COUNT):
        assert schedule.rates(0.3, np.array([step]))[0] == together[step]
    assert schedule.rates(0.3, np.arange(0)).shape == (0,)


# ---------------------------------------------------------------- in a training


def training(schedule, optimizer=None, **options):
    x = twins.images((10, 2))
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)).init(1, dtype=np.float64)
    options = {"batch_size": 4, "epochs": 7} | options
    return nn.Training(
        net, (x, np.sin(x)), nn.MSELoss(), optimizer or nn.SGD(0.3, 0.5), lr_schedule=schedule, **options
    )


@pytest.mark.parametrize("per", ["epoch", "step"])
@pytest.mark.parametrize("optimizer", [nn.SGD(0.3, 0.5), nn.Adam(0.05), nn.AdamW(0.05)], ids=lambda o: o.type)
def test_a_scheduled_training_equals_plain_loops(per, optimizer):
    plan = training(nn.StepLR(2, 0.5, per=per), optimizer)
    rates = plan.rates(0, 21)
    np.testing.assert_array_equal(
        rates / optimizer.lr, 0.5 ** ((np.arange(21) // 3 if per == "epoch" else np.arange(21)) // 2)
    )
    expected, losses = naive_network.train(plan, plan.network.parameters, seed=3)
    result = plan.run(seed=3)
    twins.close(result.loss, losses, 1e-12)
    for name, value in result.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)
    constant = replace(plan, lr_schedule=None).run(seed=3)
    assert (constant.net.flat != result.net.flat).any()


def test_slices_of_a_scheduled_training_give_the_same_bits():
    plan = training(nn.OneCycleLR(21))
    whole, parts = start(plan, 4), start(plan, 4)
    whole.advance(21)
    for step in (1, 2, 5, 13, 21):
        parts.advance(step)
    np.testing.assert_array_equal(parts.params, whole.params)


def test_a_recording_shows_the_rate_of_its_step():
    plan = training(nn.StepLR(1, 0.5), epochs=5)
    recording = record_training(plan, 0).recording
    found = recording.series("lr")
    assert found.values.size > 5
    np.testing.assert_allclose(found.values, plan.rates(0, 15)[found.steps], rtol=1e-6)
    np.testing.assert_array_equal(record_training(plan, 0).net.flat, plan.run(seed=0).net.flat)


def test_a_constant_rate_changes_no_bit():
    plain = training(None, batch_size=10).run(seed=0).net.flat
    np.testing.assert_array_equal(training(nn.StepLR(100), batch_size=10).run(seed=0).net.flat, plain)


# ---------------------------------------------------------------- what they refuse


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.StepLR(0), "StepLR: step_size must be a whole number of at least 1, found 0"),
        (lambda: nn.StepLR(3, math.nan), "StepLR: gamma must be a finite number, found nan"),
        (lambda: nn.StepLR(3, per="batch"), "StepLR: per must be 'epoch' or 'step', found 'batch'"),
        (lambda: nn.MultiStepLR([5, 3]), r"MultiStepLR: milestones must be .* growing .*, found \[5, 3\]"),
        (
            lambda: nn.MultiStepLR(5),
            "MultiStepLR: milestones must be a list of growing whole numbers, found 5",
        ),
        (
            lambda: nn.ConstantLR(total_iters=0),
            "ConstantLR: total_iters must be a whole number of at least 1",
        ),
        (lambda: nn.MultiStepLR([1.5]), "MultiStepLR: a milestone must be a whole number of at least 1"),
        (lambda: nn.ExponentialLR(0.0), "ExponentialLR: gamma must be above 0, found 0.0"),
        (lambda: nn.ConstantLR(-1.0), "ConstantLR: factor must be above 0, found -1.0"),
        (lambda: nn.LinearLR(0.0), "LinearLR: start_factor must be above 0, found 0.0"),
        (lambda: nn.LinearLR(0.5, -1.0), "LinearLR: end_factor must be at least 0, found -1.0"),
        (lambda: nn.LinearLR(total_iters=0), "LinearLR: total_iters must be a whole number of at least 1"),
        (lambda: nn.CosineAnnealingLR(2.5), "CosineAnnealingLR: T_max must be a whole number of at least 1"),
        (lambda: nn.CosineAnnealingLR(5, -0.1), "CosineAnnealingLR: eta_min must be at least 0, found -0.1"),
        (lambda: nn.OneCycleLR(10, 1.5), r"OneCycleLR: pct_start must lie in 0\.\.1, found 1.5"),
        (lambda: nn.OneCycleLR(10, 0.3, "up"), "OneCycleLR: anneal_strategy must be 'cos' or 'linear'"),
        (lambda: nn.OneCycleLR(10, div_factor=0.0), "OneCycleLR: div_factor must be above 0, found 0.0"),
        (
            lambda: nn.SequentialLR([0.1], []),
            "SequentialLR: expected a list of schedules such as .* found 0.1",
        ),
        (
            lambda: nn.SequentialLR([nn.StepLR(1)], [3]),
            "SequentialLR: 1 schedules need 0 milestones, found 1",
        ),
    ],
)
def test_refuses_what_is_no_schedule(make, words):
    with pytest.raises(UnstuckError, match=words):
        make()
