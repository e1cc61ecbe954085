"""The gradient check on networks in other styles: named, or located, and never named something else."""

import numpy as np
import pytest

import other_images
import other_networks
import other_sequences
import unstuck

BUILDERS = (*other_networks.BUILDERS, *other_sequences.BUILDERS, *other_images.BUILDERS)
PLANTED = (*other_networks.PLANTED, *other_sequences.PLANTED, *other_images.PLANTED)
NAMED = {
    ("flat_vector", "factor"),
    ("flat_vector", "sign"),
    ("flat_vector", "upstream ignored"),
    ("lists", "error sign"),
    ("memory", "unstable"),
    ("memory", "stale h"),
}
"""The quick ones; all others are measured together below."""


FEW = [entry for entry in PLANTED if (entry[0].__name__, entry[1]) in NAMED]


def checked(builder, slip):
    return unstuck.check_gradients(*builder(slip, np.random.default_rng(0)))


@pytest.mark.parametrize("builder", other_networks.BUILDERS[:2], ids=lambda builder: builder.__name__)
def test_right_code_raises_no_alarm(builder):
    report = checked(builder, "")
    assert report.ok, report.mistakes


@pytest.mark.long
@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_right_code_of_any_style_raises_no_alarm(builder):
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
    PLANTED,
    ids=[f"{entry[0].__name__}-{entry[1]}" for entry in PLANTED],
)
def test_a_planted_mistake_is_named_or_located(builder, slip, kinds, tensors):
    report = checked(builder, slip)
    assert not report.ok
    assert tensors <= {row.name for row in report.tensors}
    assert report.mistakes[0].kind in {*kinds, "unknown"}, report.mistakes
