"""Pooling, against plain loops, differences and PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import twins
from unstuck import nn
from unstuck.errors import ShapeError, UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
POOLS = pytest.mark.parametrize("pool", [nn.MaxPool2d, nn.AvgPool2d])

# what the numbers are: kernel, stride, padding, (samples, channels, height, width)
CASES = {
    "2x2": (2, None, 0, (3, 2, 4, 6)),
    "1x1": (1, None, 0, (2, 1, 3, 3)),
    "whole image": ((3, 4), None, 0, (2, 2, 3, 4)),
    "overlap": (3, 1, 0, (2, 2, 5, 4)),
    "overlap and padding": (3, 2, 1, (2, 1, 5, 6)),
    "padding": (2, 2, 1, (2, 2, 4, 5)),
    "padding of half the kernel": (4, 1, 2, (1, 2, 3, 5)),
    "rectangle": ((2, 3), (1, 2), (1, 0), (2, 2, 5, 7)),
    "odd size leaves lines unused": (2, None, 0, (2, 2, 5, 7)),
    "stride above the kernel": (2, 3, 0, (2, 2, 7, 6)),
    "a vector and a sample": (2, None, 0, (17, 1, 2, 2)),
}


def pooled(pool, case):
    """A network whose first layer's gradient reveals the gradient that leaves the pooling layer."""
    kernel, stride, padding, (batch, channels, *size) = CASES[case]
    net = nn.Sequential(nn.Conv2d(1, channels, 1), nn.Tanh(), pool(kernel, stride, padding))
    return net, twins.images((batch, 1, *size))


@BOTH
@POOLS
@pytest.mark.parametrize("case", CASES)
def test_equals_plain_loops(pool, case, dtype):
    twins.same_as_naive(*pooled(pool, case), dtype=dtype)


@BOTH
@POOLS
def test_gradient_between_convolutions(pool, dtype):
    net = nn.Sequential(
        nn.Conv2d(1, 3, 2, stride=2), pool(3, 1, 1), nn.Conv2d(3, 2, 3, padding=2), nn.Flatten()
    )
    twins.same_as_naive(net, twins.images((3, 1, 8, 6)), dtype=dtype)


@POOLS
@pytest.mark.parametrize("case", ["2x2", "overlap and padding", "rectangle"])
def test_equals_finite_differences(pool, case):
    kernel, stride, padding, (batch, _, *size) = CASES[case]
    net = nn.Sequential(nn.Conv2d(1, 2, 2, padding=1), pool(kernel, stride, padding), nn.Sigmoid())
    net.init(4, dtype=np.float64)
    x = np.random.default_rng(9).permutation(batch * size[0] * size[1]).reshape(batch, 1, *size) / 10
    if pool is nn.MaxPool2d:
        assert gap(net.activations(x)["0"], kernel, stride, padding) > 0.01  # no kink within reach
    twins.same_as_differences(net, x, twins.images(net.forward(x).shape, 1), nn.MSELoss())


def gap(values, kernel, stride, padding):
    """The smallest distance between the two largest numbers of a window."""
    kernel, stride, padding = (
        v if isinstance(v, tuple) else (v, v) for v in (kernel, stride or kernel, padding)
    )
    _, inside = naive.windows(values.shape[2:], kernel, stride, padding)
    found = {}
    for line, column, _, _, row, col in inside:
        found.setdefault((line, column), []).append(values[:, :, row, col])
    return min(
        np.diff(np.sort(window, axis=0)[-2:], axis=0).min() for window in found.values() if len(window) > 1
    )


@given(st.data())
def test_equals_torch(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    pool = data.draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
    kernel = draw(1, 4), draw(1, 4)
    padding = draw(0, kernel[0] // 2), draw(0, kernel[1] // 2)
    size = kernel[0] + draw(0, 5), kernel[1] + draw(0, 5)
    net = nn.Sequential(nn.Conv2d(2, draw(1, 5), 1), pool(kernel, (draw(1, 4), draw(1, 4)), padding))
    twins.same_as_torch(net, twins.images((draw(1, 20), 2, *size)))


@BOTH
def test_ties_give_the_gradient_to_the_first_as_in_torch(dtype):
    x = np.random.default_rng(0).integers(0, 2, size=(9, 1, 6, 7)).astype(dtype)
    net = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(12, 2)
    )
    net.init(1, dtype=dtype).parameters["0.weight"][0, 0] = (np.arange(9) == 4).reshape(3, 3)
    values = net.activations(x)["0"]
    np.testing.assert_array_equal(values, x)  # full of ties
    target = np.arange(9) % 2
    _, grads = net.loss_and_grads(x, target, nn.CrossEntropyLoss())
    twin = twins.to_torch(net)
    loss = twins.torch_loss(nn.CrossEntropyLoss())(twin(twins.torch.tensor(x)), twins.torch.tensor(target))
    loss.backward()
    twins.close(grads["0.weight"], twin[0].weight.grad.numpy(), twins.PRECISION[dtype])


@POOLS
def test_nan_reaches_every_window_it_is_in(pool):
    weights = {"0.weight": np.ones((2, 1, 1, 1)), "0.bias": [np.nan, 0.0]}
    net = nn.Sequential(nn.Conv2d(1, 2, 1), pool(3, 2, 1)).load(weights)
    y = net.forward(np.ones((3, 1, 5, 5)))
    assert np.isnan(y[:, 0]).all()
    assert np.isfinite(y[:, 1]).all()


@pytest.mark.parametrize("place", range(9))
def test_one_nan_wins_wherever_it_stands(place):
    # a 1x1 kernel that turns infinity times 0 into the one NaN: inputs must be finite, so it is made inside
    x = np.zeros((2, 1, 3, 3), np.float32)
    x[1].flat[place] = 2.0
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1), nn.MaxPool2d(3))
    huge, one, zero = np.full((1, 1, 1, 1), 3e38), np.ones((1, 1, 1, 1)), np.zeros(1)
    net.load({"0.weight": huge, "0.bias": zero, "1.weight": 0 * one, "1.bias": zero})
    y = net.forward(x)
    assert y[0] == 0
    assert np.isnan(y[1])


@POOLS
def test_refuses_what_does_not_fit(pool):
    net = nn.Sequential({"small": pool(4)}).init(0)
    name = pool.__name__
    with pytest.raises(
        ShapeError, match=rf"layer 'small': {name}: a window of \(4, 4\) .* shape \(2, 3, 8\)"
    ):
        net.forward(np.zeros((1, 2, 3, 8)))
    with pytest.raises(
        ShapeError, match=rf"layer 'small': {name} needs images .* got samples of shape \(9,\)"
    ):
        net.forward(np.zeros((1, 9)))
    with pytest.raises(UnstuckError, match=rf"{name}: padding .* must be at most half of kernel_size"):
        pool(3, padding=2)
    with pytest.raises(
        UnstuckError, match=rf"{name}: kernel_size must be a whole number of at least 1, found 0"
    ):
        pool(0)
    with pytest.raises(UnstuckError, match=rf"{name}: stride must be a whole number of at least 1, found -1"):
        pool(2, stride=(1, -1))
