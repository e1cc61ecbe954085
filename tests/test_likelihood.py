"""Losses that a program writes out itself, sums of losses, and roots: what is the best constant answer?"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck import record
from unstuck.diagnose.diagnosis import diagnose

X = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
LABELS = (X[:, 0] * 2).long().clamp(0, 2)
NUMBER = X[:, 1:2]
BATCH = 32


def log_softmax(scores):
    scores = scores - scores.max(1, keepdim=True).values
    return scores - scores.exp().sum(1, keepdim=True).log()


def watched(loss, *, steps=30, lr=1e-2, outputs=3):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, outputs))
    optimizer = torch.optim.Adam(net.parameters(), lr)
    targets = []
    with record(net, optimizer) as run:
        for _ in range(steps):
            rows = torch.randint(400, (BATCH,))
            targets.append((LABELS[rows], NUMBER[rows]))
            optimizer.zero_grad()
            loss(net(X[rows]), *targets[-1]).backward()
            optimizer.step()
    return run.recording, targets


def entropy(labels):
    share = torch.bincount(labels, minlength=3).double() / len(labels)
    return float(-(share[share > 0] * share[share > 0].log()).sum())


def both(out, labels, number):
    return functional.cross_entropy(out[:, :3], labels) + 0.5 * functional.mse_loss(out[:, 3:], number)


WRITTEN = {
    "gather": lambda out, y, _: -log_softmax(out).gather(1, y[:, None]).mean(),
    "index": lambda out, y, _: -log_softmax(out)[torch.arange(len(y)), y].mean(),
    "one-hot": lambda out, y, _: (torch.logsumexp(out, 1) - (out * functional.one_hot(y, 3)).sum(1)).mean(),
    "sum": lambda out, y, _: -functional.log_softmax(out, 1).gather(1, y[:, None]).sum(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_cross_entropy_that_is_written_out_is_known(name):
    recording, targets = watched(WRITTEN[name])
    assert recording.structure.loss == "CrossEntropyLoss"
    best = entropy(targets[0][0]) * (BATCH if name == "sum" else 1)
    assert recording.first("baseline_loss") == pytest.approx(best, rel=1e-5)
    assert recording.first("accuracy") is not None


def test_log_probabilities_of_a_module_are_known_as_such():
    def loss(out, y, _):
        return -nn.LogSoftmax(1)(out)[torch.arange(len(y)), y].mean()

    recording, targets = watched(loss)
    assert recording.first("baseline_loss") == pytest.approx(entropy(targets[0][0]), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y, _: 0.9 * -log_softmax(out).gather(1, y[:, None]).mean(),
        lambda out, y, _: -log_softmax(out).gather(1, (2 - y)[:, None]).mean() + out.square().mean(),
        lambda out, y, _: -out.gather(1, y[:, None]).mean(),
    ],
)
def test_a_number_that_is_no_cross_entropy_is_not_taken_for_one(loss):
    recording, _ = watched(loss, steps=5)
    assert recording.structure.loss is None
    assert not recording.has("baseline_loss")


def test_a_forgotten_minus_is_named():
    recording, _ = watched(lambda out, y, _: log_softmax(out).gather(1, y[:, None]).mean(), steps=60)
    assert [finding.code for finding in diagnose(recording).findings] == ["OUT009"]


def test_a_sum_of_losses_has_the_sum_of_their_best_constant_answers():
    recording, targets = watched(both, outputs=4)
    labels, number = targets[0]
    best = entropy(labels) + 0.5 * float(number.var(correction=0))
    assert recording.first("baseline_loss") == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y, z: functional.cross_entropy(out[:, :3], y) - functional.mse_loss(out[:, 3:], z),
        lambda out, y, z: both(out, y, z) + 1e-3 * out.square().sum(),
    ],
    ids=["of both signs", "with an unknown term"],
)
def test_a_sum_has_no_best_constant_answer(loss):
    recording, _ = watched(loss, outputs=4, steps=5)
    assert not recording.has("baseline_loss")


def test_a_sum_that_is_maximised_is_named():
    recording, _ = watched(lambda *given: -both(*given), outputs=4, steps=60)
    assert [finding.code for finding in diagnose(recording).findings] == ["OUT009"]


def dice(out, labels):
    return 1 - out.softmax(1).gather(1, labels[:, None]).mean()


def with_dice(out, labels, _):
    return functional.cross_entropy(out, labels) + dice(out, labels)


def test_a_known_loss_with_an_unknown_term_tells_where_even_that_is_enough():
    recording, targets = watched(with_dice, steps=120)
    assert not recording.has("baseline_loss")
    assert recording.first("part_baseline") == pytest.approx(entropy(targets[0][0]), rel=1e-5)
    assert diagnose(recording).status == "healthy"


@pytest.mark.parametrize(
    ("loss", "lr", "code"),
    [
        (with_dice, 1e-8, "LRN002"),
        (lambda *given: -with_dice(*given), 1e-2, "OUT009"),
        (lambda out, y, _: dice(out, y), 1e-8, "LRN002"),
    ],
    ids=["slow", "maximised", "slow, unknown"],
)
def test_faults_are_named_beside_an_unknown_term(loss, lr, code):
    recording, _ = watched(loss, steps=200, lr=lr)
    assert [finding.code for finding in diagnose(recording).findings] == [code]


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y, z: with_dice(out, y, z) + 0.01 * (out.softmax(1) * out.log_softmax(1)).sum(1).mean(),
        lambda out, y, _: dice(out, y),
        lambda out, _, z: (
            functional.mse_loss(out[:, :1], z) - 0.5 * (1 + out[:, 1:] - out[:, 1:].exp()).mean()
        ),
    ],
    ids=["entropy", "dice alone", "divergence"],
)
def test_healthy_trainings_with_unknown_terms_raise_no_alarm(loss):
    recording, _ = watched(loss, steps=120)
    assert not [one.code for one in diagnose(recording).findings if one.severity != "info"]


def test_copies_of_one_sample_are_named_behind_a_normalisation():
    torch.manual_seed(0)
    net = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    with record(net, optimizer) as run:
        for _ in range(60):
            optimizer.zero_grad()
            functional.cross_entropy(net(X[:1].expand(32, 6)), LABELS[torch.randint(400, (32,))]).backward()
            optimizer.step()
    assert run.recording.series("data.alike").values.min() == 1
    assert diagnose(run.recording).findings[0].code == "DAT002"


@pytest.mark.parametrize(
    "loss",
    [
        lambda out, _, z: 3 * torch.sqrt(functional.mse_loss(out, z)),
        lambda out, _, z: torch.sqrt(9 * ((out - z) ** 2).mean() + 1e-9),
    ],
)
def test_the_root_of_a_mean_square_has_the_standard_deviation(loss):
    recording, targets = watched(loss, outputs=1)
    spread = math.sqrt(float(targets[0][1].var(correction=0)))
    assert recording.first("baseline_loss") == pytest.approx(3 * spread, rel=1e-3)
