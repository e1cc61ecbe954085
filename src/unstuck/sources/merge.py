"""Several recordings of one training, one for each process (rank), as one; a rank that differs is named.

In data-parallel training every process sees other samples, but after the gradients are averaged all make the
same update: weights that differ from rank to rank are a fault, losses that differ are not.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from unstuck.errors import UnstuckError
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Structure

SMALLEST = frozenset({"data.min", "output.min", "target.min", "loss_finite", "dead", "origin.nonfinite"})
"""Of the whole batch, that is the smallest over ranks; `dead` cannot be more than that."""
LARGEST = frozenset(
    {
        "data.max",
        "output.max",
        "target.max",
        "nonfinite",
        "data.nonfinite",
        "grad_uncleared",
        "remade",
        "repeat.batch",
    }
    | {"predicted_classes", "distinct_outputs", "distinct_units"}
)
SAME = ("weight_norm", "update_norm")
"""What must be the same on every rank."""
TOLERANCE = 1e-4
"""Relative: far above the rounding of another order of sums, far below any batch's own gradient."""


class Difference(msgspec.Struct, frozen=True):
    """A rank that differs from the others."""

    rank: int
    what: str
    """Such as "weight_norm of fc1"."""
    step: int | None = None
    """The first step at which it does."""
    own: float = math.nan
    others: float = math.nan
    """The middle of the other ranks."""

    def __str__(self) -> str:
        """As a sentence."""
        where = "" if self.step is None else f" at step {self.step}"
        values = "" if math.isnan(self.others) else f": {self.own:.6g}, the others {self.others:.6g}"
        return f"rank {self.rank} differs in {self.what}{where}{values}"


def merge(recordings: Sequence[Recording]) -> Recording:
    """One recording of all ranks: the mean of each quantity, but the extremes of extremes.

    A value that one rank lacks is that of the others; steps that the shortest recording lacks are left out.

    Args:
        recordings: of the ranks, in their order; rank 0 gives structure and meta.

    Returns:
        A new recording.

    Raises:
        UnstuckError: for no recording, or for ranks that trained different networks.

    Example:
        >>> one, two = Recording(), Recording()
        >>> one.add(0, "", "loss", 1.0)
        >>> two.add(0, "", "loss", 3.0)
        >>> merge([one, two]).at("loss", "", 0)
        2.0
    """
    if not recordings:
        raise UnstuckError("merge: no recording was given")
    for rank, recording in enumerate(recordings):
        unlike = _unlike(recordings[0].structure, recording.structure)
        if unlike:
            raise UnstuckError(f"merge: rank {rank} trained another network than rank 0: {unlike}")
    first = recordings[0]
    merged = Recording(first.structure, msgspec.structs.replace(first.meta))
    steps = min(recording.steps for recording in recordings)
    merged.meta.complete = all(recording.meta.complete for recording in recordings)
    values: dict[tuple[str, str, int], list[float | None]] = {}
    for recording in recordings:
        for rows in recording.rows():
            for step, value, null in zip(
                rows.steps.tolist(), rows.values.tolist(), rows.null.tolist(), strict=True
            ):
                if step <= steps:
                    values.setdefault((rows.quantity, rows.layer, step), []).append(None if null else value)
    for (quantity, layer, step), found in values.items():
        merged.add(step, layer, quantity, _together(quantity, found))
    merged.steps = steps
    return merged


def differences(recordings: Sequence[Recording]) -> list[Difference]:
    """Ranks whose weights, updates, network or number of steps are not those of the others.

    Each rank is named once for each layer, at the first step at which it differs from the middle of all by
    more than one part in ten thousand. Of two ranks that differ, rank 1 is named: who is right is not known.

    Args:
        recordings: of the ranks, in their order.

    Example:
        >>> one, two = Recording(), Recording()
        >>> one.add(0, "fc", "weight_norm", 1.0)
        >>> two.add(0, "fc", "weight_norm", 1.5)
        >>> [str(each) for each in differences([one, two])]
        ['rank 1 differs in weight_norm of fc at step 0: 1.5, the others 1']
    """
    found: list[Difference] = []
    middle = sorted(recording.steps for recording in recordings)[len(recordings) // 2] if recordings else 0
    for rank, recording in enumerate(recordings):
        unlike = _unlike(recordings[0].structure, recording.structure)
        if unlike:
            found.append(Difference(rank, f"its network ({unlike})"))
        elif recording.steps != middle:
            found.append(Difference(rank, "the number of its steps", None, recording.steps, middle))
    seen: set[tuple[int, str]] = set()
    for quantity in SAME:
        for layer in recordings[0].layers(quantity) if recordings else ():
            for difference in _unequal(recordings, quantity, layer):
                if (difference.rank, layer) not in seen:
                    seen.add((difference.rank, layer))
                    found.append(difference)
    return sorted(found, key=lambda one: (one.rank, -1 if one.step is None else one.step))


def _unequal(recordings: Sequence[Recording], quantity: str, layer: str) -> list[Difference]:
    """Ranks that differ in one quantity of one layer, each at its first such step."""
    found: dict[int, Difference] = {}
    steps = recordings[0].series(quantity, layer).steps.tolist()
    for step in steps:
        values = [recording.at(quantity, layer, step) for recording in recordings]
        known = [value for value in values if value is not None]
        for rank, value in enumerate(values):
            others = sorted(
                values[i] or 0.0 for i in range(len(values)) if i != rank and values[i] is not None
            )
            if value is None or not others or rank in found:
                continue
            usual = sorted(known)[(len(known) - 1) // 2] if len(known) > 2 else known[0]
            if not math.isclose(value, usual, rel_tol=TOLERANCE, abs_tol=1e-30) and not _both_nan(
                value, usual
            ):
                what = f"{quantity} of {layer}"
                found[rank] = Difference(rank, what, step, value, others[len(others) // 2])
    return list(found.values())


def _both_nan(one: float, two: float) -> bool:
    return math.isnan(one) and math.isnan(two)


def _together(quantity: str, found: Sequence[float | None]) -> float | None:
    defined = [value for value in found if value is not None]
    if not defined:
        return None
    if quantity in SMALLEST:
        return float(np.min(defined))
    return float(np.max(defined) if quantity in LARGEST else np.mean(defined))


def _unlike(one: Structure, two: Structure) -> str:
    """How two networks differ in their layers; empty when they do not."""
    shapes = {node.name: node.parameters for node in one.nodes if node.parameters}
    others = {node.name: node.parameters for node in two.nodes if node.parameters}
    for name in [*shapes, *others]:
        if name not in others or name not in shapes:
            return f"{name} is only in one of them"
        if shapes[name] != others[name]:
            return f"{name} has the shapes {others[name]}, expected {shapes[name]}"
    return ""
