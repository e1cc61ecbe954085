"""Loss change allocation: how much of the fall of the loss each parameter tensor made, along the path.

Between two points of the path, the change of the loss is the integral of gradient times movement, and so it
splits exactly into one part for each tensor:

    L(b) - L(a) = sum over tensors of  integral_0^1 g_tensor(a + t (b - a)) . (b - a)_tensor  dt

The integral is taken by Simpson's rule. Where the parts do not add up to the true change, the piece is
halved, up to 32 times; without this the sum can be wrong by a third.

References:
    J. Lan, R. Liu, H. Zhou, J. Yosinski (2019), LCA: Loss Change Allocation for Neural Network Training,
    arXiv:1909.01440.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
LossAndGradient = Callable[[Array], tuple[float, Array]]

TOLERANCE = 1e-2
"""Error allowed over the whole path, as a share of the whole change of the loss."""
DEPTH = 5
"""A piece is halved at most so often: 32 parts."""


@dataclass(frozen=True)
class Allocation:
    """Where the loss went."""

    parts: dict[str, float]
    """Change of the loss that each tensor made (negative: it lowered the loss)."""
    change: float
    """True change of the loss from the first point of the path to the last."""

    @property
    def error(self) -> float:
        """|sum of the parts - true change| / |true change|; 0 when nothing changed at all."""
        missing = abs(sum(self.parts.values()) - self.change)
        return missing / abs(self.change) if self.change else (np.inf if missing else 0.0)


def allocate(
    path: Sequence[Array], loss_and_gradient: LossAndGradient, tensors: dict[str, slice]
) -> Allocation:
    """Allocate the change of a loss along a path of straight pieces.

    Args:
        path: points in parameter space, (numbers,) each; at least one.
        loss_and_gradient: the loss at a point, and its gradient of the same shape (copied by the caller).
        tensors: name to the slice of a point that belongs to the tensor.

    Returns:
        The parts, whose sum is the true change within a fraction of a percent.

    Example:
        >>> path = [np.array([1.0, 1.0]), np.array([0.0, 1.0])]
        >>> square = lambda p: (float(p @ p), 2 * p)
        >>> allocate(path, square, {"a": slice(0, 1), "b": slice(1, 2)}).parts
        {'a': -1.0, 'b': 0.0}
    """
    first, last = loss_and_gradient(path[0]), loss_and_gradient(path[-1])
    change = last[0] - first[0]
    allowed = TOLERANCE * abs(change) / max(len(path) - 1, 1)
    parts = dict.fromkeys(tensors, 0.0)
    before = first
    for start, end in itertools.pairwise(path):
        after = last if end is path[-1] else loss_and_gradient(end)
        _piece(start, end, before, after, loss_and_gradient, tensors, parts, allowed, DEPTH)
        before = after
    return Allocation(parts, change)


def _piece(
    start: Array,
    end: Array,
    before: tuple[float, Array],
    after: tuple[float, Array],
    loss_and_gradient: LossAndGradient,
    tensors: dict[str, slice],
    parts: dict[str, float],
    allowed: float,
    depth: int,
) -> None:
    """Add one straight piece's parts, halving it where Simpson's rule misses the true change."""
    middle = (start + end) / 2
    between = loss_and_gradient(middle)
    moved = end.astype(np.float64) - start
    slope = (before[1].astype(np.float64) + 4.0 * between[1] + after[1]) / 6.0
    flow = slope * moved
    missing = abs(float(flow.sum()) - (after[0] - before[0]))
    if depth > 0 and missing > allowed:
        half = allowed / 2
        _piece(start, middle, before, between, loss_and_gradient, tensors, parts, half, depth - 1)
        _piece(middle, end, between, after, loss_and_gradient, tensors, parts, half, depth - 1)
        return
    for name, place in tensors.items():
        parts[name] += float(flow[place].sum())
