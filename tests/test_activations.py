"""Activations, against plain loops, differences and PyTorch."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive
import twins
from unstuck import nn
from unstuck.errors import UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
LAYERS = {
    "Sigmoid": nn.Sigmoid(),
    "Tanh": nn.Tanh(),
    "ReLU": nn.ReLU(),
    "LeakyReLU": nn.LeakyReLU(),
    "LeakyReLU(0.3)": nn.LeakyReLU(0.3),
    "LeakyReLU(0)": nn.LeakyReLU(0),
    "LeakyReLU(2)": nn.LeakyReLU(2.0),
    "ELU": nn.ELU(),
    "ELU(0.3)": nn.ELU(0.3),
    "ELU(0)": nn.ELU(0),
    "GELU": nn.GELU(),
    "GELU(tanh)": nn.GELU("tanh"),
    "SiLU": nn.SiLU(),
    "Softplus": nn.Softplus(),
    "Softplus(3, 1.5)": nn.Softplus(3.0, 1.5),
}
EACH = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)


@BOTH
@EACH
@pytest.mark.parametrize("batch", [1, 7, 16, 33])
def test_equals_plain_loops_on_features(layer, batch, dtype):
    net = nn.Sequential(nn.Linear(3, 5), layer, nn.Linear(5, 4), layer)
    twins.same_as_naive(net, twins.images((batch, 3)), dtype=dtype)


@BOTH
@EACH
def test_equals_plain_loops_on_images(layer, dtype):
    # the gradients lie spread out between two convolutions
    net = nn.Sequential(nn.Conv2d(2, 3, 2, stride=2), layer, nn.Conv2d(3, 2, 3, padding=1), layer)
    twins.same_as_naive(net, twins.images((3, 2, 6, 7)), dtype=dtype)


def kinks(layer, x):
    """How far x is from the place where the slope jumps."""
    return layer.beta * x - layer.threshold if isinstance(layer, nn.Softplus) else x


@EACH
def test_equals_finite_differences(layer):
    net = nn.Sequential(nn.Linear(3, 6), layer, nn.Linear(6, 2)).init(1, dtype=np.float64)
    x = twins.images((8, 3), 6)
    before = np.abs(kinks(layer, net.activations(x)["0"])).min()
    assert before > 4e-3  # no kink within reach of a step of 4e-4 times an input below 3
    assert np.abs(x).max() < 3
    twins.same_as_differences(net, x, twins.images((8, 2), 1), nn.MSELoss())


@given(
    st.sampled_from(list(LAYERS.values())),
    st.lists(st.integers(1, 12), min_size=2, max_size=4),
    st.integers(1, 40),
    st.floats(0.1, 1.0),
)
def test_equals_torch(layer, widths, batch, size):
    parts = [part for n, m in itertools.pairwise(widths) for part in (nn.Linear(n, m), layer)]
    twins.same_as_torch(nn.Sequential(*parts), size * twins.images((batch, widths[0])))


@BOTH
@EACH
def test_values_from_far_left_to_far_right(layer, dtype):
    values = np.concatenate([-np.logspace(2, -6, 50), [0.0], np.logspace(-6, 2, 50)]).astype(dtype)[:, None]
    net = nn.Sequential(nn.Linear(1, 1), layer).load({"0.weight": [[1.0]], "0.bias": [0.0]}, dtype)
    expected = twins.to_torch(net.copy()).double()(twins.torch.tensor(values).double()).detach().numpy()
    # exp stops at e**-87 in float32: sigmoid is 0 to within that, and SiLU to within 87 times as much.
    # PyTorch adds erf to 1, and both add tanh to 1: where GELU is small, such a sum has lost its digits
    digits = dtype if layer == nn.GELU("tanh") else np.float64
    lost = np.abs(values) * np.finfo(digits).eps if isinstance(layer, nn.GELU) else 2e-36
    relative = 1e-6 if dtype is np.float32 else 1e-14
    assert (np.abs(net.forward(values) - expected) <= relative * np.abs(expected) + lost).all()


@BOTH
def test_gelu_keeps_its_digits_far_to_the_left(dtype):
    values = -np.linspace(0, 12, 200).astype(dtype)[:, None]
    net = nn.Sequential(nn.Linear(1, 1), nn.GELU()).load({"0.weight": [[1.0]], "0.bias": [0.0]}, dtype)
    expected = naive.each(naive.gelu, values)
    # far out, erfc itself is only right to 1e-14 in float64
    np.testing.assert_allclose(net.forward(values), expected, rtol=1e-6 if dtype is np.float32 else 1e-13)


@BOTH
@EACH
def test_nan_stays_nan_and_infinity_goes_to_the_limit(layer, dtype):
    net = nn.Sequential(nn.Linear(1, 4), layer)
    net.load({"0.weight": np.zeros((4, 1)), "0.bias": [np.nan, np.inf, -np.inf, 1.0]}, dtype)
    nan, high, low, _ = net.forward(np.zeros((1, 1)))[0]
    assert np.isnan(nan)
    if isinstance(layer, nn.Sigmoid):
        assert (high, low) == (1.0, pytest.approx(0.0, abs=2e-38))
    elif isinstance(layer, nn.Tanh):
        assert (high, low) == (1.0, -1.0)
    elif isinstance(layer, nn.ELU):
        assert high == np.inf
        assert low == pytest.approx(-layer.alpha)
    elif isinstance(layer, nn.GELU | nn.SiLU | nn.Softplus):
        assert high == np.inf
        assert low == pytest.approx(0.0, abs=2e-36)
    else:
        assert high == np.inf
        slope = getattr(layer, "negative_slope", 0.0)
        assert low == (-np.inf if slope else 0.0) or (isinstance(layer, nn.LeakyReLU) and not slope)


@BOTH
@EACH
def test_nan_reaches_the_gradients(layer, dtype):
    net = nn.Sequential(nn.Linear(1, 2), layer, nn.Linear(2, 1)).init(0, dtype=dtype)
    net.parameters["0.bias"][0] = np.nan
    value, grads = net.loss_and_grads(np.ones((3, 1)), np.zeros((3, 1)), nn.MSELoss())
    assert np.isnan(value)
    assert np.isnan(grads["0.weight"][0]).all()
    assert np.isnan(grads["2.weight"]).all()


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.LeakyReLU(0.1)], ids=["ReLU", "LeakyReLU"])
def test_slope_at_zero_is_that_of_the_left(layer):
    net = nn.Sequential(nn.Linear(1, 1), layer).load({"0.weight": [[0.0]], "0.bias": [0.0]})
    _, grads = net.loss_and_grads(np.ones((1, 1)), np.ones((1, 1)), nn.MSELoss())
    assert grads["0.bias"][0] == pytest.approx(-2 * getattr(layer, "negative_slope", 0.0))


@pytest.mark.parametrize("slope", [-0.1, float("nan")])
def test_refuses_negative_slopes_below_zero(slope):
    with pytest.raises(UnstuckError, match="LeakyReLU: negative_slope must be at least 0, found"):
        nn.LeakyReLU(slope)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.ELU(-1.0), "ELU: alpha must be at least 0, found -1.0"),
        (lambda: nn.ELU(float("nan")), "ELU: alpha must be a finite number, found nan"),
        (lambda: nn.GELU("erf"), "GELU: approximate must be 'none' or 'tanh', found 'erf'"),
        (lambda: nn.Softplus(0.0), "Softplus: beta must be above 0, found 0.0"),
        (lambda: nn.Softplus(1.0, float("inf")), "Softplus: threshold must be a finite number, found inf"),
    ],
)
def test_refuses_numbers_out_of_range(make, words):
    with pytest.raises(UnstuckError, match=words):
        make()
