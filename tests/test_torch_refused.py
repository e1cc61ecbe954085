"""A binary cross entropy that raises at what it is given: the reason is named all the same."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from digit_programs import YES, X, faults, first, mlp, trained  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402


def refused(model, x, y):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = record(model, optimizer)

    def train():
        with run:
            for _ in range(3):
                optimizer.zero_grad()
                nn.BCELoss()(model(x), y).backward()
                optimizer.step()

    with pytest.raises(RuntimeError, match="between 0 and 1"):
        train()
    return run.diagnose()


def test_inputs_that_are_no_numbers():
    spoiled = X.clone()
    spoiled[7, 3] = float("nan")
    diagnosis = refused(mlp(nn.Sigmoid(), out=1), spoiled, YES)
    assert first(diagnosis) == ("DAT003", "error", None)
    assert "inputs" in diagnosis.findings[0].summary


def test_numbers_that_are_lost_on_the_way():
    model = mlp(nn.Sigmoid(), out=1, hidden=nn.ReLU)
    with torch.no_grad():
        for one in model.parameters():
            one.mul_(1e30)
        model[2].bias.fill_(float("-inf"))
    assert first(refused(model, X, YES))[:2] == ("GRD004", "error")


def test_scores_that_are_no_probabilities():
    assert first(refused(mlp(out=1), X, YES)) == ("OUT003", "error", "2")


def test_targets_that_are_no_probabilities():
    assert first(refused(mlp(nn.Sigmoid(), out=1), X, 2 * YES))[:2] == ("OUT007", "error")


def test_its_sound_sibling_is_let_be():
    assert faults(trained(mlp(nn.Sigmoid(), out=1), nn.BCELoss(), data=(X, YES))) == []


def test_its_sign_is_named_too():
    def minus(scores, y):
        return -nn.functional.binary_cross_entropy(scores, y)

    assert first(trained(mlp(nn.Sigmoid(), out=1), minus, data=(X, YES)))[:2] == ("OUT009", "error")
