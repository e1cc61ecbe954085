"""Graphs that a program cuts, and data that are no numbers: named in whole programs in PyTorch."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from digit_programs import X, entropy, faults, first, mlp, trained  # noqa: E402

# ---- graphs that are cut


@pytest.mark.parametrize(
    "cut",
    [
        lambda scores: scores.detach().requires_grad_(),
        lambda scores: torch.tensor(scores.tolist(), requires_grad=True),
        lambda scores: (scores > 0).float().requires_grad_(),
    ],
    ids=["detach", "list", "comparison"],
)
def test_a_loss_of_a_new_tensor_trains_nothing(cut):
    diagnosis = trained(mlp(), lambda scores, y: entropy(cut(scores), y))
    assert first(diagnosis) == ("GRD003", "error", "2")
    assert faults(trained(mlp(), lambda scores, y: entropy(scores.requires_grad_(), y))) == []


class Coder(nn.Module):
    """Its code is kept small by a penalty, and goes on to the answer in one way or another."""

    def __init__(self, passed):
        super().__init__()
        torch.manual_seed(0)
        self.code, self.spare, self.answer = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, 10)
        self.passed = passed

    def forward(self, x):
        code = self.code(x) + 0.1 * torch.tanh(self.spare(x))
        return self.answer(self.passed(code)), code.square().mean()


def coded(passed, **more):
    return trained(Coder(passed), lambda both, y: entropy(both[0], y) + both[1], lr=0.05, **more)


def spoiled(where, row):
    """Sample `row` comes in steps 2, 8, 14, ... or, for rows below 50, in the first."""
    x, y = X.clone(), X.sum(dim=1, keepdim=True) / 20 - 1
    (x if where == "inputs" else y)[row, 0] = float("nan")
    return trained(mlp(out=1), nn.SmoothL1Loss(), lr=0.1, data=(x, y), steps=60)


@pytest.mark.parametrize("where", ["inputs", "targets"])
@pytest.mark.parametrize("row", [10, 270])
def test_data_that_are_lost_stand_before_what_they_spoil(where, row):
    diagnosis = spoiled(where, row)
    assert first(diagnosis) == ("DAT003", "error", None)
    assert where in diagnosis.findings[0].summary
    assert "GRD004" in [one.code for one in diagnosis.findings[0].consequences]


def test_what_the_network_loses_itself_is_not_the_data():
    def loss(scores, y):
        loss.step = getattr(loss, "step", -1) + 1
        return entropy(scores * (float("inf") if loss.step == 37 else 1.0), y)

    told = trained(mlp(), loss).findings
    everything = [one.code for found in told for one in (found, *found.consequences)]
    assert "GRD004" in everything
    assert "DAT003" not in everything
