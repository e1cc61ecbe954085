"""Linear layers, against plain loops, differences and PyTorch."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twins
from unstuck import nn
from unstuck.errors import ShapeError, UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


@BOTH
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(
    ("widths", "batch"),
    [
        ((1, 1), 1),  # one input, one unit, one sample
        ((1, 3, 1), 5),
        ((7, 5), 3),
        ((3, 8, 2), 16),  # 8 units: one tall tile; 16 samples: one vector of float32
        ((5, 9, 4), 17),  # units and samples just above
        ((4, 7, 13, 3), 33),
        ((2, 33, 10), 40),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else f"batch{value}",
)
def test_equals_plain_loops(widths, batch, bias, dtype):
    net = nn.Sequential(*(nn.Linear(n, m, bias) for n, m in itertools.pairwise(widths)))
    twins.same_as_naive(net, twins.images((batch, widths[0])), dtype=dtype)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_equals_finite_differences(bias):
    net = nn.Sequential(nn.Linear(3, 5, bias), nn.Tanh(), nn.Linear(5, 2, bias)).init(1, dtype=np.float64)
    x = twins.images((9, 3))
    twins.same_as_differences(net, x, twins.images((9, 2), 1), nn.MSELoss())


@given(st.lists(st.integers(1, 20), min_size=2, max_size=4), st.integers(1, 40), st.booleans())
def test_equals_torch(widths, batch, bias):
    net = nn.Sequential(*(nn.Linear(n, m, bias) for n, m in itertools.pairwise(widths)))
    twins.same_as_torch(net, twins.images((batch, widths[0])))


def test_refuses_other_widths_by_name():
    net = nn.Sequential({"first": nn.Linear(4, 3), "second": nn.Linear(5, 2)}).init(0)
    with pytest.raises(ShapeError, match=r"layer 'second': Linear needs samples of shape \(5,\), got \(3,\)"):
        net.forward(np.zeros((2, 4)))
    with pytest.raises(ShapeError, match=r"layer 'first': Linear needs samples of shape \(4,\), got \(6,\)"):
        net.forward(np.zeros((2, 6)))
    with pytest.raises(ShapeError, match=r"layer 'first': .* got \(1, 2, 2\) \(put a Flatten before it\)"):
        net.forward(np.zeros((2, 1, 2, 2)))


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None], ids=repr)
@pytest.mark.parametrize("name", ["in_features", "out_features"])
def test_refuses_widths_that_are_no_counts(name, value):
    with pytest.raises(UnstuckError, match=f"Linear: {name} must be a whole number of at least 1, found"):
        nn.Linear(**{"in_features": 3, "out_features": 3, name: value})
