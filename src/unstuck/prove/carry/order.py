"""In what order a run goes through its samples: what the engine must do alike."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unstuck.prove.carry.seen import Seen

LIKELY = 5.0
"""Standard deviations within which batches count as dealt at random."""


@dataclass(frozen=True)
class Order:
    """How the samples come."""

    epoch: int
    """Steps until they have all come once."""
    shuffled: bool
    """Whether they are dealt anew in each epoch; else they come in one order again and again."""


def order_of(seen: Seen) -> Order | str:
    """The order of a run's samples, or in words why the engine cannot go through them like it.

    Args:
        seen: a whole run.

    Returns:
        The order. Every epoch must be made of the same samples in batches of the same sizes; of a partial
        last epoch, what there is of it.
    """
    batches = [step.batch for step in seen.facts.steps]
    period = next((n for n in range(1, len(batches) // 2 + 1) if batches[n:] == batches[:-n]), None)
    if period is not None:
        return _regular(seen, Order(period, shuffled=False))
    samples = _numbered(seen)
    steps = [samples[batch] for batch in batches]
    for epoch in range(1, len(steps) // 2 + 1):
        if _same(steps[:epoch], steps[epoch : 2 * epoch]):
            if not all(_same(steps[:epoch], part) for part in _epochs(steps, epoch)):
                break
            if not _dealt(steps, epoch):
                return "its batches are neither in one order nor dealt at random"
            return _regular(seen, Order(epoch, shuffled=True))
    return "its epochs are not made of the same samples (new data, augmentation, or some left out)"


def _regular(seen: Seen, order: Order) -> Order | str:
    sizes = [seen.inputs[step.batch].shape[0] for step in seen.facts.steps]
    first = sizes[: order.epoch]
    alike = len(set(first[:-1])) <= 1 and first[-1] <= first[0]
    again = all(size == first[number % order.epoch] for number, size in enumerate(sizes))
    return order if alike and again else "its batches are of different sizes"


def _numbered(seen: Seen) -> list[NDArray[np.int64]]:
    """For each batch the numbers of its samples: equal samples have the same."""
    known: dict[bytes, int] = {}
    return [
        np.array(
            [
                known.setdefault(one.tobytes() + target.tobytes(), len(known))
                for one, target in zip(inputs, targets, strict=True)
            ]
        )
        for inputs, targets in zip(seen.inputs, seen.targets, strict=True)
    ]


def _same(one: Sequence[NDArray[np.int64]], other: Sequence[NDArray[np.int64]]) -> bool:
    """Whether two epochs are made of the same samples; the second may be cut short."""
    first, second = np.concatenate(one), np.concatenate(other)
    most = int(max(first.max(), second.max())) + 1
    counts, found = np.bincount(first, minlength=most), np.bincount(second, minlength=most)
    return bool((found <= counts).all() if len(other) < len(one) else (found == counts).all())


def _epochs(steps: Sequence[NDArray[np.int64]], epoch: int) -> list[Sequence[NDArray[np.int64]]]:
    return [steps[first : first + epoch] for first in range(0, len(steps), epoch)]


def _dealt(steps: Sequence[NDArray[np.int64]], epoch: int) -> bool:
    r"""Whether who meets whom in a batch, and at what place, is new in every epoch.

    Of $P$ pairs of samples, $a$ share a batch in one epoch and $b$ in the next. Dealt at random, about
    $ab/P$ do in both; the places in the two epochs are uncorrelated, with standard deviation $1/\sqrt n$.
    """
    whole = [part for part in _epochs(steps, epoch) if len(part) == epoch]
    for before, after in itertools.pairwise(whole):
        first, second = _places(before), _places(after)
        count = first.size
        if count < 3 or epoch == 1:
            continue
        spread = np.std(first) * np.std(second)
        correlation = float(np.mean((first - first.mean()) * (second - second.mean())) / spread)
        if abs(correlation) * np.sqrt(count) > LIKELY:
            return False
        together = np.unique(np.stack([first, second]), axis=1, return_counts=True)[1]
        sizes = [np.unique(one, return_counts=True)[1] for one in (first, second)]
        pairs, a, b = (float((n * (n - 1) / 2).sum()) for n in (together, *sizes))
        expected = a * b / (count * (count - 1) / 2)
        if abs(pairs - expected) > LIKELY * np.sqrt(max(expected, 1.0)):
            return False
    return True


def _places(part: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The step of each sample, in the order of the samples' numbers."""
    samples = np.concatenate(part)
    step = np.repeat(np.arange(len(part)), [one.size for one in part])
    return step[np.argsort(samples, kind="stable")]
