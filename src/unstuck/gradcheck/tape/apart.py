"""Entries that are repeated, put together or set to a constant, as steps of their own.

Moving entries about is no arithmetic, and their numbers alone tell it. But entries of one number are then
the same wherever they are used: which of the copies was left out going back, or which of two parts of an
array was taken for the other, only a step of its own can tell. This is for where the plain way finds nothing.
"""

from typing import Any

import numpy as np

from unstuck.gradcheck.tape.record import GATHERED, JOINED, Edge
from unstuck.gradcheck.tape.tape import Tape
from unstuck.gradcheck.tree import Array

REPEATING = {"repeat", "tile", "take", "broadcast_to", "getitem"}
JOINING = {
    *("concatenate", "stack", "vstack", "hstack", "column_stack", "dstack", "append", "insert", "block"),
}


def apart(tape: Tape, name: str, values: Any, ids: Array) -> Array:
    """Numbers for what a function that moves entries made: new ones, if that is to be a step.

    Args:
        tape: where it is written down.
        name: of the function.
        values: what it made.
        ids: the numbers that its entries have.
    """
    if not tape.apart or ids.size < 2 or not isinstance(values, np.ndarray) or not ids.any():
        return ids
    known = ids[ids > 0]
    if name in REPEATING and np.unique(known).size < known.size:
        label = GATHERED
    elif name in JOINING:
        label = JOINED
    else:
        return ids
    value, before = np.array(values, dtype=np.float64), tape.label
    tape.label = label
    edge = Edge(np.array(ids), value, lambda dy, _: dy)
    made = tape.write("positive", value, [edge], lambda others: others.get(0, value), [value])
    tape.label = before
    return made


def masked(tape: Tape, key: Any, old: Array, old_ids: Array, new: Array, new_ids: Array) -> Array:
    """Numbers for an array of which a mask's entries were set to constants: it is a choice, as `where` makes.

    Args:
        tape: where it is written down.
        key: where it was assigned.
        old: the array before.
        old_ids: the numbers that its entries had.
        new: the array after.
        new_ids: the numbers that its entries have.
    """
    is_mask = isinstance(key, np.ndarray) and key.dtype == bool and key.shape == old.shape
    if not tape.apart or not is_mask or not old_ids.all() or new_ids[key].any():
        return new_ids
    kept = (~key).astype(np.float64)
    value, chosen = np.array(new, dtype=np.float64), np.array(old, dtype=np.float64)
    edge = Edge(np.array(old_ids), chosen, lambda dy, _: dy * kept)
    return tape.write("where", value, [edge], lambda others: np.where(key, value, others.get(0, chosen)))
