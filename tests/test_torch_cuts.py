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


class Sequences(nn.Module):
    """Digits as eight rows of eight; what the last layer reads is passed on in one way or another."""

    def __init__(self, passed):
        super().__init__()
        torch.manual_seed(0)
        self.rows, self.head, self.passed = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 10), passed

    def forward(self, x):
        _, state = self.rows(x.reshape(-1, 8, 8))
        return self.head(self.passed(state[0]))


@pytest.mark.parametrize(
    "cut",
    [torch.Tensor.detach, lambda h: h.data, lambda h: torch.tensor(h.tolist())],
    ids=["detach", "data", "list"],
)
def test_a_state_that_is_cut_off_from_the_layers_before_it(cut):
    found = trained(Sequences(cut), lr=0.5, steps=200)
    assert first(found) == ("GRD003", "warning", "rows")  # what was drawn at random tells digits apart, too
    assert first(trained(Sequences(cut), lr=0.05)) == ("GRD003", "error", "rows")
    assert "cut between rows and head" in found.findings[0].summary
    assert faults(trained(Sequences(lambda state: state), lr=0.5, steps=200)) == []


def test_features_of_a_trained_part_may_be_left_as_they_are():
    before = Sequences(lambda state: state)
    trained(before, lr=0.1, steps=200)
    after = Sequences(torch.Tensor.detach)
    after.rows.load_state_dict(before.rows.state_dict())
    assert faults(trained(after, lr=0.1)) == []


def test_nor_is_a_part_that_nobody_gave_to_the_optimiser_cut():
    model = Sequences(torch.Tensor.detach)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    assert faults(trained(model, optimizer=optimizer)) == []
