"""Schemes: their laws, bounds and special forms, against SciPy, PyTorch and NumPy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from chains import CNN, chain, scheme
from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.initialise import Initialisation, Scheme, draw, plan
from unstuck.nn.schemes import DRAWS

WIDE = chain((300, 20, 3, 3))  # fan_in 180, fan_out 2700: mixing them up would show


def uniform_law(width):
    return stats.uniform(-width, 2 * width)


LAWS = {
    "default": uniform_law(1 / math.sqrt(180)),
    "uniform": stats.uniform(-1, 3),
    "normal": stats.norm(1, 0.5),
    "glorot_uniform": uniform_law(math.sqrt(6 / 2880)),
    "glorot_normal": stats.norm(0, math.sqrt(2 / 2880)),
    "he_uniform": uniform_law(math.sqrt(6 / 180)),
    "he_normal": stats.norm(0, math.sqrt(2 / 180)),
    "lecun_uniform": uniform_law(math.sqrt(3 / 180)),
    "lecun_normal": stats.norm(0, math.sqrt(1 / 180)),
}


def test_every_scheme_is_tested():
    assert {
        *LAWS,
        "zeros",
        "ones",
        "constant",
        "identity",
        "dirac",
        "orthogonal",
        "delta_orthogonal",
        "lsuv",
    } == set(DRAWS)


@pytest.mark.parametrize("name", LAWS)
def test_random_schemes_have_their_law(name):
    values = draw(WIDE, Initialisation(weights=scheme(name)), 1)["0.weight"].ravel()
    assert stats.kstest(values, LAWS[name].cdf).pvalue > 1e-3
    wider = LAWS[name].mean() + 1.05 * (values - LAWS[name].mean())
    assert stats.kstest(wider, LAWS[name].cdf).pvalue < 1e-3  # the same test sees a spread 5 % too wide
    assert LAWS[name].support()[0] <= values.min()
    assert values.max() <= LAWS[name].support()[1]


@pytest.mark.parametrize("shape", [(40, 50), (16, 4, 5, 5)])
def test_default_has_the_bounds_of_torch(shape):
    layer = torch.nn.Linear(50, 40) if len(shape) == 2 else torch.nn.Conv2d(4, 16, 5)
    values = draw(chain(shape), Initialisation(), 0)
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    theirs = [np.abs(np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])).max()]
    ours = [np.abs(array).max() for array in values.values()]
    assert all(0.8 * bound < largest <= bound * (1 + 1e-6) for largest in theirs + ours)


@pytest.mark.parametrize("shape", [(40, 50), (16, 4, 5, 3)])
def test_fans_are_those_of_torch(shape):
    expected = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    for spec in chain(shape):
        assert (spec.fan_in, spec.fan_out) == expected


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (6, 2, 5, 3), (2, 6, 1, 2), (3, 3, 4, 4)])
def test_dirac_is_that_of_torch(shape):
    values = draw(chain(shape), Initialisation(weights=Scheme("dirac")), 0)["0.weight"]
    np.testing.assert_array_equal(values, torch.nn.init.dirac_(torch.empty(shape)).numpy())


def test_identity_is_in_every_kernel_slice():
    values = draw(chain((4, 2, 3, 5), (6, 4)), Initialisation.of("identity"), 0)
    for kernel in values["0.weight"].reshape(-1, 3, 5):
        np.testing.assert_array_equal(kernel, np.eye(3, 5))
    np.testing.assert_array_equal(values["1.weight"], np.eye(6, 4))
    np.testing.assert_array_equal(
        draw(chain((3, 5)), Initialisation.of("dirac"), 0)["0.weight"], np.eye(3, 5)
    )


@pytest.mark.parametrize(("name", "value"), [("zeros", 0.0), ("ones", 1.0), ("unit", 1.0), ("constant", 0.3)])
def test_constants(name, value):
    values = draw(CNN, Initialisation(weights=scheme(name), bias=scheme(name, gain=2.0)), 0)
    assert all(
        (array == (2 * value if name.endswith("bias") else value)).all() for name, array in values.items()
    )


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (1, 4), (4, 1), (4, 3, 2, 2), (40, 70)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    values = plan(chain(shape), Initialisation.of("orthogonal")).draw_many(range(30))["0.weight"]
    for matrix in values.reshape(30, shape[0], -1):
        short = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        np.testing.assert_allclose(short @ short.T, np.eye(len(short)), atol=1e-13)


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3)])
def test_orthogonal_is_the_q_of_a_library_with_positive_signs(shape):
    normals = random.normal(4, random.INIT, np.arange(math.prod(shape))).reshape(shape)
    tall = normals if shape[0] >= shape[1] else normals.T
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diag(r))
    values = draw(chain(shape), Initialisation.of("orthogonal"), 4)["0.weight"]
    np.testing.assert_allclose(values, q if shape[0] >= shape[1] else q.T, atol=1e-12)


def test_orthogonal_is_uniformly_distributed():
    angles = plan(chain((2, 2)), Initialisation.of("orthogonal")).draw_many(range(20_000))["0.weight"]
    turn = np.arctan2(angles[:, 1, 0], angles[:, 0, 0]) / (2 * math.pi) % 1.0
    assert stats.kstest(turn, "uniform").pvalue > 1e-3
    assert stats.binomtest(int((np.linalg.det(angles) > 0).sum()), 20_000).pvalue > 1e-3


def test_delta_orthogonal_is_orthogonal_at_the_centre_and_zero_around_it():
    values = draw(chain((6, 4, 3, 3)), Initialisation(weights=Scheme("delta_orthogonal", gain=2.0)), 0)[
        "0.weight"
    ]
    centre = values[:, :, 1, 1]
    np.testing.assert_allclose(centre.T @ centre, 4 * np.eye(4), atol=1e-13)
    assert np.count_nonzero(values) == np.count_nonzero(centre)
    with pytest.raises(
        UnstuckError, match=r"0\.weight: scheme 'delta_orthogonal' needs as many outputs as inputs"
    ):
        draw(chain((3, 4, 3, 3)), Initialisation.of("delta_orthogonal"), 0)


@pytest.mark.parametrize("name", DRAWS)
def test_gain_multiplies_the_values(name):
    specs = chain((4, 4, 3, 3))
    once, often = (
        draw(specs, Initialisation(weights=scheme(name, gain=g)), 1)["0.weight"] for g in (1.0, 4.0)
    )
    np.testing.assert_array_equal(often, 4 * once)
