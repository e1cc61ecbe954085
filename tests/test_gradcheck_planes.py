"""Networks whose convolutions are SciPy's are followed through them."""

import numpy as np
import pytest

import unstuck
from unstuck.gradcheck.tape.planes import convolved

signal = pytest.importorskip("scipy.signal")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(("mode", "number"), [("valid", 0), ("same", 1), ("full", 2)])
@pytest.mark.parametrize("sizes", [((6, 7), (3, 3)), ((6, 7), (2, 3)), ((5, 5), (4, 2)), ((4, 4), (1, 1))])
def test_planes_are_convolved_as_scipy_does_it(sizes, mode, number, turned):
    a, v = (RNG.normal(size=size) for size in sizes)
    right = (signal.convolve2d if turned else signal.correlate2d)(a, v, mode=mode)
    np.testing.assert_allclose(convolved(a, v, number, turned=turned), right, rtol=1e-12, atol=1e-12)


def network(slip=""):
    """As in many a course: planes by SciPy, a sigmoid, a dense layer, half the squared error."""
    params = {"K": RNG.normal(size=(2, 3, 3)) * 0.5, "b": np.zeros(2), "W": RNG.normal(size=(1, 32)) * 0.3}
    wanted = RNG.normal(size=(4, 1))

    def forward(params, x):
        z = np.zeros((len(x), 2, 4, 4))
        for n in range(len(x)):
            for k in range(2):
                z[n, k] = signal.correlate2d(x[n], params["K"][k], mode="valid") + params["b"][k]
        a = 1 / (1 + np.exp(-z))
        flat = a.reshape(len(x), -1)
        answer = flat @ params["W"].T
        return 0.5 * np.sum((answer - wanted) ** 2), (x, z, a, flat, answer)

    def backward(params, cache, dloss):
        x, z, a, flat, answer = cache
        wrong = dloss * (answer - wanted)
        da = (wrong @ params["W"]).reshape(a.shape)
        dz = da * z * (1 - z) if slip == "of z" else da * a * (1 - a)
        dK, dx = np.zeros_like(params["K"]), np.zeros_like(x)
        for n in range(len(x)):
            for k in range(2):
                dK[k] += signal.correlate2d(x[n], dz[n, k], mode="valid")
                turn = signal.correlate2d if slip == "not turned" else signal.convolve2d
                dx[n] += turn(dz[n, k], params["K"][k], mode="full")
        return dx, {"K": dK, "b": dz.sum((0, 2, 3)), "W": wrong.T @ flat}

    return forward, backward, params, RNG.normal(size=(4, 6, 6))


def test_right_code_raises_no_alarm():
    assert unstuck.check_gradients(*network()).ok


@pytest.mark.parametrize(
    ("slip", "kind"),
    [
        ("of z", "activation-derivative-at-input"),
        ("not turned", "kernel-not-flipped"),
    ],
)
def test_slips_are_named(slip, kind):
    assert unstuck.check_gradients(*network(slip)).mistakes[0].kind == kind


def test_scipy_is_left_as_it_was():
    inner = signal._signaltools._sigtools
    before = inner._convolve2d
    unstuck.check_gradients(*network("of z"))
    assert inner._convolve2d is before
