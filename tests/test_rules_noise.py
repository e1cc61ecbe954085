import math

import numpy as np
import pytest
import torch

from traces import facts, linear, op, recorded, told
from unstuck import record
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.noise import noisy_gradient

BOUNDS = load_bounds()
NODES = (linear("fc1", "input"), op("act1", "Tanh", "fc1"), linear("fc2", "act1"))


def run_of(*, rate=0.5, gradient=4.0, cosine=0.0, final=1.5, baseline=2.3, momentum=0.0, steps=200, **more):
    """A loss that rests at 1.5 of 2.3 under steps of which nothing is left in the next one."""
    run = recorded(
        NODES,
        "CrossEntropyLoss",
        facts("fc2"),
        steps=steps,
        start=final,
        final=final,
        baseline=baseline,
        lr=rate,
        grad_cosine=cosine,
        **more,
    )
    run.meta.optimizer, run.meta.optimizer_options = "SGD", {"momentum": momentum}
    for layer in ("fc1", "fc2"):
        for step in range(0, steps, 10):
            run.add(step, layer, "grad_norm", gradient / math.sqrt(2))
    return run


# ---- LRN007 noisy-gradient


def test_noise_that_holds_the_loss_up():
    run = run_of()  # 0.5 * 16 / 4 = 2 beside a loss of 1.5
    assert told(noisy_gradient(run, BOUNDS)) == [("LRN007", "warning", None)]
    assert [one.id for one in diagnose(run).findings[0].treatments] == ["batch*4", "lr*0.1"]
    assert (
        noisy_gradient(run, BOUNDS)[0].confidence
        < noisy_gradient(run_of(probe__noise=0.9), BOUNDS)[0].confidence
    )
    assert told(noisy_gradient(run_of(rate=0.05, momentum=0.9), BOUNDS)) == [("LRN007", "warning", None)]


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": 0.05},  # the noise is there, but such steps average it out
        {"gradient": 1.0},
        {"cosine": 0.8},  # gradients of a clear direction
        {"cosine": -0.8},  # to and fro: LRN001's
        {"final": 0.3},  # learned well
        {"baseline": None},  # a loss of which nobody knows what it should be: rewards, two networks
        {"probe__noise": 0.1},  # the halves of each batch agree
        {"probe__same": 1.6, "probe__start": 1.5},  # not even one batch is learned: LRN001's
        {"repeat__batch": 1.0},
        {"loader__batches": 1.0},
        {"final": math.inf},
    ],
)
def test_what_only_looks_like_it(changes):
    assert noisy_gradient(run_of(**changes), BOUNDS) == []


def test_a_loss_that_still_falls():
    run = recorded(
        NODES, "CrossEntropyLoss", facts("fc2"), steps=200, start=2.3, final=1.5, baseline=2.3, lr=0.5
    )
    run.meta.optimizer = "SGD"
    for step in range(0, 200, 10):
        run.add(step, "fc1", "grad_norm", 4.0)
        run.add(step, "", "grad_cosine", 0.0)
    assert noisy_gradient(run, BOUNDS) == []


def test_what_it_cannot_judge():
    other, short = run_of(), run_of(steps=60)
    other.meta.optimizer = "Adam"
    for run in (other, short):
        with pytest.raises(NotChecked):
            noisy_gradient(run, BOUNDS)


def test_a_rate_too_high_explains_it():
    run = run_of()
    for layer in ("fc1", "fc2"):
        for step in range(0, 200, 10):
            run.add_row(step, layer, {"update_ratio": 2.0, "weight_norm": 3.0})
    found = diagnose(run).findings
    assert found[0].code == "LRN001"
    assert "LRN007" in [effect.code for effect in found[0].consequences]


def trained(batch, rate, *, noise=0.5, decay=False, warm=0, drop=0.0, steps=400):
    """A regression of 20 numbers whose targets have noise, on batches drawn at random."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1000, 20, generator=generator)
    y = x @ torch.randn(20, 1, generator=generator) / 20**0.5 + noise * torch.randn(
        1000, 1, generator=generator
    )
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Dropout(drop), torch.nn.Linear(16, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    factor = (lambda step: 1 - step / steps) if decay else (lambda step: min(1.0, (step + 1) / max(warm, 1)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    with record(model, optimizer) as run:
        for _ in range(steps):
            rows = torch.randint(1000, (batch,), generator=generator)
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return run.recording


@pytest.mark.parametrize(
    ("batch", "rate", "more"),
    [
        (2, 0.01, {}),  # small batches
        (8, 0.02, {"noise": 2.0}),  # most of the targets is noise
        (8, 0.05, {"decay": True, "noise": 2.0}),
        (8, 0.05, {"warm": 100}),
        (8, 0.05, {"drop": 0.5}),
        (1000, 0.1, {"noise": 2.0}),  # a plateau, all data at once
    ],
)
def test_sound_trainings(batch, rate, more):
    assert noisy_gradient(trained(batch, rate, **more), BOUNDS) == []


def test_the_estimate_is_the_loss_that_larger_batches_take_away():
    """Least squares, one sample a step: what constant steps leave above the noise of the targets."""
    generator = np.random.default_rng(0)
    d, rate, variance = 10, 0.05, 1.0
    weights, losses, norms = np.zeros(d), [], []
    for _ in range(20_000):
        x = generator.standard_normal(d)
        error = x @ weights - variance**0.5 * generator.standard_normal()
        losses.append(error**2)
        norms.append(float(np.sum((2 * error * x) ** 2)))
        weights -= rate * 2 * error * x * 0.5  # half of it: the rate of the squared error is r / 2
    excess = float(np.mean(losses)) - variance
    assert rate / 2 * float(np.mean(norms)) / 4 == pytest.approx(excess, rel=0.5)
