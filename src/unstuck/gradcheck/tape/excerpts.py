"""Gradients that are a part of what they should be the sum of, as the user's backward pass shows it."""

import itertools

import numpy as np

from unstuck.gradcheck.arrangement import same
from unstuck.gradcheck.local import Named
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tape.writing import WrittenBack
from unstuck.gradcheck.tree import Array

SUMS = 3
"""One after the other that are looked through."""


def excerpt(  # noqa: PLR0911  (a list of what it may be)
    back: WrittenBack, name: str, right: Array
) -> Named | None:
    """What a gradient is the last of, or some places of: that, added up, is right.

    Args:
        back: both passes.
        name: of the tensor.
        right: its gradient.
    """
    if name not in back.gradients or not right.any():
        return None
    ids = back.gradients[name][1]
    steps = back.tape.records[back.first :]
    starts = np.array([record.first for record in steps])
    for _ in range(SUMS):
        if not ids.size or not ids.all():
            return None
        at = int(np.searchsorted(starts, int(ids.min()), side="right")) - 1
        if at < 0 or not steps[at].holds(ids).all():
            return None
        maker = steps[at]
        turns = [record.value for record in steps if record.place == maker.place]
        if len(turns) > 1 and ids.size == right.size and all(v.shape == maker.value.shape for v in turns):
            total = sum(turns, np.zeros(maker.value.shape)).reshape(-1)[ids - maker.first]
            if same(total.reshape(right.shape), right):
                vector = max(right.shape, default=1) == right.size
                text = (
                    f"the gradient of {name} is that of one of {len(turns)} turns alone: it is not added up"
                )
                return "not-summed" if vector else "overwritten", text
        if ids.size < maker.value.size and _adds_up(maker, right):
            text = f"the gradient of {name} is made of some entries of an array of shape {maker.value.shape}"
            return "not-summed", f"{text}, where all of them have to be added up"
        if maker.name != "sum":
            return None
        ids = maker.edges[0].ids
    return None


def _adds_up(maker: Record, right: Array) -> bool:
    """Whether sums over some axes of what a step made are right."""
    axes = range(maker.value.ndim)
    for count in range(1, maker.value.ndim + 1):
        for some in itertools.combinations(axes, count):
            total = maker.value.sum(axis=some)
            if total.size == right.size and same(total.reshape(right.shape), right):
                return True
    return False
