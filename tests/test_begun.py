"""Networks that answer better than any constant before they have learned anything, by a way around."""

import math

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from unstuck.diagnose.bounds import load_bounds  # noqa: E402
from unstuck.diagnose.diagnosis import diagnose  # noqa: E402
from unstuck.diagnose.fresh import fresh  # noqa: E402
from unstuck.diagnose.outcome import outcome  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402


class Corrected(nn.Module):
    """What it is given, and a correction of it."""

    def __init__(self, last=None):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(16, 64), nn.Linear(64, 16)
        self.last = last or nn.Identity()

    def forward(self, x):
        return x + self.last(self.fc2(self.fc1(x).relu()))


def trained(model, steps=300, lr=3e-3):
    """Smooth curves, of which a bend is to be foretold; returns the recording."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    with record(model, optimizer) as run:
        for _ in range(steps):
            x = torch.randn(64, 16)
            wanted = x + 0.3 * (x.roll(1, 1) - x).tanh()
            optimizer.zero_grad()
            F.mse_loss(model(x), wanted).backward()
            optimizer.step()
    return run.recording


def word(run):
    return outcome(run, load_bounds().outcome).word


class Rounded(nn.Module):
    def forward(self, x):
        return (x * 255).round() / 255


def test_what_was_there_before_is_not_learned():
    torch.manual_seed(1)
    run = trained(Corrected(Rounded()))
    assert word(run) == "not learned"
    found = diagnose(run)
    assert found.findings[0].code == "GRD003"
    assert "where it began" in found.outcome.because


def test_a_correction_that_is_learned():
    torch.manual_seed(1)
    found = diagnose(trained(Corrected()))
    assert found.healthy
    assert found.outcome.word == "learned"


def test_who_was_trained_before_may_be_done():
    torch.manual_seed(1)
    model = Corrected()
    trained(model, steps=1500)
    assert word(trained(model, steps=60, lr=1e-6)) == "learned"


@pytest.mark.parametrize(
    "draw",
    [
        lambda _: None,
        nn.init.kaiming_normal_,
        lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu"),
        nn.init.xavier_uniform_,
        lambda weight: nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("relu")),
        lambda weight: nn.init.orthogonal_(weight, math.sqrt(2)),
    ],
)
def test_usual_recipes_are_known(draw):
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
    for layer in model[::2]:
        draw(layer.weight)
    run = trained(model, steps=3)
    assert fresh(run, run.structure.layers)
    for layer in model[::2]:
        nn.init.normal_(layer.weight, std=0.37)
    run = trained(model, steps=3)
    assert not fresh(run, run.structure.layers)


def test_tables_and_recurrent_layers_are_known():
    torch.manual_seed(3)
    words, cells = nn.Embedding(60, 16, padding_idx=0), nn.GRU(16, 24, batch_first=True)
    head = nn.Linear(24, 10)
    model = nn.ModuleList([words, cells, head])

    def run():
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        with record(model, optimizer) as watched:
            for _ in range(2):
                optimizer.zero_grad()
                states, _ = cells(words(torch.randint(0, 60, (8, 5))))
                F.cross_entropy(head(states[:, -1]), torch.randint(0, 10, (8,))).backward()
                optimizer.step()
        return watched.recording

    found = run()
    assert fresh(found, [node for node in found.structure.nodes if node.parameters])
    with torch.no_grad():
        cells.weight_hh_l0 *= 1.5
    found = run()
    assert not fresh(found, [node for node in found.structure.nodes if node.parameters])
