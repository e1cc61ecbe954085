"""What is lost where entries are assigned in place of others instead of added to them."""

import bisect
from typing import Any

import numpy as np

from unstuck.gradcheck.tape.tape import Tape, calls
from unstuck.gradcheck.tape.traced import deep, ids_of, plain, wrap
from unstuck.gradcheck.tree import Array


def with_numbers(array: Any, key: Any, value: Any) -> Any:
    """What is assigned, with numbers of its own where it takes the place of something; that is noted.

    Args:
        array: to which it is assigned.
        key: where.
        value: what is assigned.
    """
    tape: Tape = array.tape
    if id(array) not in tape.assembled:
        tape.assembled[id(array)] = calls()[0][:2], array
    old = np.array(ids_of(array)[key])
    if not old.any():
        return value
    new = np.broadcast_to(deep(value, ids_of), old.shape)
    gone = (old > 0) & (new > 0) & (old != new)
    if not gone.any():
        return value
    gone = gone & ~_used(tape, old, new[gone])
    if not gone.any():
        return value
    values = np.array(np.broadcast_to(deep(value, plain), old.shape), dtype=np.float64)
    made = tape.elementwise("positive", [values], [np.array(new)], values)
    if made is None or tape.lost is None:
        return value
    tape.lost.append((len(tape.records) - 1, np.where(gone, old, 0)))
    return wrap(tape, values, made)


def _used(tape: Tape, old: Array, new: Array) -> Array:
    """Which of the old entries the new ones are made of: those are not lost."""
    found = np.zeros(old.shape, dtype=bool)
    rest = np.unique(new)
    while rest.size:
        at = bisect.bisect_right(tape.records, int(rest[0]), key=lambda record: record.first) - 1
        if at < 0:
            break  # entries of tensors: these come before all that was made
        record = tape.records[at]
        for edge in record.edges:
            found |= np.isin(old, edge.ids)
        rest = rest[rest >= record.first + record.value.size]
    return found
