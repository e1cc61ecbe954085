"""Cells that a program steps through time: each weight is one layer, however often it is used."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from digit_programs import X, entropy, first, trained  # noqa: E402


class Stepped(nn.Module):
    """Reads a picture row by row."""

    def __init__(self, cell, last=lambda scores: scores):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.out, self.last = cell(8, 24), nn.Linear(24, 10), last

    def forward(self, x):
        state = torch.zeros(len(x), 24)
        memory = torch.zeros(len(x), 24)
        for row in x.reshape(len(x), 8, 8).unbind(1):
            if isinstance(self.cell, nn.LSTMCell):
                state, memory = self.cell(row, (state, memory))
            else:
                state = self.cell(row, state)
        return self.last(self.out(state))


CELLS = pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])


@CELLS
def test_a_weight_is_one_layer(cell):
    model = Stepped(cell)
    diagnosis = trained(model, entropy, torch.optim.Adam(model.parameters(), lr=1e-2), steps=200)
    names = [row.name for row in diagnosis.layers]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.rsplit("_", 1)[-1].isdigit()]
    assert diagnosis.status == "healthy"


@CELLS
def test_a_rate_that_is_too_low_is_seen(cell):
    model = Stepped(cell)
    diagnosis = trained(model, entropy, torch.optim.SGD(model.parameters(), lr=1e-6), steps=200)
    assert first(diagnosis)[0] == "LRN002"


def test_answers_of_all_steps_are_seen_through_their_joining():
    class Waves(nn.Module):
        def __init__(self, last):
            super().__init__()
            torch.manual_seed(0)
            self.cell, self.out, self.last = nn.RNNCell(1, 16), nn.Linear(16, 1), last

        def forward(self, x):
            state, found = torch.zeros(len(x), 16), []
            for one in x.split(1, dim=1):
                state = self.cell(one, state)
                found.append(self.last(self.out(state)))
            return torch.cat(found, dim=1)

    targets = (X[:, 1:13] - X[:, :12]) * 2 - 0.5

    def learned(last):
        model = Waves(last)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return trained(model, nn.MSELoss(), optimizer, data=(X[:, :12], targets), steps=150)

    assert "OUT001" in [one.code for one in learned(torch.relu).findings]
    assert "OUT001" not in [one.code for one in learned(lambda out: out).findings]
