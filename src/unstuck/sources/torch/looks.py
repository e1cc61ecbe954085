"""Statistics of operations' outputs: reduced where they are, finished for all operations together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from unstuck.sources.torch.stats import Floats, Gather
from unstuck.trace import measure
from unstuck.trace.measure import Values
from unstuck.trace.structure import PIECEWISE, SATURATING

MOST_SAMPLES = 128
"""Samples of a batch that outputs are measured on."""
MOST_NUMBERS = 1 << 13
"""... and numbers of one output: positions of images are taken evenly."""
CLOSE_SAMPLES = 32
CLOSE_NUMBERS = 1 << 11
"""The same for what is computed after the transfer: ranks, cosines, distinct units."""
PASSING = (
    "MaxPool",
    "AvgPool",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "Flatten",
    "Unflatten",
    "Dropout",
    "Identity",
)
"""Operations that pass on what they get: between the steps of the default schedule they are left out."""
WIDE = {torch.float32, torch.float64}

Use = Callable[[str, Values], None]


@dataclass(eq=False, slots=True)
class Look:
    """Some numbers of one output, as they were."""

    kind: str
    units: int
    shape: tuple[int, int]
    """(units, positions) that are looked at."""
    numbers: torch.Tensor
    """(samples, units × positions)."""
    own: bool
    """Whether units are made here: by weights or by a non-linearity. Only these are looked at closely."""
    total: torch.Tensor
    """Sum over the whole output: not finite when any number is not."""


def look(output: torch.Tensor, kind: str, axis: int, *, weighted: bool) -> Look | None:
    """Keep some numbers of one output, without waiting for the device.

    Of large outputs, samples and positions are taken evenly: enough for means over thousands of numbers. A
    NaN or infinity anywhere is seen all the same, in the sum.

    Args:
        output: (N, units, *positions), or with the units on another axis.
        kind: the operation's type.
        axis: where the units are.
        weighted: whether the operation has parameters.

    Returns:
        The numbers; None for what is not real, empty or a single number.
    """
    dims = output.dim()
    if dims == 0 or not output.is_floating_point() or output.numel() == 0 or output.is_meta:
        return None
    x = output.detach()
    if dims == 1:
        x = x.reshape(-1, 1)
    elif dims > 2:
        x = (x.movedim(axis, 1) if axis not in {1, 1 - dims} else x).flatten(2)
    few = _some(x, MOST_SAMPLES, MOST_NUMBERS)
    dtype = x.dtype if x.dtype in WIDE else torch.float32
    taken = few.shape[1]
    numbers = few.to(dtype, copy=True, memory_format=torch.contiguous_format).view(few.shape[0], -1)
    pointwise = kind in PIECEWISE or kind in SATURATING
    # what is finite stays finite there: the operation before has been summed
    whole = numbers if pointwise else x
    total = whole.sum() if whole.dtype in WIDE else whole.sum(dtype=dtype)
    own = weighted or pointwise
    return Look(kind, int(x.shape[1]), (taken, numbers.shape[1] // taken), numbers, own, total)


def bring(gather: Gather, looks: Sequence[tuple[str, Look]], use: Use, *, close: bool) -> None:
    """Reduce outputs on their device, bring them over and finish them, all together.

    Args:
        gather: brings the numbers.
        looks: outputs with their names.
        use: gets each name and the quantities of `measure.output_stats`.
        close: whether ranks, cosines and distinct outputs are among them.
    """
    alike: dict[tuple[torch.device, int], list[tuple[str, Look]]] = {}
    for one in looks:
        alike.setdefault((one[1].numbers.device, one[1].numbers.shape[0]), []).append(one)
    for group in alike.values():
        _bring(gather, sorted(group, key=lambda one: _order(one[1].kind)), use, close=close)


def _order(kind: str) -> int:
    """Outputs that are treated alike stand together."""
    return 1 if kind in PIECEWISE else 2 if kind == "Sigmoid" else 3 if kind in SATURATING else 0


def _bring(gather: Gather, looks: list[tuple[str, Look]], use: Use, *, close: bool) -> None:
    """Outputs of as many samples, side by side."""
    blocks: dict[str, Floats] = {}
    if close:
        for name, one in looks:
            if not one.own:
                continue
            block = one.numbers.view(-1, *one.shape)
            gather.put(
                _some(block, CLOSE_SAMPLES, CLOSE_NUMBERS), lambda x, name=name: blocks.__setitem__(name, x)
            )
    widths = [0, 0, 0, 0]
    for _, one in looks:
        widths[_order(one.kind)] += one.numbers.shape[1]
    x = torch.cat([one.numbers for _, one in looks], dim=1)
    # distances to the first sample: exactly 0 for a constant output, and no cancellation for others
    moved = x - x[0]
    mean = moved.mean(0)
    found: list[Floats] = []
    plain, pieces, sigmoids, tanhs = x.split(widths, dim=1)
    slopes: list[torch.Tensor] = []
    if widths[2]:
        slopes.append(sigmoids * (1 - sigmoids) * 4)
    if widths[3]:
        slopes.append(1 - tanhs * tanhs)
    gather.put(mean + x[0], found.append)
    gather.put(moved.square_().mean(0).addcmul_(mean, mean, value=-1), found.append)
    gather.put(pieces.sign().abs_().mean(0) if widths[1] else plain[0, :0], found.append)
    for reduce in (torch.abs, _flat):
        gather.put(
            torch.cat([reduce(slope).mean(0) for slope in slopes]) if slopes else x[0, :0], found.append
        )

    def finish(totals: Floats) -> None:
        with np.errstate(all="ignore"):
            _finish(looks, x.shape[0], found, totals, blocks, use)

    gather.put_all([one.total for _, one in looks], finish)


def _flat(slope: torch.Tensor) -> torch.Tensor:
    """1 where a unit hardly reacts."""
    return (slope < 0.05).to(slope.dtype)


class _Places(NamedTuple):
    """Where units and operations begin in the joined numbers."""

    units: npt.NDArray[np.intp]
    """First number of each unit."""
    positions: npt.NDArray[np.intp]
    """Numbers of each unit."""
    operations: npt.NDArray[np.intp]
    """First unit of each operation."""
    counts: npt.NDArray[np.intp]
    """Units of each operation."""


@lru_cache(maxsize=64)
def _places(shapes: tuple[tuple[int, int], ...]) -> _Places:
    counts = np.array([units for units, _ in shapes], dtype=np.intp)
    positions = np.repeat(np.array([each for _, each in shapes], dtype=np.intp), counts)
    return _Places(
        np.concatenate([[0], np.cumsum(positions)[:-1]]).astype(np.intp),
        positions,
        np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.intp),
        counts,
    )


def _finish(
    looks: list[tuple[str, Look]],
    samples: int,
    found: list[Floats],
    totals: Floats,
    blocks: dict[str, Floats],
    use: Use,
) -> None:
    """All quantities of all operations; a unit has as many positions as any other of its operation."""
    at = _places(tuple(one.shape for _, one in looks))
    centre, variance = found[0].astype(np.float64), np.maximum(found[1].astype(np.float64), 0.0)

    def by_unit(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.add.reduceat(numbers, at.units) / at.positions

    def by_operation(numbers: npt.NDArray[np.float64]) -> list[float]:
        return (np.add.reduceat(numbers, at.operations) / at.counts).tolist()

    begins = centre[at.units]
    shifted = centre - np.repeat(begins, at.positions)
    within, moved = by_unit(variance), by_unit(shifted)
    across = by_unit(shifted * shifted) - moved * moved
    mean = by_operation(moved + begins)
    spread = by_operation(within)
    square = by_unit(centre * centre)
    power = by_operation(within + square)
    deviation = by_operation(within + np.maximum(across, 0.0))
    silent = by_operation(within + square == 0)
    finite_sums = np.isfinite(totals).tolist()
    slope_at, piece_at = 0, 0
    for i, (name, one) in enumerate(looks):
        finite = finite_sums[i] and math.isfinite(mean[i])
        spoiled = 0.0 if finite else math.nan
        values: Values = {
            "act_mean": mean[i] + spoiled,
            "act_rms": math.sqrt(max(power[i], 0.0)) + spoiled if finite else math.nan,
            "units": float(one.units),
            "act_std": math.sqrt(deviation[i]) if finite else None,
            "act_variation": None,
        }
        if finite and samples > 1:
            values["act_variation"] = spread[i] / power[i] if power[i] > 0 else 0.0
        width = one.shape[0] * one.shape[1]
        if one.kind in PIECEWISE:
            values["dead"] = silent[i]
            values["zero"] = 1 - float(found[2][piece_at : piece_at + width].mean())
            piece_at += width
        elif one.kind in SATURATING:
            own = slice(slope_at, slope_at + width)
            values["slope"] = float(found[3][own].mean()) if finite else None
            values["saturated"] = float(found[4][own].mean()) if finite else None
            slope_at += width
        if name in blocks:
            values |= _close(blocks[name])
        use(name, values)


def _close(block: Floats) -> Values:
    """What needs single numbers: the same quantities as `measure.output_stats`, for a small block.

    Units with a cosine above 1 - 1e-6 count as one, and so do all constant ones.
    """
    x = block.astype(np.float64)
    undefined: Values = {"input_cosine": None, "effective_rank": None, "distinct_outputs": None}
    if not np.isfinite(x).all():
        return undefined
    samples = x.reshape(len(x), -1)
    rows = x.transpose(0, 2, 1).reshape(-1, x.shape[1])
    scaled = rows / (np.abs(rows).max() or 1.0)
    moved = scaled - scaled[0]
    centred = moved - moved.mean(axis=0)
    lengths = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    sizes = np.sqrt(np.einsum("ij,ij->j", scaled, scaled))
    varies = lengths > measure.SAME * sizes
    directions = centred[:, varies] / lengths[varies]
    values: Values = {
        "input_cosine": _cosine(samples),
        "effective_rank": measure.effective_rank(rows),
        "distinct_outputs": None,
    }
    if len(rows) > 1:
        same = np.triu(directions.T @ directions >= 1 - measure.SAME, 1)
        repeats = _repeats(same) if same.any() else 0
        values["distinct_outputs"] = float(same.shape[0] - repeats + (not varies.all()))
    return values


def _repeats(same: npt.NDArray[np.bool_]) -> int:
    """Units that equal an earlier one that itself equals none before it; `same` is upper triangular."""
    first: list[int] = []
    for unit in range(len(same)):
        if not same[first, unit].any():
            first.append(unit)
    return len(same) - len(first)


def _cosine(samples: npt.NDArray[np.float64]) -> float | None:
    """Mean cosine over all pairs of samples that are not zero; None when there is no pair."""
    largest = np.abs(samples).max(axis=1, keepdims=True)
    x = samples[largest[:, 0] > 0] / largest[largest[:, 0] > 0]
    n = len(x)
    if n < 2:
        return None
    total = (x / np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]).sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))


def _some(x: torch.Tensor, most_samples: int, most_numbers: int) -> torch.Tensor:
    """Samples, positions and, if there are very many, units, each taken evenly: a view."""
    if x.shape[0] > most_samples:
        x = x[:: -(-x.shape[0] // most_samples)]
    each = max(most_numbers // x.shape[0], 1)
    if x.shape[1] > each:
        x = x[:, :: -(-x.shape[1] // each)]
    wanted = max(each // x.shape[1], 1)
    return x[:, :, :: -(-x.shape[2] // wanted)] if x.dim() > 2 and x.shape[2] > wanted else x
