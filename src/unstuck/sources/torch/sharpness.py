"""Sharpness: the largest curvature of the loss, by differences of gradients."""

import math
from collections.abc import Callable

import torch

from unstuck.sources.torch.scene import NotMeasured

Vector = list[torch.Tensor]

STEP = 1e-3
"""Size of a trial step, as a share of the size of the weights."""
RANDOM = 0.3
"""Length of the random part of the first direction, as a share of the rest."""
ENOUGH = 0.02
"""The iteration ends when its result changes by less than this share."""


def sharpness(
    weights: Vector, gradient: Callable[[], Vector], put: Callable[[], None], *, rounds: int = 6
) -> float:
    """Largest eigenvalue of the loss's second derivative H, by power iteration.

    With a direction v, |v| = 1, and a small step e: H v = (g(w + e v) - g(w - e v)) / 2e. It starts near the
    gradient, which mostly lies where the curvature is large. The largest eigenvalue in size may be negative;
    then H is shifted by it and the iteration goes on.

    Args:
        weights: the tensors w, moved during the call.
        gradient: g at the present weights, always of the same loss.
        put: puts the weights back.
        rounds: iterations at most, and as many again after a shift; each takes two gradients.

    Returns:
        The eigenvalue, in units of loss / weight².

    Raises:
        NotMeasured: when a gradient is not finite.

    References:
        Y. LeCun, P. Simard, B. Pearlmutter (1993), Automatic learning rate maximization by on-line
        estimation of the Hessian's eigenvectors.
    """
    size = max(_length(weights), 1e-6)
    step = STEP * size

    def curved(direction: Vector) -> Vector:
        sides: list[Vector] = []
        for sign in (1.0, -1.0):
            put()
            with torch.no_grad():
                for one, along in zip(weights, direction, strict=True):
                    one.add_(along, alpha=sign * step)
            sides.append(gradient())
        put()
        return [(ahead - behind) / (2 * step) for ahead, behind in zip(*sides, strict=True)]

    start = _start(gradient())
    value = _iterate(start, curved, 0.0, rounds)
    return _iterate(start, curved, -value, rounds) if value < 0 else value


def _iterate(direction: Vector, curved: Callable[[Vector], Vector], shift: float, rounds: int) -> float:
    """Rayleigh quotient of H, after power iteration with H + shift."""
    value = math.nan
    for _ in range(rounds):
        image = curved(direction)
        before, value = value, _dot(direction, image)
        shifted = [one + shift * along for one, along in zip(image, direction, strict=True)]
        length = _length(shifted)
        if not math.isfinite(length):
            raise NotMeasured("a gradient near the weights is not finite")
        if length == 0 or abs(value - before) <= ENOUGH * abs(value):
            break
        direction = [one / length for one in shifted]
    return value


def _start(gradient: Vector) -> Vector:
    """A direction of length 1: the gradient's, and a part at random that is always the same."""
    draws = torch.Generator().manual_seed(0)
    drawn = [torch.randn(one.shape, generator=draws).to(one.device, one.dtype) for one in gradient]
    share = RANDOM * _length(gradient) / max(_length(drawn), 1e-30) or 1.0
    mixed = [one + share * random for one, random in zip(gradient, drawn, strict=True)]
    length = _length(mixed)
    if not math.isfinite(length):
        raise NotMeasured("the gradient is not finite")
    return [one / length for one in mixed]


def _dot(a: Vector, b: Vector) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def _length(a: Vector) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(one.detach().double())) ** 2 for one in a))
