"""Tables with categories and numbers; networks with several ways from the inputs to the loss."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from unstuck.diagnose.diagnosis import diagnose  # noqa: E402
from unstuck.diagnose.measured import on_one_way, weight_layers  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402


class Table(nn.Module):
    """A row of an embedding beside numbers."""

    def __init__(self):
        super().__init__()
        self.kinds = nn.Embedding(12, 8)
        self.fc1, self.fc2, self.head = nn.Linear(8 + 3, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, kind, numbers):
        hidden = self.fc1(torch.cat([self.kinds(kind), numbers], dim=1)).tanh()
        return self.head(self.fc2(hidden).tanh())


def trained(size, steps=300):
    """What is asked for are kind and numbers; the numbers come `size` times as large as they should."""
    torch.manual_seed(0)
    model, effect = Table(), torch.randn(12)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with record(model, optimizer) as run:
        for _ in range(steps):
            kind, numbers = torch.randint(0, 12, (64,)), torch.randn(64, 3)
            wanted = effect[kind] + numbers @ torch.tensor([1.0, -1.0, 0.5])
            optimizer.zero_grad()
            scaled = size * (numbers + 3 * (size > 1))
            F.mse_loss(model(kind, scaled).squeeze(1), wanted).backward()
            optimizer.step()
    return run.recording


def test_large_numbers_beside_a_table():
    found = diagnose(trained(3000.0)).findings[0]
    assert (found.code, found.layer) == ("DAT001", "fc1")


def test_scaled_numbers_beside_a_table():
    run = trained(1.0)
    assert run.first("data.std") == pytest.approx(1, abs=0.2)
    assert diagnose(run).healthy


def test_a_mask_of_ones_is_no_data():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.Embedding(12, 8), nn.Linear(8, 1)

        def forward(self, words, mask):
            return self.head((self.words(words) * mask[..., None]).mean(1))

    torch.manual_seed(0)
    model = Masked()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with record(model, optimizer) as run:
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randint(0, 12, (8, 6)), torch.ones(8, 6)).square().mean().backward()
            optimizer.step()
    assert not run.recording.has("data.std")


def test_an_actor_and_a_critic_are_two_ways():
    class Agent(nn.Module):
        def __init__(self):
            super().__init__()
            self.actor = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
            self.critic = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 1))

        def forward(self, x):
            return self.actor(x), self.critic(x)

    torch.manual_seed(0)
    model = Agent()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with record(model, optimizer) as run:
        for _ in range(3):
            optimizer.zero_grad()
            scores, value = model(torch.randn(16, 6))
            (1e-4 * F.cross_entropy(scores, torch.randint(0, 3, (16,))) + value.square().mean()).backward()
            optimizer.step()
    layers = weight_layers(run.recording)
    assert len(layers) == 5
    way = [node.name for node in on_one_way(run.recording, layers)]
    assert len({name.partition(".")[0] for name in way}) == 1
    assert "GRD001" not in [one.code for one in diagnose(run.recording).findings]
