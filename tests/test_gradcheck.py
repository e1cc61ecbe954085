"""The gradient check: planted mistakes are named, right code is left alone, bad input is told."""

import numpy as np
import pytest

import own_networks
import unstuck
from unstuck.gradcheck.mistakes import KINDS

PLANTED = own_networks.PLANTED


@pytest.mark.parametrize("builder", own_networks.BUILDERS, ids=lambda builder: builder.__name__)
def test_right_code_raises_no_alarm(builder):
    report = unstuck.check_gradients(*builder("", np.random.default_rng(0)))
    assert report.ok, report.mistakes


@pytest.mark.parametrize(
    ("builder", "slip", "kind", "tensor"),
    PLANTED,
    ids=[f"{entry[0].__name__}-{entry[1]}" for entry in PLANTED],
)
def test_a_planted_mistake_is_named(builder, slip, kind, tensor):
    report = unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))
    assert not report.ok
    assert (report.mistakes[0].tensor, report.mistakes[0].kind) == (tensor, kind), report.mistakes
    assert report.mistakes[0].kind in KINDS
