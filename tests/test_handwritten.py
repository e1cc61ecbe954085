"""Errors written by hand: what the best constant prediction would reach is known for them too."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from torch_trainings import trained
from unstuck.sources.torch import handwritten

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = torch.stack([3 * X[:, 0] + X[:, 1], 2 - X[:, 2]], dim=1)


def multiplied(apart):
    return apart * apart


def first(loss, targets=Y, model=None):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    run, _ = trained(model, [(X, targets)] * 2, loss)
    assert not run.warnings
    return run.recording


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, t: ((y - t) ** 2).mean(),
        lambda y, t: ((t - y) ** 2).mean(),
        lambda y, t: (y - t).square().mean() * 0.5,
        lambda y, t: multiplied(y - t).sum(),
        lambda y, t: ((y - t) ** 2).sum() / 7,
        lambda y, t: ((y - t) ** 2).sum(1).mean(),
        lambda y, t: ((y - t) ** 2).mean(1).mean(),
        lambda y, t: 0.1 * ((y - t) ** 2).mean(0).sum(),
    ],
)
def test_a_squared_error_has_a_baseline(loss):
    recording = first(loss)
    assert recording.structure.loss == "MSELoss"
    assert recording.first("baseline_loss") == pytest.approx(float(loss(Y.mean(0).expand_as(Y), Y)), rel=1e-4)
    assert recording.first("target.max") == pytest.approx(float(Y.max()), rel=1e-5)
    assert recording.meta.task == "regression"


@pytest.mark.parametrize(
    "loss", [lambda y, t: (y - t).abs().mean(), lambda y, t: (t - y).abs().sum(), functional.l1_loss]
)
def test_an_absolute_error_has_a_baseline(loss):
    recording = first(loss)
    assert recording.structure.loss == "L1Loss"
    # the median of an even number of samples lies anywhere between the two in the middle
    assert recording.first("baseline_loss") == pytest.approx(float(loss(Y.median(0).values.expand_as(Y), Y)))


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, t: ((y - t) ** 4).mean(),
        lambda y, t: (torch.arange(2.0) * (y - t) ** 2).mean(),
        lambda y, t: ((y - y.detach().roll(1, 0) * y) ** 2).mean() + 0 * t.sum(),
        lambda y, t: torch.sub(y, t, alpha=2).square().mean(),
        lambda y, t: ((y - t) ** 2).mean() + (y**2).mean(),
        lambda y, t: ((y - t).to(torch.bfloat16) ** 2).mean(),
        lambda y, t: ((1e8 * y - t) ** 2).mean(),
    ],
    ids=["fourth", "weighted", "itself", "alpha", "penalty", "half", "scaled"],
)
def test_what_is_not_known_for_certain_stays_unmeasured(loss):
    assert not first(loss).has("baseline_loss")


def test_what_rounding_spoils_is_not_computed_back():
    numbers = torch.randn(50, generator=torch.Generator().manual_seed(0))
    prediction = torch.full((50,), 1e7)
    assert handwritten.target(prediction, prediction - numbers, turned=False).isnan().all()
    exact = handwritten.target(numbers, numbers - 3 * torch.ones(50).cumsum(0), turned=False)
    assert exact.tolist() == [3.0 * i for i in range(1, 51)]


def test_classes_by_squared_error_are_known_as_such():
    labels = torch.nn.functional.one_hot((X[:, 0] > 0).long(), 2).float()
    recording = first(lambda y, t: ((y - t) ** 2).mean(), labels)
    assert recording.meta.task == "classification"
    assert recording.first("accuracy") is not None


def training(rate):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    run, _ = trained(model, [(X, Y)] * 400, lambda y, t: ((y - t) ** 2).mean(), lr=rate)
    return run.recording.diagnose()


def test_a_training_that_learns_is_healthy_and_one_that_does_not_is_not():
    assert training(0.05).status == "healthy"
    stuck = training(1e-7)
    assert stuck.status != "healthy"
    assert stuck.status != "undetermined"


def test_a_median_is_the_best_constant_answer_to_distances():
    from unstuck.trace import baseline

    targets = np.array([0.0, 0.0, 10.0])
    assert baseline.baseline_loss("L1Loss", targets, None) == pytest.approx(10 / 3)
    assert math.isclose(baseline.baseline_loss("MSELoss", targets, None), float(targets.var()))
