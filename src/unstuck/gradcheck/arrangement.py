"""Is one array the other one, moved: scaled, transposed, flipped, rolled? Some of its entries tell."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.tree import Array

CLOSE = 2e-3
"""Arrays are taken for the same when they differ by less than this part of their size."""


@dataclass(frozen=True)
class Moved:
    """How the right gradient would have to be moved to give the other one."""

    permutation: tuple[int, ...]
    flipped: tuple[int, ...]
    rolled: tuple[int, int]
    """Axis and number of places; (0, 0): not at all."""
    factor: float


def ratio(given: Array, right: Array, close: float = CLOSE) -> float | None:
    """c, where given = c * right but for noise; None where there is no such number, or right is zero."""
    size = float((right**2).sum())
    if size == 0 or not np.isfinite(given).all():
        return None
    c = float((given * right).sum() / size)
    if c == 0 or float(((given - c * right) ** 2).sum()) > (close * abs(c)) ** 2 * size:
        return None
    return c


def same(given: Array, right: Array, close: float = CLOSE) -> bool:
    """Whether two arrays of one shape are equal but for noise."""
    size = float(np.sqrt((right**2).sum()))
    return float(np.sqrt(((given - right) ** 2).sum())) <= close * max(size, 1e-300)


def arrangements(  # noqa: C901, PLR0912  (one list of moves)
    given: Array, right: Array, index: Array
) -> Iterator[Moved]:
    """All simple ways in which given holds the right numbers in other places.

    Args:
        given: the user's gradient, all of it.
        right: the right gradient where it is known.
        index: flat indices of the entries in `right`.
    """
    shape = given.shape
    if right.size < 2 or float(np.ptp(right)) <= 1e-9 * float(np.abs(right).max()):
        return
    places = np.array(np.unravel_index(index, shape))
    axes = range(given.ndim)
    for permutation in itertools.permutations(axes):
        if tuple(shape[axis] for axis in permutation) != shape:
            continue
        moved = places[list(permutation)]
        long = [axis for axis in axes if shape[axis] > 1]
        subsets = itertools.chain.from_iterable(itertools.combinations(long, n) for n in range(len(long) + 1))
        for flipped in subsets:
            if not flipped and permutation == tuple(axes):
                continue
            turned = moved.copy()
            for axis in flipped:
                turned[axis] = shape[axis] - 1 - turned[axis]
            found = ratio(given[tuple(turned)], right)
            if found is not None:
                yield Moved(permutation, flipped, (0, 0), found)
        if permutation != tuple(axes):
            continue
        for axis in long:
            for by in (1, -1, 2, -2):
                if shape[axis] < 3 or abs(by) >= shape[axis]:
                    continue
                turned = places.copy()
                turned[axis] = turned[axis] + by
                inside = (turned[axis] >= 0) & (turned[axis] < shape[axis])
                turned[axis] %= shape[axis]
                found = ratio(given[tuple(turned)], right)
                if found is None and inside.sum() >= 4 and float(np.ptp(right[inside])) > 0:
                    found = ratio(given[tuple(turned[:, inside])], right[inside])
                if found is not None:
                    yield Moved(permutation, (), (axis, by), found)


def permuted(given: Array, right: Array) -> bool:
    """Whether the same numbers stand in another order."""
    a, b = np.sort(given.reshape(-1)), np.sort(right.reshape(-1))
    return a.size == b.size and float(np.ptp(b)) > 0 and same(a, b, 1e-4)
