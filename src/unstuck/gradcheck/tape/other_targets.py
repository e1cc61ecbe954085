"""Targets that are others going back than in the forward pass: where p - t is made, or a score is picked."""

import numpy as np

from unstuck.gradcheck.local import Named
from unstuck.gradcheck.tree import Array

CLOSE = 1e-6
FEWEST = 3
"""Of fewer scores one is the other's opposite by chance."""


def other_targets(made: list[Array], right: list[Array]) -> Named | None:
    """Whether in some rows the one that is picked is another one, all else being right.

    Args:
        made: gradients by scores, as the user has them.
        right: as they should be.
    """
    one, two = np.stack(made), np.stack(right)
    gap = one - two
    size = float(np.abs(two).max(initial=0.0))
    off = np.abs(gap) > CLOSE * size
    for axis in range(1, gap.ndim):
        if gap.shape[axis] < FEWEST:
            continue
        gaps, offs, wanted, found = (
            np.moveaxis(array, axis, -1).reshape(-1, gap.shape[axis]) for array in (gap, off, two, one)
        )
        rows = offs.any(axis=1)
        if not rows.any() or not (offs[rows].sum(axis=1) == 2).all():
            continue
        if np.abs(gaps[rows].sum(axis=1)).max() > CLOSE * size:
            continue
        lost, won = gaps[rows].argmax(axis=1), gaps[rows].argmin(axis=1)
        at = np.arange(int(rows.sum()))
        # taken from where it was, and put where it should not be
        if (wanted[rows][at, lost] < 0).all() and (found[rows][at, won] < 0).all():
            count = int(rows.sum())
            text = f"in {count} of {rows.size} rows the target is another one than in the forward pass"
            return "input-mistaken", text
    return None
