"""Layers that are made in forward and kept nowhere are told from layers in a plain list."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from digit_programs import faults, first, trained  # noqa: E402


class Unnamed(nn.Module):
    """A layer that no attribute holds: new in every pass, or one of a plain list."""

    def __init__(self, way):
        super().__init__()
        self.first, self.way, self.calls = nn.Linear(64, 32), way, 0
        self.others = [nn.Linear(32, 10) for _ in range(2)]

    def forward(self, x):
        self.calls += 1
        hidden = torch.tanh(self.first(x))
        if self.way == "layer":
            return nn.Linear(32, 10)(hidden)
        if self.way == "weight":
            return F.linear(hidden, nn.Parameter(torch.randn(10, 32) / 6))
        if self.way == "scale":
            return self.others[0](nn.BatchNorm1d(32)(hidden))
        return self.others[self.calls % 2](hidden)


@pytest.mark.parametrize("way", ["layer", "weight"])
def test_a_layer_that_is_made_in_forward_and_kept_nowhere(way):
    diagnosis = trained(Unnamed(way))
    assert first(diagnosis) == ("ARC003", "error", "Linear_1")
    assert faults(diagnosis) == [("ARC003", "Linear_1")]
    assert "LRN005" in [one.code for one in diagnosis.findings[0].consequences]


def test_layers_that_take_turns_are_not_made_anew():
    assert faults(trained(Unnamed("turns"), lr=0.1)) == [("LRN005", "Linear_1")]


def test_a_scale_that_is_made_in_forward():
    diagnosis = trained(Unnamed("scale"))
    assert ("ARC003", "warning", "BatchNorm1d_1") in [
        (one.code, one.severity, one.layer) for one in diagnosis.findings
    ]


SCRIPT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 4)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        return nn.Linear(4, 2)(hidden)

torch.manual_seed(0)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(64, 6)
for _ in range(20):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), (x[:, 0] > 0).long())
    loss.backward()
    optimizer.step()
"""


def test_the_line_where_it_is_made_is_named(tmp_path, monkeypatch):
    from unstuck.sources.script.run import run_script

    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    (training,) = run_script("train.py").trainings
    found = training.recording.diagnose().findings[0]
    assert (found.code, found.layer) == ("ARC003", "Linear_1")
    assert (found.location.file, found.location.line) == ("train.py", 12)
