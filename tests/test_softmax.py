"""Softmax and LogSoftmax over features and channels, against plain loops, differences and PyTorch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twins
from unstuck import nn
from unstuck.errors import UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])

LAYERS = (nn.Softmax(), nn.LogSoftmax())
EACH = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.type)


@BOTH
@EACH
@pytest.mark.parametrize("batch", [1, 5, 17])
def test_equals_plain_loops_on_features(layer, batch, dtype):
    net = nn.Sequential(nn.Linear(3, 5), layer, nn.Linear(5, 4), layer)
    twins.same_as_naive(net, 3 * twins.images((batch, 3)), dtype=dtype)


@BOTH
@EACH
def test_equals_plain_loops_on_the_channels_of_images(layer, dtype):
    net = nn.Sequential(nn.Conv2d(1, 3, 2, padding=1), layer, nn.Conv2d(3, 2, 3, stride=2, padding=1))
    twins.same_as_naive(net, twins.images((3, 1, 4, 5)), dtype=dtype)


@EACH
def test_equals_finite_differences(layer):
    net = nn.Sequential(nn.Linear(3, 5), layer, nn.Linear(5, 2), layer).init(1, "he", np.float64)
    twins.same_as_differences(net, twins.images((6, 3)), twins.images((6, 2), 1), nn.MSELoss())


@given(
    st.sampled_from(LAYERS), st.integers(1, 12), st.integers(1, 12), st.integers(1, 20), st.floats(0.1, 3.0)
)
def test_equals_torch(layer, inputs, classes, batch, size):
    net = nn.Sequential(nn.Linear(inputs, classes), layer, nn.Linear(classes, 3))
    twins.same_as_torch(net, size * twins.images((batch, inputs)))


@given(st.sampled_from(LAYERS), st.integers(1, 6), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5))
def test_equals_torch_on_images(layer, channels, batch, height, width):
    net = nn.Sequential(nn.Conv2d(2, channels, 1), layer, nn.Conv2d(channels, 2, 3, padding=1))
    twins.same_as_torch(net, twins.images((batch, 2, height, width)))


@BOTH
@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
def test_sums_to_one_however_large_the_numbers(shift, dtype):
    net = nn.Sequential(nn.Linear(2, 4), nn.Softmax())
    net.load({"0.weight": np.zeros((4, 2)), "0.bias": shift + np.array([0.0, 1.0, 2.0, -30.0])}, dtype)
    y = net.forward(np.zeros((3, 2)))
    exact = np.exp([-2.0, -1.0, 0.0, -32.0]) / np.exp([-2.0, -1.0, 0.0, -32.0]).sum()
    np.testing.assert_allclose(y.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(y, np.broadcast_to(exact, y.shape), rtol=1e-6)


@BOTH
@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
def test_the_logarithm_stays_exact_where_softmax_vanishes(shift, dtype):
    net = nn.Sequential(nn.Linear(2, 3), nn.LogSoftmax())
    net.load({"0.weight": np.zeros((3, 2)), "0.bias": shift + np.array([0.0, -500.0, -1.0])}, dtype)
    exact = np.array([0.0, -500.0, -1.0]) - np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(net.forward(np.zeros((1, 2)))[0], exact, rtol=1e-6)


@BOTH
@EACH
@pytest.mark.parametrize("place", range(3))
def test_nan_makes_a_whole_sample_nan(layer, place, dtype):
    net = nn.Sequential(nn.Linear(2, 3), layer).init(0, dtype=dtype)
    net.parameters["0.bias"][place] = np.nan
    assert np.isnan(net.forward(np.zeros((2, 2)))).all()


@pytest.mark.parametrize("dim", [0, 2, -1, None])
def test_refuses_other_axes(dim):
    for kind in (nn.Softmax, nn.LogSoftmax):
        words = rf"{kind.__name__}: dim must be 1 \(features or channels\), found"
        with pytest.raises(UnstuckError, match=words):
            kind(dim)
