"""Sharpness: the largest curvature of the loss, which limits the learning rate of gradient descent.

References:
    J. Cohen, S. Kaur, Y. Li, J. Z. Kolter, A. Talwalkar (2021), arXiv 2103.00065.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.checks import whole
from unstuck.nn.layout import Layout
from unstuck.nn.losses import Loss
from unstuck.nn.network import Sequential, as_samples, checked_inputs

Floats = NDArray[Any]

STEP = 1e-4
"""Size of a trial step, as a share of the size of the weights; for float64."""
RANDOM = 0.3
"""Length of the random part of the first direction, as a share of the gradient."""


def sharpness(
    net: Sequential,
    data: tuple[ArrayLike, ArrayLike],
    loss: Loss,
    *,
    rounds: int = 40,
    tolerance: float = 1e-3,
) -> float:
    """Largest eigenvalue of the loss's second derivative H, by power iteration.

    H v = (g(w + e v) - g(w - e v)) / 2e for a small e. Gradient descent with learning rate LR is unstable
    along the eigenvector where LR λ / 2 > 1; where that is so everywhere, training hovers about LR λ / 2 = 1.

    As in training, batch normalisation takes the statistics of the data given; dropout lets everything pass.

    Args:
        net: with weights; they are not changed. Differences are taken in float64.
        data: (inputs, targets), all of them at once.
        loss: for example `nn.MSELoss()`.
        rounds: iterations at most; each takes two gradients.
        tolerance: relative change at which the iteration ends.

    Returns:
        λ, in units of loss / weight².

    Raises:
        UnstuckError: no weights yet, or gradients that are not finite.
        ShapeError, DataError: data that do not fit.

    Example:
        The loss (w x)² has the second derivative 2 x²:

        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False)).init(seed=0)
        >>> round(sharpness(net, ([[3.0]], [[0.0]]), nn.MSELoss()), 6)
        18.0

    References:
        Y. LeCun, P. Simard, B. Pearlmutter (1993), Automatic learning rate maximization by on-line estimation
        of the Hessian's eigenvectors; J. Cohen et al. (2021), arXiv 2103.00065.
    """
    from unstuck.nn.runner import Runner

    whole("rounds", rounds, 1)
    twin = Sequential(dict(net.layers)).load(net.state, np.float64)
    inputs = checked_inputs(data[0], twin.dtype)
    program = twin.program(inputs.shape[1:], twin.dtype)
    program.check_batch(len(inputs), training=True)
    samples = as_samples(inputs, data[1], loss, program)
    runner = Runner(program, twin.layout(twin.dtype), twin.dtype)
    step = STEP * max(float(np.linalg.norm(twin.flat)), 1e-6)

    def gradient(params: Floats) -> Floats:
        runner.gradient(params, samples, loss)
        found = runner.gradients.copy()
        if not np.isfinite(found).all():
            msg = "sharpness: a gradient near the weights is not finite"
            raise UnstuckError(msg)
        return found

    def curved(along: Floats) -> Floats:
        ahead, behind = gradient(twin.flat + step * along), gradient(twin.flat - step * along)
        return (ahead - behind) / (2 * step)

    start = _start(gradient(twin.flat), twin.layout(twin.dtype))
    value = _iterate(curved, start, 0.0, rounds, tolerance)
    # the largest in size is negative: shifted by it, the largest itself is the largest in size
    return _iterate(curved, start, -value, rounds, tolerance) if value < 0 else value


def _iterate(
    curved: Callable[[Floats], Floats], along: Floats, shift: float, rounds: int, tolerance: float
) -> float:
    """Rayleigh quotient of H, after power iteration with H + shift."""
    value = 0.0
    for _ in range(rounds):
        image = curved(along)
        before, value = value, float(along @ image)
        image = image + shift * along
        length = float(np.linalg.norm(image))
        if length == 0 or abs(value - before) <= tolerance * abs(value):
            break
        along = image / length
    return value


def _start(gradient: Floats, layout: Layout) -> Floats:
    """Direction of length 1: the gradient's, which lies where the curvature is large, and some of all."""
    drawn = np.zeros_like(gradient)
    for name, view in layout.views(drawn).items():
        view[...] = random.normal(0, random.DATA, layout.offsets[name] + np.arange(view.size)).reshape(
            view.shape
        )
    size = float(np.linalg.norm(gradient))
    mixed = gradient + RANDOM * size / float(np.linalg.norm(drawn)) * drawn if size else drawn
    return mixed / np.linalg.norm(mixed)
