"""In which order samples are used: new ones shuffled, and beside each batch of them one from the memory."""

import numpy as np
from numpy.typing import NDArray

from unstuck.nn import random

Order = NDArray[np.int64]


def shuffled(seed: int, number: int, count: int) -> Order:
    """The `number`-th random order of so many samples; it depends on (seed, number) and on nothing else."""
    drawn = random.words(seed, random.SHUFFLE, np.arange(count), number % 2**32)
    keys = drawn[:, 0].astype(np.uint64) << np.uint64(32) | drawn[:, 1]
    return np.argsort(keys, kind="stable").astype(np.int64)


def replayed(seed: int, number: int, kept: int, wanted: int) -> Order:
    """So many numbers of memorised samples: the memory in a random order, over and over."""
    rounds = -(-wanted // kept)
    drawn = random.words(seed, random.DATA, np.arange(rounds * kept), 1 + number % (2**32 - 1))
    keys = (drawn[:, 0].astype(np.uint64) << np.uint64(32) | drawn[:, 1]).reshape(rounds, kept)
    return np.argsort(keys, axis=1, kind="stable").ravel()[:wanted].astype(np.int64)


def beside(new: Order, old: Order, batch: int) -> Order:
    """Batches of `batch` new samples, each followed by as many of `old` as there are for it.

    Args:
        new: (N,).
        old: (steps · r,) with steps = ceil(N / batch); r behind each batch.
        batch: new samples in a batch; the last may have fewer.

    Example:
        >>> beside(np.arange(5), np.array([10, 11, 12]), 2).tolist()
        [0, 1, 10, 2, 3, 11, 4, 12]
    """
    steps = -(-len(new) // batch)
    each = len(old) // steps
    pieces = list[Order]()
    for step in range(steps):
        pieces += [new[step * batch : (step + 1) * batch], old[step * each : (step + 1) * each]]
    return np.concatenate(pieces)
