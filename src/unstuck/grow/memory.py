"""A memory of past samples: a budget over all classes, each with the same share, all its samples as likely.

Every sample that comes gets a random priority, f(seed, its number in the stream). Of each class those with
the smallest priorities are kept, as many as its share: a uniform sample of all that came, whatever pieces
they came in. When a class arrives the others' shares shrink and their largest priorities go. A class with
fewer samples than its share leaves the rest to the others.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck.nn import random

Array = NDArray[Any]


def shares(seen: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """How many samples each class may keep: as equal as they can be, none more than it has.

    The classes are filled evenly until the budget is spent; what cannot be divided goes to those that came
    first.

    Args:
        seen: samples that came, by class.
        budget: samples over all classes.

    Returns:
        (classes,), summing to the budget or to all that came.

    Example:
        >>> shares(np.array([2, 50, 70]), 13).tolist()
        [2, 6, 5]
    """
    out = np.zeros_like(seen)
    left = budget
    while left > 0 and (out < seen).any():
        hungry = np.flatnonzero(out < seen)
        each = left // len(hungry)
        if each == 0:
            out[hungry[:left]] += 1
            break
        given = np.minimum(seen[hungry] - out[hungry], each)
        out[hungry] += given
        left -= int(given.sum())
    return out


class Memory:
    """Samples as they came (their own number type, so bytes stay bytes), with class and priority.

    Args:
        budget: samples over all classes.
        seed: decides which are kept.
    """

    def __init__(self, budget: int, seed: int) -> None:
        self.budget = budget
        self.seed = seed
        self.samples: Array | None = None
        """(kept, ...), sorted by class and priority; None before the first."""
        self.units = np.zeros(0, np.int64)
        self.priorities = np.zeros(0)
        self.seen = np.zeros(0, np.int64)
        """Samples that came, by class."""
        self.ceilings = np.zeros(0)
        """By class the smallest priority that was turned away: nothing above it may come in later."""

    def __len__(self) -> int:
        """Samples kept."""
        return len(self.units)

    @property
    def bytes(self) -> int:
        """What the samples take."""
        return 0 if self.samples is None else self.samples.nbytes

    def resize(self, budget: int) -> None:
        """Hold so many from now on: at 0 nothing stays, else the next samples push out what is too many."""
        self.budget = budget
        if budget == 0:
            self.samples, self.units, self.priorities = None, np.zeros(0, np.int64), np.zeros(0)

    def add(self, samples: Array, units: NDArray[np.int64]) -> None:
        """Offer samples with their classes, numbered from 0 in the order in which the classes came."""
        if self.budget == 0 or len(units) == 0:
            return
        first = int(self.seen.sum())
        classes = max(len(self.seen), int(units.max()) + 1)
        self.seen = np.concatenate([self.seen, np.zeros(classes - len(self.seen), np.int64)])
        self.ceilings = np.concatenate([self.ceilings, np.full(classes - len(self.ceilings), np.inf)])
        self.seen += np.bincount(units, minlength=classes)
        priorities = random.uniform(self.seed, random.DATA, first + np.arange(len(units)))
        able = priorities < self.ceilings[units]
        for unit in np.unique(units[~able]):
            self.ceilings[unit] = min(self.ceilings[unit], priorities[~able & (units == unit)].min())
        all_units = np.concatenate([self.units, units[able]])
        all_priorities = np.concatenate([self.priorities, priorities[able]])
        order = np.lexsort((all_priorities, all_units))
        starts = np.searchsorted(all_units[order], np.arange(classes + 1))
        quota = shares(self.seen, self.budget)
        kept = list[NDArray[np.intp]]()
        for unit in range(classes):
            own = order[starts[unit] : starts[unit + 1]]
            if len(own) > quota[unit]:
                self.ceilings[unit] = all_priorities[own[quota[unit]]]
            kept.append(own[: quota[unit]])
        chosen = np.concatenate(kept)
        if self.samples is None:
            self.samples = samples[able][chosen]
        elif not np.array_equal(chosen, np.arange(len(self.units))):
            old = len(self.units)
            fresh = np.empty((len(chosen), *self.samples.shape[1:]), np.result_type(self.samples, samples))
            mine = chosen < old
            fresh[mine] = self.samples[chosen[mine]]
            fresh[~mine] = samples[able][chosen[~mine] - old]
            self.samples = fresh
        self.units, self.priorities = all_units[chosen], all_priorities[chosen]
