"""Which process (rank) of a data-parallel training differs from the others, in what, and since when.

Every process sees other samples, but after the gradients are averaged all make the same update: weights that
differ from rank to rank are a fault, and so is a number that is not finite on one rank only, or data on quite
another scale. Losses that differ are none.
"""

import math
from collections.abc import Iterator, Sequence

import msgspec

from unstuck.sources.merge import unlike
from unstuck.trace.recording import Recording

SAME = ("weight_norm", "update_norm")
"""What must be the same on every rank."""
TOLERANCE = 1e-4
"""Relative: far above the rounding of another order of sums, far below any batch's own gradient."""
APART = 2.0
"""Standard deviations of the others' inputs by which a rank's mean may be off: far above what chance does to
the mean of a batch. Provisional."""
WIDER = 4.0
"""Ratio of standard deviations of inputs that is no chance either. Provisional."""


class Difference(msgspec.Struct, frozen=True):
    """A rank that differs from the others."""

    rank: int
    what: str
    """Such as "weight_norm of fc1"."""
    step: int | None = None
    """The first step at which it does."""
    own: float = math.nan
    others: float | None = None
    """The middle of the other ranks."""

    def __str__(self) -> str:
        """As a sentence."""
        where = "" if self.step is None else f" at step {self.step}"
        values = "" if self.others is None else f": {self.own:.6g}, the others {self.others:.6g}"
        return f"rank {self.rank} differs in {self.what}{where}{values}"


def differences(recordings: Sequence[Recording]) -> list[Difference]:
    """Ranks whose network, number of steps, data, weights or updates are not those of the others.

    Each rank is named once for each layer, at the first step at which it differs from the middle of all by
    more than one part in ten thousand; weights that are sharded are not compared. Of two ranks with different
    weights, rank 1 is named: who is right is not known. Of two with different data it is the one with the
    larger numbers.

    Args:
        recordings: of the ranks, in their order.

    Example:
        >>> one, two = Recording(), Recording()
        >>> one.add(0, "fc", "weight_norm", 1.0)
        >>> two.add(0, "fc", "weight_norm", 1.5)
        >>> [str(each) for each in differences([one, two])]
        ['rank 1 differs in weight_norm of fc at step 0: 1.5, the others 1']
    """
    if not recordings:
        return []
    found = [*_of_the_whole(recordings), *_of_the_data(recordings), *_of_the_loss(recordings)]
    seen: set[tuple[int, str]] = set()
    whole = not any(one.meta.sharded for one in recordings)
    for quantity in SAME if whole else ():
        for layer in recordings[0].layers(quantity):
            for difference in _unequal(recordings, quantity, layer):
                if (difference.rank, layer) not in seen:
                    seen.add((difference.rank, layer))
                    found.append(difference)
    return sorted(found, key=lambda one: (one.rank, -1 if one.step is None else one.step))


def sentences(found: Sequence[Difference], ranks: Sequence[int]) -> list[str]:
    """One sentence for each rank that differs: the first thing, and how many more there are.

    Args:
        found: what `differences` gave; its ranks count the recordings that it was given.
        ranks: which rank each of these is.

    Example:
        >>> both = [Difference(1, "update_norm of fc1", 0, 2.0, 1.0), Difference(1, "its network (no fc2)")]
        >>> sentences(both, [0, 3])
        ['rank 3 differs in update_norm of fc1 at step 0: 2, the others 1 (and in 1 more thing)']
    """
    told: list[str] = []
    for rank in sorted({one.rank for one in found}):
        own = [one for one in found if one.rank == rank]
        more = len(own) - 1
        rest = f" (and in {more} more thing{'s' * (more > 1)})" if more else ""
        told.append(f"{msgspec.structs.replace(own[0], rank=ranks[rank])}{rest}")
    return told


def _of_the_whole(recordings: Sequence[Recording]) -> Iterator[Difference]:
    """Another network, another number of steps."""
    middle = sorted(recording.steps for recording in recordings)[len(recordings) // 2]
    for rank, recording in enumerate(recordings):
        why = unlike(recordings[0], recording)
        if why:
            yield Difference(rank, f"its network ({why})")
        elif recording.steps != middle:
            yield Difference(rank, "the number of its steps", None, recording.steps, middle)


def _of_the_data(recordings: Sequence[Recording]) -> list[Difference]:
    """Inputs on another scale, or not finite, in the first batch."""
    means, widths, bad = (
        [recording.first(name) for recording in recordings]
        for name in ("data.mean", "data.std", "data.nonfinite")
    )
    found: list[tuple[float, Difference]] = []
    for rank in range(len(recordings)):
        nonfinite, others = _against(bad, rank)
        width, usual = _against(widths, rank)
        mean, middle = _against(means, rank)
        if nonfinite > 0 and others == 0:
            found.append((math.inf, Difference(rank, "data.nonfinite", 0, nonfinite, others)))
        elif abs(mean - middle) > APART * usual > 0:
            found.append((abs(mean) + width, Difference(rank, "data.mean", 0, mean, middle)))
        elif width > WIDER * usual > 0 or width == 0 < usual:
            found.append((width, Difference(rank, "data.std", 0, width, usual)))
    found.sort(key=lambda one: -one[0])
    return [one for _, one in (found[:1] if len(recordings) == 2 else found)]


def _of_the_loss(recordings: Sequence[Recording]) -> list[Difference]:
    """A loss that is not finite on some ranks only, at the first such step: then it spreads to all."""
    series = [recording.series("loss") for recording in recordings]
    losses = [dict(zip(one.steps.tolist(), one.values.tolist(), strict=True)) for one in series]
    for step in sorted({step for one in losses for step in one}):
        values = [one.get(step) for one in losses]
        bad = [rank for rank, value in enumerate(values) if value is not None and not math.isfinite(value)]
        sound = [value for value in values if value is not None and math.isfinite(value)]
        if bad:
            middle = _middle(sound)
            return [Difference(rank, "loss", step, values[rank] or 0.0, middle) for rank in bad if sound]
    return []


def _unequal(recordings: Sequence[Recording], quantity: str, layer: str) -> list[Difference]:
    """Ranks that differ in one quantity of one layer, each at its first such step."""
    found: dict[int, Difference] = {}
    for step in recordings[0].series(quantity, layer).steps.tolist():
        values = [recording.at(quantity, layer, step) for recording in recordings]
        known = [value for value in values if value is not None]
        if len(known) < 2:
            continue
        sound = [value for value in known if math.isfinite(value)] or known
        usual = sorted(sound)[(len(sound) - 1) // 2] if len(known) > 2 else sound[0]
        for rank, value in enumerate(values):
            if value is None or rank in found or _close(value, usual):
                continue
            _, others = _against(values, rank)
            found[rank] = Difference(rank, f"{quantity} of {layer}", step, value, others)
    return list(found.values())


def _close(one: float, two: float) -> bool:
    both_nan = math.isnan(one) and math.isnan(two)
    return both_nan or math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=1e-30)


def _against(values: Sequence[float | None], rank: int) -> tuple[float, float]:
    """A rank's value, and the middle of the others'; NaN for what is not known."""
    own = values[rank]
    others = [value for i, value in enumerate(values) if i != rank and value is not None]
    return math.nan if own is None else own, _middle(others)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else math.nan
