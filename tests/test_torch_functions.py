"""What is no module in a graph: bare parameters, dropout that is a function, a loss that the model gives."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from test_torch_graph import labels, recorded
from unstuck.sources.torch.record import record


def test_a_bare_parameter_has_one_name_from_the_first_step_on():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.at, self.out = nn.Parameter(torch.randn(4)), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(x + self.at)

    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with record(net, optimizer, every=1) as run:
        for _ in range(4):
            optimizer.zero_grad()
            functional.cross_entropy(net(torch.randn(4, 4)), labels()).backward()
            optimizer.step()
    recording = run.recording
    assert set(recording.layers("weight_norm")) == {"add_1.at", "out", "out.bias"}
    for quantity in ("weight_norm", "grad_norm", "update_ratio", "drift"):
        assert recording.series(quantity, "add_1.at").steps[:4].tolist() == [0, 1, 2, 3], quantity


@pytest.mark.parametrize("by", ["function", "two axes", "hand", "none"])
def test_dropout_that_is_no_module(by):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 32), nn.Linear(32, 3)

        def forward(self, x):
            h = functional.relu(self.a(x))
            if by == "function":
                h = functional.dropout(h, 0.75)
            if by == "two axes":
                h = functional.dropout2d(h.view(-1, 8, 2, 2), 0.75).flatten(1)
            if by == "hand":
                h = (torch.rand_like(h) < 0.25).float() * 4 * h
            if by == "none":
                h = h * (torch.arange(32) % 3)
            return self.b(h)

    structure = recorded(
        Net(), lambda net: functional.cross_entropy(net(torch.randn(64, 4)), torch.arange(64) % 3)
    )
    found = [node.options["p"] for node in structure.nodes if node.type == "Dropout"]
    assert found == ([] if by == "none" else [0.75])


def test_a_model_that_gives_its_own_loss():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Embedding(20, 4), nn.Embedding(20, 4)

        def forward(self, a, b, wrong):
            right = (self.one(a) * self.two(b)).sum(1)
            return -(functional.logsigmoid(right) + functional.logsigmoid(-self.two(wrong).sum(1))).mean()

    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    with record(net, optimizer) as run:
        for _ in range(5):
            a, b, wrong = torch.randint(20, (3, 16))
            optimizer.zero_grad()
            net(a, b, wrong).backward()
            optimizer.step()
    assert not run.warnings
    assert run.recording.meta.optimizer == "Adam"
    assert {"one", "two"} <= {node.name for node in run.recording.structure.nodes}
