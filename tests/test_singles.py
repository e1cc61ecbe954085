"""Trainings on one sample at a time: what the best constant answer would have is known from many steps."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from unstuck.sources.torch.record import record  # noqa: E402

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
EITHER = torch.tensor([0.0, 1.0, 1.0, 0.0])


def online(loss, targets, *, out=1, factor=1.0, rate=0.3, hidden=nn.Tanh, steps=1500, spoil=False):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 8), hidden(), nn.Linear(8, out))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    order = np.random.default_rng(0)
    with record(model, optimizer) as run:
        for _ in range(steps):
            i = int(order.integers(4))
            j = int(order.integers(4)) if spoil else i
            optimizer.zero_grad()
            (factor * loss(model(CORNERS[i : i + 1]), targets[j : j + 1])).backward()
            optimizer.step()
    return run.diagnose()


KINDS = {
    "MSE": (nn.MSELoss(), EITHER[:, None], 1, 0.25),
    "BCE": (nn.BCEWithLogitsLoss(), EITHER[:, None], 1, np.log(2)),
    "CE": (nn.CrossEntropyLoss(), EITHER.long(), 2, np.log(2)),
}


@pytest.mark.parametrize("factor", [1.0, 0.5])
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_constant_answers_loss_is_known_of_single_samples(kind, factor):
    loss, targets, out, constant = KINDS[kind]
    found = online(loss, targets, out=out, factor=factor, rate=0.1 / factor, steps=2500)
    assert found.status == "healthy"
    assert found.outcome.baseline == pytest.approx(factor * constant, rel=0.25)


@pytest.mark.parametrize("kind", list(KINDS))
def test_answers_to_other_questions_are_not_learned(kind):
    loss, targets, out, _ = KINDS[kind]
    assert online(loss, targets, out=out, rate=0.05, spoil=True).outcome.word == "not learned"


def test_a_linear_network_is_named_and_not_the_noise_of_single_samples():
    found = online(*KINDS["MSE"][:2], hidden=nn.Identity, rate=0.05)
    assert [one.code for one in found.findings if one.severity != "info"] == ["ACT004"]
