"""Recurrent layers of which only the last state is used are one layer, as if their outputs were."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from unstuck.diagnose.diagnosis import diagnose  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402


class LastState(nn.Module):
    def __init__(self, kind, layers, both):
        super().__init__()
        self.rnn = kind(4, 12, layers, batch_first=True, bidirectional=both)
        self.head = nn.Linear(24 if both else 12, 2)

    def forward(self, x):
        _, state = self.rnn(x)
        state = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([state[-2], state[-1]], 1) if self.rnn.bidirectional else state[-1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (1, True)])
def test_the_last_state_leads_to_its_layer(kind, layers, both):
    torch.manual_seed(0)
    model = LastState(kind, layers, both)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with record(model, optimizer) as run:
        for _ in range(60):
            x = torch.randn(32, 7, 4)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), (x.sum((1, 2)) > 0).long()).backward()
            optimizer.step()
    named = [node.name for node in run.recording.structure.nodes if node.parameters]
    assert named == ["rnn", "head"]
    assert "rnn.weight_hh_l0" in run.recording.layers("weight_norm")
    assert diagnose(run.recording).healthy
