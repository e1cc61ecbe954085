"""How many rows of a matrix are different, without comparing all pairs."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

BLOCK = 512
"""Rows that are compared with each other at once: bounds the memory to BLOCK × rows."""


def count_distinct(rows: Matrix, tolerance: float) -> int:
    """Number of different rows: two are the same when |a − b| ≤ tolerance · max(|a|, |b|).

    All rows are projected on one fixed direction r, |r| = 1, and sorted. By Cauchy and Schwarz
    |r·a − r·b| ≤ |a − b|, so that only rows with close projections can be the same: gaps cut the sorted rows
    into groups, most of them of one row, and only within a group rows are compared. A row joins the first
    representative it equals, otherwise it becomes one; where sameness is not transitive (a chain of rows,
    each within the tolerance of the next), the count lies between that of the chain and that of its links.

    Args:
        rows: (n, d), finite, of a size whose squares are (scale them by their maximum).
        tolerance: relative distance up to which rows are the same, below 0.1.

    Returns:
        The number of different rows; 0 for no rows.

    Example:
        >>> count_distinct(np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]]), 1e-6)
        2
    """
    if len(rows) < 2:
        return len(rows)
    projections = rows @ _direction(rows.shape[1])
    order = np.argsort(projections, kind="stable")
    order = order[np.append(True, np.any(rows[order[1:]] != rows[order[:-1]], axis=1))]  # exact copies go
    sorted_ = projections[order]
    # same rows have nearly the same norm; 1e-13 is for the rounding of a projection
    reach = (tolerance / (1 - tolerance) + 1e-13) * np.linalg.norm(rows[order], axis=1)
    cuts = np.flatnonzero(sorted_[1:] > np.maximum.accumulate(sorted_ + reach)[:-1]) + 1
    starts, ends = np.append(0, cuts), np.append(cuts, len(order))
    larger = np.flatnonzero(ends - starts > 1)
    groups = (order[starts[i] : ends[i]] for i in larger.tolist())
    return len(starts) - len(larger) + sum(_representatives(rows, group, tolerance) for group in groups)


@lru_cache(maxsize=256)
def _direction(length: int) -> npt.NDArray[np.float64]:
    """A fixed direction of length 1, drawn once."""
    drawn = np.random.default_rng(0).standard_normal(length)
    return drawn / max(float(np.linalg.norm(drawn)), 1e-300)


def _representatives(rows: Matrix, group: Indices, tolerance: float) -> int:
    """Different rows among those of a group."""
    found: list[int] = []
    for begin in range(0, len(group), BLOCK):
        block = group[begin : begin + BLOCK].tolist()
        same = _same(rows[block], rows[found + block], tolerance)
        before = len(found)
        stands = np.arange(before + len(block)) < before
        for i, index in enumerate(block):
            if not bool(np.any(same[i] & stands)):
                stands[before + i] = True
                found.append(index)
    return len(found)


def _same(a: Matrix, b: Matrix, tolerance: float) -> npt.NDArray[np.bool_]:
    """Which rows of a (n, d) are the same as which of b (m, d): (n, m).

    |a − b|² = |a|² + |b|² − 2 a·b. Its rounding, about 1e-15 |a|², is far below the tolerance² of 1e-12.
    """
    squares_a, squares_b = np.sum(a * a, axis=1)[:, None], np.sum(b * b, axis=1)[None, :]
    distances = squares_a + squares_b - 2 * (a @ b.T)
    return distances <= tolerance**2 * np.maximum(squares_a, squares_b)
