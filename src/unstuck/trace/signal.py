"""Whether targets have anything to do with inputs, for two simple readers of both."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from unstuck.trace.measure import Values
from unstuck.trace.recording import Recording

LEAST: Final = 200
"""Samples from which on a missing signal can be told from one that is hard to see."""
MOST: Final = 400
NUMBERS: Final = 2048
"""Of one sample, at most, that need be given."""
_DEALS: Final = 99
_LEARNED: Final = 0.9
"""Part of the best constant answer's loss below which something was learned."""
_NEIGHBOURS: Final = 5
_COLUMNS: Final = 32
"""Of targets, at most; there are more where every place of a picture or text has one."""
_CLASSES: Final = 64
"""Different numbers up to which whole ones are classes."""
_BUCKETS: Final = 512
"""Columns for what a whole number in the inputs means, and as many for where it stands."""
Matrix = npt.NDArray[np.float64]


def is_open(trace: Recording) -> bool:
    """Whether the loss leaves it open that anything was learned: only then is it worth the time to ask."""
    best = trace.series("baseline_loss").values
    losses = trace.series("full_loss" if trace.has("full_loss") else "loss").values
    if not best.size or not losses.size or not np.median(best) > 0:
        return True
    late = float(np.mean(losses[-max(1, losses.size // 10) :]))
    return not late < _LEARNED * float(np.median(best))


def signal(inputs: npt.NDArray[Any], targets: npt.NDArray[Any]) -> Values:
    """How well neighbours and a linear model tell left-out targets, against targets dealt out at random.

    Both predict a sample's target as weighted sums of the others' targets, S Y, where S depends on the inputs
    alone: dealing the targets out costs one product each. What counts is the cosine of S Y and Y (centred).

    Args:
        inputs: (N, ...), real numbers, or whole ones that stand for words. Samples that come again are
            taken once: their own targets would tell them.
        targets: (N, ...), real numbers or classes.

    Returns:
        signal (the cosine above chance), signal_p (share of 99 dealings that are read as well), and
        signal_samples. Empty for fewer than 200 different samples, equal inputs or equal targets, NaN.

    References:
        Ojala & Garriga (2010), "Permutation tests for studying classifier performance", JMLR 11.
    """
    given = np.asarray(inputs).reshape(len(inputs), -1)
    _, kept = np.unique(given, axis=0, return_index=True)
    kept = np.sort(kept)[:MOST]
    if len(kept) < LEAST:
        return {}
    features, wanted = _features(given[kept]), _numbers(np.asarray(targets)[kept])
    if not features.size or not wanted.size:
        return {}
    readers, rng = _readers(features), np.random.default_rng(0)
    deals = np.array([np.arange(len(kept)), *(rng.permutation(len(kept)) for _ in range(_DEALS))])
    found = np.array([_agreement(reader, wanted, deals) for reader in readers]).T
    own, dealt = found[0], found[1:]
    mean, spread = dealt.mean(axis=0), np.maximum(dealt.std(axis=0), 1e-12)
    best = ((own - mean) / spread).max()
    as_good = int((((dealt - mean) / spread).max(axis=1) >= best).sum())
    return {
        "signal": float((own - mean).max()),
        "signal_p": (1 + as_good) / (1 + _DEALS),
        "signal_samples": float(len(kept)),
    }


def _features(given: npt.NDArray[Any]) -> Matrix:
    """Columns of mean 0 and deviation 1; empty where all samples are the same, or not finite."""
    if not np.issubdtype(given.dtype, np.floating):
        places = np.arange(given.shape[1])[None] * 7919 + given
        given = np.concatenate([_counted(given), _counted(places)], axis=1)
    numbers = given.astype(np.float64)
    if not np.isfinite(numbers).all():
        return np.zeros((len(given), 0))
    spread = numbers.std(axis=0)
    # rounding: a column of equal large numbers has a deviation, too
    varies = spread > 1e-9 * np.abs(numbers).max(axis=0)
    return (numbers - numbers.mean(axis=0))[:, varies] / spread[varies]


def _counted(numbers: npt.NDArray[Any]) -> Matrix:
    """How often each number comes in each row."""
    found = np.zeros((len(numbers), _BUCKETS))
    np.add.at(found, (np.arange(len(numbers))[:, None], numbers.astype(np.int64) % _BUCKETS), 1.0)
    return found


def _numbers(targets: npt.NDArray[Any]) -> Matrix:
    """Targets as centred columns, a column for each class; empty where all are the same, or not finite."""
    columns = targets.reshape(len(targets), -1)
    columns = columns[:, :: max(1, -(-columns.shape[1] // _COLUMNS))]
    if not np.issubdtype(columns.dtype, np.floating):
        known = np.unique(columns)
        if len(known) <= _CLASSES:
            columns = (columns[:, :, None] == known).reshape(len(columns), -1)
    numbers = columns.astype(np.float64)
    if not np.isfinite(numbers).all():
        return np.zeros((len(targets), 0))
    numbers = numbers - numbers.mean(axis=0)
    return numbers if np.abs(numbers).max(initial=0.0) > 0 else numbers[:, :0]


def _readers(features: Matrix) -> list[Matrix]:
    """For each reader the weights of the samples' targets in its prediction for each, its own left out."""
    count = len(features)
    near = features @ features.T / features.shape[1]
    hat = near @ np.linalg.inv(near + np.trace(near) / count * np.eye(count))
    own = np.diag(hat).copy()
    linear = (hat - np.diag(own)) / (1 - own)[:, None]
    apart = np.diag(near)[:, None] + np.diag(near)[None] - 2 * near
    np.fill_diagonal(apart, math.inf)
    neighbours = np.zeros((count, count))
    nearest = np.argpartition(apart, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    np.put_along_axis(neighbours, nearest, 1 / _NEIGHBOURS, axis=1)
    return [linear, neighbours]


def _agreement(reader: Matrix, wanted: Matrix, deals: npt.NDArray[np.int64]) -> Matrix:
    """Cosine between a reader's predictions and the targets, for each way to deal these out."""
    dealt = wanted[deals].transpose(1, 0, 2)  # (N, deals, columns)
    told = (reader @ dealt.reshape(len(wanted), -1)).reshape(dealt.shape)
    length = np.sqrt((told**2).sum(axis=(0, 2))) * float(np.linalg.norm(wanted))
    return (told * dealt).sum(axis=(0, 2)) / np.where(length > 0, length, 1.0)
