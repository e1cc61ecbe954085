"""What is kept of an operation's output: the same numbers however they lie in memory."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck.sources.torch.looks import MOST_NUMBERS, look
from unstuck.sources.torch.record import record

IMAGES = torch.randn(6, 5, 9, 7, generator=torch.Generator().manual_seed(0))


class Own(torch.Tensor):
    """A subclass of tensors."""


def kept(output, axis, kind="Conv2d"):
    found = look(output, kind, axis, weighted=True)
    assert found is not None
    return found, found.numbers.view(-1, *found.shape)


@pytest.mark.parametrize(
    ("lies", "axis"),
    [
        (lambda x: x.contiguous(memory_format=torch.channels_last), 1),
        (lambda x: x.permute(0, 2, 3, 1).contiguous(), 3),
        (lambda x: x.transpose(2, 3).contiguous().transpose(2, 3), 1),
        (lambda x: torch.cat([x, x], dim=1)[:, 5:], 1),
        (lambda x: torch.stack([x, x])[1], 1),
        (lambda x: torch._neg_view(-x), 1),
        (lambda x: x.as_subclass(Own), 1),
        (lambda x: x.clone().requires_grad_() * 1, 1),
        (lambda x: x.double(), 1),
    ],
    ids=["channels last", "last axis", "turned", "part", "offset", "negated", "subclass", "graph", "double"],
)
@pytest.mark.parametrize("large", [False, True])
def test_the_same_numbers_however_they_lie(lies, axis, large):
    x = IMAGES.repeat(40, 1, 1, 1) * torch.arange(1.0, 241)[:, None, None, None] if large else IMAGES
    plain, expected = kept(x, 1)
    found, numbers = kept(lies(x), axis)
    assert type(found.numbers) in {torch.Tensor, Own}
    assert torch.equal(torch.as_tensor(numbers.as_subclass(torch.Tensor), dtype=torch.float32), expected)
    assert (found.units, found.shape) == (plain.units, plain.shape)
    assert (found.total is None) == (plain.total is None) == (not large)
    if found.total is not None:
        assert float(found.total) == pytest.approx(float(x.double().sum()), rel=1e-3)


def test_a_small_output_is_kept_whole_and_a_large_one_in_part():
    found, numbers = kept(IMAGES, 1)
    assert torch.equal(numbers, IMAGES.flatten(2))
    assert found.total is None
    large = torch.ones(300, 50, 30)
    found, numbers = kept(large, 1)
    assert 1000 < numbers.numel() <= 2 * MOST_NUMBERS
    assert found.total == large.sum()


def test_what_happens_to_the_output_later_does_not_matter():
    x = torch.ones(4, 3)
    found, numbers = kept(x, 1, "Linear")
    x.zero_()
    assert found.units == 3
    assert bool((numbers == 1).all())


def test_an_infinity_anywhere_is_seen():
    large = torch.ones(300, 50, 30)
    large[1, 1, 1] = torch.inf
    found, _ = kept(large, 1)
    assert not torch.isfinite(found.total)
    halves = torch.ones(300, 50, 30, dtype=torch.float16) * 60000  # their sum is no number of half precision
    assert torch.isfinite(kept(halves, 1)[0].total)


@pytest.mark.parametrize(
    "output",
    [
        torch.tensor(1.0),
        torch.zeros(0, 3),
        torch.ones(3, dtype=torch.int64),
        torch.ones(3, dtype=torch.cfloat),
        torch.ones(2, 3, device="meta"),
    ],
)
def test_what_is_no_output_of_units(output):
    assert look(output, "Linear", 1, weighted=True) is None


def test_numbers_that_stand_for_several_entries():
    _, numbers = kept(torch.arange(3.0).expand(4, 3), 1)
    assert numbers[:, :, 0].tolist() == [[0, 1, 2]] * 4
    _, numbers = kept(torch.arange(4.0), 1)
    assert numbers[:, 0, 0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("way", ["apart", "in place", "changed before", "subclass", "other input"])
def test_a_relu_is_looked_at_in_its_own_right_or_through_its_input(way):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.act = Doubled() if way == "subclass" else nn.ReLU(inplace=way == "in place")
            self.last = nn.Linear(4, 2)

        def forward(self, x):
            hidden = self.conv(x)
            if way == "changed before":
                hidden.add_(1)
            self.after = self.act(hidden + 1 if way == "other input" else hidden)
            return self.last(self.after.mean((2, 3)))

    class Doubled(nn.ReLU):
        def forward(self, x):
            return 2 * torch.relu(x)

    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    run = record(net, optimizer, every=1)
    x = torch.randn(8, 1, 12, 12)
    with run:
        for _ in range(3):
            functional.cross_entropy(net(x), torch.arange(8) % 2).backward()
            optimizer.step()
            after = net.after.detach()
            step = run.recording.steps - 1
            found = run.recording.at("act_mean", "act", step)
            assert found == pytest.approx(float(after.mean()), rel=0.05)  # some positions of each image
            if way != "subclass":  # of which nobody knows that it is piecewise linear
                share = float((after == 0).float().mean())
                assert run.recording.at("zero", "act", step) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("where", ["conv", "norm", "neither"])
def test_an_infinity_in_a_normalised_output_is_seen(where):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.last = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x):
            hidden = self.conv(x)
            if where == "conv":
                hidden = hidden.masked_fill(torch.arange(30) == 7, torch.inf)
            return self.last(self.norm(hidden).relu().amax((2, 3)))

    torch.manual_seed(0)
    net = Net()
    if where == "norm":
        nn.init.constant_(net.norm.weight, torch.inf)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with record(net, optimizer) as run:
        functional.cross_entropy(net(torch.randn(16, 1, 32, 32)), torch.arange(16) % 2).backward()
        optimizer.step()
    assert math.isfinite(run.recording.first("act_mean", "conv"))
    assert math.isfinite(run.recording.first("act_mean", "norm")) == (where == "neither")


@pytest.mark.parametrize(("side", "channels"), [(16, 16), (16, 32), (28, 6), (28, 64), (32, 24), (224, 64)])
def test_positions_are_taken_off_the_border_and_in_many_columns(side, channels):
    images = torch.zeros(128, channels, side, side)
    edge = side // 4
    images[:, :, edge:-edge, edge:-edge] = torch.randn(128, channels, side - 2 * edge, side - 2 * edge)
    seen = look(images, "Conv2d", 1, weighted=True)
    assert seen is not None
    assert bool(seen.numbers.abs().amax(0).view(seen.shape).amax(1).gt(0).all())  # every unit is seen at work
    columns = torch.arange(side).expand(128, channels, side, side).float()
    where = look(columns, "Conv2d", 1, weighted=True)
    assert where is not None
    positions = where.shape[1]
    assert len(where.numbers[0, :positions].unique()) >= min(positions, side) * 0.6
