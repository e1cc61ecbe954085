"""Several recordings of one training, one for each process (rank), as one."""

from collections.abc import Sequence

import msgspec
import numpy as np

from unstuck.errors import UnstuckError
from unstuck.trace.recording import Recording

SMALLEST = frozenset(
    {"data.min", "output.min", "target.min", "loss_finite", "origin.nonfinite"}
    | {"dead", "never_active", "dead_lately"}
)
"""Of the whole batch, that is the smallest over ranks; shares of dead units cannot be more than that."""
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
        why = unlike(recordings[0], recording)
        if why:
            raise UnstuckError(f"merge: rank {rank} trained another network than rank 0: {why}")
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


def _together(quantity: str, found: Sequence[float | None]) -> float | None:
    defined = [value for value in found if value is not None]
    if not defined:
        return None
    if quantity in SMALLEST:
        return float(np.min(defined))
    return float(np.max(defined) if quantity in LARGEST else np.mean(defined))


def unlike(one: Recording, two: Recording) -> str:
    """How two networks differ in their layers; '' when they do not. Parts of a sharded one have any shape."""
    sharded = one.meta.sharded or two.meta.sharded
    shapes, others = (
        {node.name: node.parameters for node in each.structure.nodes if node.parameters}
        for each in (one, two)
    )
    for name in [*shapes, *others]:
        if name not in others or name not in shapes:
            return f"{name} is only in one of them"
        if shapes[name] != others[name] and not sharded:
            return f"{name} has the shapes {others[name]}, expected {shapes[name]}"
    return ""
