"""The rules on direction, steps and samples, on programs in PyTorch: what looks like a fault and is none."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from digit_programs import X, Y, entropy, faults, first, mlp, trained, watched  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402

INK = X.sum(dim=1, keepdim=True) / 20 - 1


def codes(diagnosis):
    return [code for code, _ in faults(diagnosis)]


# ---- OUT009 flipped-sign


@pytest.mark.parametrize(
    "loss",
    [
        lambda scores, y: -entropy(scores, y),
        lambda scores, y: -1 * entropy(scores, y),
        lambda scores, y: -F.cross_entropy(scores, y, reduction="none").mean(),
    ],
)
def test_a_minus_sign_before_the_loss(loss):
    diagnosis = trained(mlp(), loss, lr=0.1)
    assert first(diagnosis) == ("OUT009", "error", None)
    assert len(diagnosis.roots) == 1


@pytest.mark.filterwarnings("ignore")
def test_a_flipped_formula_of_ones_own():
    diagnosis = trained(mlp(out=1), lambda p, t: -((p - t) ** 2).mean(), lr=0.05, data=(X, INK))
    assert first(diagnosis) == ("OUT009", "error", None)


def test_maximising():
    model = mlp()
    wrong = trained(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, maximize=True))
    assert first(wrong) == ("OUT009", "error", None)
    model = mlp()
    right = torch.optim.SGD(model.parameters(), lr=0.5, maximize=True)
    assert faults(trained(model, lambda scores, y: -entropy(scores, y), right, steps=100)) == []


def test_losses_with_a_negative_term_or_weight():
    def confident(scores, y):
        chances = scores.softmax(1)
        return entropy(scores, y) + 5 * (chances * chances.clamp_min(1e-9).log()).sum(1).mean()

    def advantage(scores, _y):
        weights = torch.linspace(-2, -0.5, len(scores))
        return (F.cross_entropy(scores, scores.argmax(1), reduction="none") * weights).mean()

    for loss in (confident, advantage):
        assert "OUT009" not in codes(trained(mlp(), loss, lr=0.05))


def test_a_generator_that_is_watched_alone():
    torch.manual_seed(0)
    maker, judge = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), nn.Linear(2, 1)
    own, other = torch.optim.Adam(maker.parameters(), 1e-2), torch.optim.Adam(judge.parameters(), 1e-2)
    with record(maker, own) as run:
        for _ in range(40):
            made, real = maker(torch.randn(16, 4)), torch.randn(16, 2) + 3
            other.zero_grad()
            yes, no = torch.ones(16, 1), torch.zeros(16, 1)
            (
                F.binary_cross_entropy_with_logits(judge(real), yes)
                + F.binary_cross_entropy_with_logits(judge(made.detach()), no)
            ).backward()
            other.step()
            own.zero_grad()
            (-F.binary_cross_entropy_with_logits(judge(made), no)).backward()
            own.step()
    assert "OUT009" not in codes(run.diagnose())


# ---- DAT006 unshuffled


def stream(model, optimizer, inputs, targets, rows_of, loss=entropy, steps=100):
    with record(model, optimizer) as run:
        for step in range(steps):
            rows = rows_of(step)
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return run.diagnose()


def test_sorted_labels_and_batches_of_one_class_in_no_order():
    order = torch.argsort(Y)
    model = mlp()
    runs = stream(
        model,
        torch.optim.SGD(model.parameters(), lr=0.5),
        X[order],
        Y[order],
        lambda step: torch.arange(30 * step, 30 * step + 30) % 300,
    )
    assert first(runs) == ("DAT006", "warning", None)
    own = [torch.where(label == Y)[0] for label in range(10)]
    chosen = torch.randint(10, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    model = mlp()
    tasks = stream(model, torch.optim.SGD(model.parameters(), lr=0.1), X, Y, lambda step: own[chosen[step]])
    assert "DAT006" not in codes(tasks)


def test_a_time_series_that_is_learned_in_order():
    time = torch.linspace(0, 20, 2000)[:, None]
    seen = torch.cat([torch.sin(time + 0.3), torch.cos(time + 0.3), time / 20], dim=1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
    diagnosis = stream(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-2),
        seen,
        torch.sin(time),
        lambda step: torch.arange(50 * step, 50 * step + 50) % 2000,
        F.mse_loss,
        200,
    )
    assert faults(diagnosis) == []


# ---- GRD007, LRN004, LRN011: what is usual


def test_clipping_and_schedules_as_they_are_meant():
    def clipped(model, optimizer, norm, schedule=None):
        def step(x, y):
            optimizer.zero_grad()
            entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), norm)
            optimizer.step()
            if schedule is not None:
                schedule.step()

        return watched(model, optimizer, step, steps=200)

    model = mlp()
    assert clipped(model, torch.optim.SGD(model.parameters(), lr=0.5), 1.0).healthy
    model = mlp()
    assert faults(clipped(model, torch.optim.Adam(model.parameters(), lr=3e-3), 1e-3)) == []
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-6, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / 20, 1) * (1 + math.cos(math.pi * step / 200)) / 2
    )
    assert clipped(model, optimizer, 1.0, schedule).healthy
    model = mlp()
    cut = clipped(model, torch.optim.SGD(model.parameters(), lr=0.1), 1e-3)
    assert first(cut) == ("GRD007", "warning", None)


# ---- DAT004 misaligned-labels, OUT012 summed-loss, with probes


def probed(targets, loss, *, lr, size=30, steps=100):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(1)
    with record(model, optimizer, probe=True) as run:
        for _ in range(steps):
            rows = torch.randint(300, (size,), generator=generator)
            optimizer.zero_grad()
            loss(model(X[rows]), targets[rows]).backward()
            optimizer.step()
    return run.diagnose()


def test_random_labels_against_rates_that_are_far_off():
    dealt = Y[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    assert "DAT004" in codes(probed(dealt, entropy, lr=0.5))
    for lr in (1e-4, 1e-2, 0.5, 10.0):
        assert "DAT004" not in codes(probed(Y, entropy, lr=lr))


def test_sums_with_a_rate_that_fits_and_one_that_does_not():
    def total(scores, y):
        return F.cross_entropy(scores, y, reduction="sum")

    assert probed(Y, total, lr=0.01, steps=150).healthy
    assert first(probed(Y, total, lr=1.0)) == ("OUT012", "warning", None)
    assert "OUT012" not in codes(probed(Y, entropy, lr=30.0))
