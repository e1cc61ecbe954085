"""The gradient check on a third set of networks: modules, gates, heads, tied weights, radial functions."""

import numpy as np
import pytest

import unseen_networks
import unstuck

NAMED = {
    ("gru_dict", "memory missing"),
    ("radial", "exp missing"),
    ("radial", "width sign"),
    ("tied", "sigmoid at input"),
}
"""Quick ones; all others are measured together below."""


FEW = [entry for entry in unseen_networks.PLANTED if (entry[0].__name__, entry[1]) in NAMED]


def checked(builder, slip):
    return unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))


@pytest.mark.parametrize("builder", unseen_networks.BUILDERS, ids=lambda builder: builder.__name__)
def test_right_code_raises_no_alarm(builder):
    report = checked(builder, "")
    assert report.ok, report.mistakes


@pytest.mark.parametrize(
    ("builder", "slip", "kinds", "tensors"),
    FEW,
    ids=[f"{entry[0].__name__}-{entry[1]}" for entry in FEW],
)
def test_a_planted_mistake_is_named(builder, slip, kinds, tensors):
    report = checked(builder, slip)
    assert report.mistakes[0].kind in kinds, report.mistakes
    assert report.mistakes[0].tensor in tensors


@pytest.mark.long
@pytest.mark.parametrize(
    ("builder", "slip", "kinds", "tensors"),
    unseen_networks.PLANTED,
    ids=[f"{entry[0].__name__}-{entry[1]}" for entry in unseen_networks.PLANTED],
)
def test_a_planted_mistake_is_named_or_located(builder, slip, kinds, tensors):
    report = checked(builder, slip)
    assert not report.ok
    assert tensors <= {row.name for row in report.tensors}
    assert report.mistakes[0].kind in {*kinds, "unknown"}, report.mistakes
