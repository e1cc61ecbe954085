"""Convolutions, against plain loops, differences and PyTorch."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import naive_network
import twins
from unstuck import nn
from unstuck.errors import ShapeError, UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])

# (in, out, kernel), options, (samples, height, width)
CASES = {
    "one of all": ((1, 1, 1), {}, (1, 1, 1)),
    "one number each": ((3, 4, 1), {}, (2, 4, 5)),
    "3x3": ((1, 4, 3), {"padding": 1}, (3, 8, 8)),
    "5x5": ((2, 3, 5), {"padding": 2}, (2, 7, 6)),
    "7x7": ((1, 2, 7), {"padding": 3}, (1, 8, 9)),
    "as large as the image": ((2, 3, 4), {}, (2, 4, 4)),
    "larger than the image": ((1, 2, 5), {"padding": 2}, (2, 3, 2)),
    "padding above kernel - 1": ((2, 3, 2), {"padding": 3}, (2, 4, 3)),
    "padding one above kernel - 1": ((1, 2, 1), {"padding": 1}, (1, 3, 3)),
    "rectangle": ((2, 3, (2, 4)), {"padding": (0, 3)}, (2, 5, 7)),
    "row": ((3, 2, (1, 5)), {}, (2, 3, 6)),
    "column": ((3, 2, (5, 1)), {"padding": (1, 0)}, (2, 6, 3)),
    "stride": ((2, 3, 3), {"stride": 2, "padding": 1}, (2, 7, 7)),
    "stride that leaves lines unused": ((2, 3, 2), {"stride": 3}, (2, 7, 6)),
    "stride above the kernel": ((2, 3, 1), {"stride": (2, 3)}, (2, 6, 8)),
    "stride per axis": ((1, 2, 3), {"stride": (1, 2), "padding": (2, 0)}, (2, 5, 8)),
    "stride that divides the line": ((2, 3, 1), {"stride": (1, 3)}, (2, 2, 6)),
    "stride that divides one line": ((1, 2, 1), {"stride": (1, 2)}, (3, 1, 8)),
    "stride, padding above kernel - 1": ((2, 2, 2), {"stride": 2, "padding": 2}, (2, 5, 4)),
    "many channels": ((5, 6, 3), {"padding": 1}, (1, 4, 5)),  # gradients tiled over channels
    "four channels": ((4, 4, 3), {}, (2, 5, 5)),
    "nine units": ((2, 9, 3), {}, (1, 4, 4)),  # two tiles and one unit
    "three units, one position": ((2, 3, 3), {}, (4, 3, 3)),
    "eight units, one position": ((4, 8, 2), {}, (3, 2, 2)),
    "a vector and a sample": ((1, 2, 3), {}, (17, 4, 4)),
    "eighteen units, no bias": ((1, 18, 1), {"bias": False}, (2, 2, 2)),
    "no bias": ((2, 3, 3), {"bias": False, "padding": 1}, (2, 4, 4)),
}


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_equals_plain_loops(case, dtype):
    sizes, options, (batch, height, width) = CASES[case]
    net = nn.Sequential(nn.Conv2d(*sizes, **options))
    twins.same_as_naive(net, twins.images((batch, sizes[0], height, width)), dtype=dtype)


@BOTH
@pytest.mark.parametrize("before", ["1x1", "stride 2", "padding 2"])
@pytest.mark.parametrize("case", CASES)
def test_input_gradient_equals_plain_loops(case, before, dtype):
    sizes, options, (batch, height, width) = CASES[case]
    first = {
        "1x1": nn.Conv2d(1, sizes[0], 1),
        "stride 2": nn.Conv2d(1, sizes[0], 2, stride=2),
        "padding 2": nn.Conv2d(1, sizes[0], (3, 1), padding=(2, 0)),
    }[before]
    shape = {
        "1x1": (height, width),
        "stride 2": (2 * height, 2 * width + 1),
        "padding 2": (max(height - 2, 1), width),
    }
    after = {"1x1": (), "stride 2": (nn.Flatten(),), "padding 2": (nn.Sigmoid(), nn.Flatten())}
    net = nn.Sequential(first, nn.Tanh(), nn.Conv2d(*sizes, **options), *after[before])
    twins.same_as_naive(net, twins.images((batch, 1, *shape[before])), dtype=dtype)


@BOTH
def test_chain_of_strides_and_paddings(dtype):
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=2),
        nn.Conv2d(3, 5, 2, padding=1),  # no activation between: one spread gradient feeds another
        nn.ReLU(),
        nn.Conv2d(5, 2, (3, 2), stride=(2, 1)),
        nn.Flatten(),
        nn.Linear(2 * 2 * 4, 3),
    )
    twins.same_as_naive(net, twins.images((3, 2, 7, 6)), nn.CrossEntropyLoss(), dtype)


@BOTH
def test_images_of_three_colours(dtype):
    net = nn.Sequential(
        nn.Conv2d(3, 2, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(98, 10)
    )
    twins.same_as_naive(net, twins.images((2, 3, 32, 32)), nn.CrossEntropyLoss(), dtype)


@pytest.mark.parametrize(
    "options",
    [{}, {"padding": 2}, {"stride": 2, "padding": 1}, {"bias": False}],
    ids=str,
)
def test_equals_finite_differences(options):
    net = nn.Sequential(nn.Conv2d(1, 3, 2, padding=1), nn.Tanh(), nn.Conv2d(3, 2, 3, **options))
    net.init(1, dtype=np.float64)
    x = twins.images((3, 1, 4, 5))
    twins.same_as_differences(net, x, twins.images(net.forward(x).shape, 1), nn.MSELoss())


@given(st.data())
def test_equals_torch(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    channels, units, batch = draw(1, 6), draw(1, 9), draw(1, 20)
    kernel, stride, padding = ((draw(1, 7), draw(1, 7)), (draw(1, 3), draw(1, 3)), (draw(0, 4), draw(0, 4)))
    size = draw(1, 9), draw(1, 9)
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    net = nn.Sequential(
        nn.Conv2d(2, channels, 1),
        nn.Sigmoid(),
        nn.Conv2d(channels, units, kernel, stride, padding, bias=data.draw(st.booleans())),
    )
    twins.same_as_torch(net, twins.images((batch, 2, *size)))


def test_a_dirac_kernel_copies_its_channel():
    x = twins.images((3, 2, 5, 4)).astype(np.float32)
    net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)).init(0)
    net.load({"0.weight": np.eye(2)[:, :, None, None] * (np.arange(9) == 4).reshape(3, 3), "0.bias": [0, 0]})
    np.testing.assert_array_equal(net.forward(x), x)


def test_border_stays_zero_between_samples():
    # the same memory serves one chunk after another: nothing of an earlier one may remain
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1)).init(0)
    x = twins.images((40, 1, 5, 5)).astype(np.float32)
    together = net.forward(x)
    alone = np.concatenate([net.forward(x[i : i + 1]) for i in range(40)])
    np.testing.assert_array_equal(together, alone)
    assert np.isfinite(naive_network.forward(net, net.parameters, x[:1])["2"]).all()


def test_refuses_shapes_that_do_not_fit():
    net = nn.Sequential({"conv": nn.Conv2d(3, 2, 5)}).init(0)
    with pytest.raises(ShapeError, match=r"layer 'conv': Conv2d needs 3 input channels, got 1 .*\(1, 8, 8\)"):
        net.forward(np.zeros((2, 1, 8, 8)))
    with pytest.raises(ShapeError, match=r"layer 'conv': .*kernel of \(5, 5\).* does not fit .*\(3, 4, 8\)"):
        net.forward(np.zeros((2, 3, 4, 8)))
    with pytest.raises(ShapeError, match=r"layer 'conv': Conv2d needs images \(N, C, H, W\), got .*\(75,\)"):
        net.forward(np.zeros((2, 75)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("in_channels", "out_channels") for value in (0, 1.5, True)),
        *(
            (name, value)
            for name in ("kernel_size", "stride")
            for value in (0, (1, 0), (1, 2, 3), (2.0, 2), True)
        ),
        *(("padding", value) for value in (-1, (0, -1), (1,), 0.5)),
    ],
    ids=str,
)
def test_refuses_sizes_out_of_range(name, value):
    with pytest.raises(UnstuckError, match=f"Conv2d: {name} must be .* found"):
        nn.Conv2d(**{"in_channels": 1, "out_channels": 1, "kernel_size": 3, name: value})
