"""Statistics of operations' outputs: reduced where they are, finished for all operations together."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from unstuck.sources.torch.looks import Look, some
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.trace import measure
from unstuck.trace.measure import Values
from unstuck.trace.structure import PIECEWISE, SATURATING

CLOSE_SAMPLES = 32
CLOSE_NUMBERS = 1 << 11
"""Samples, and numbers of one output, for what is computed after the transfer: ranks, distinct units."""
FLAT = 0.05
"""A unit whose slope is below this share of the largest one hardly reacts."""

Use = Callable[[str, Values], None]


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
                some(block, CLOSE_SAMPLES, CLOSE_NUMBERS), lambda x, name=name: blocks.__setitem__(name, x)
            )
    widths = [0, 0, 0, 0]
    for _, one in looks:
        widths[_order(one.kind)] += one.numbers.shape[1]
    x = torch.cat([one.numbers for _, one in looks], dim=1)
    first, found = x[0], list[Floats]()
    gather.put(first, found.append)
    gather.put(_reduced(x, first, widths), found.append)
    summed = [one.total for _, one in looks if one.total is not None]
    gather.put_all(summed or [first[0]], found.append)

    def finish(_: Floats) -> None:
        with np.errstate(all="ignore"):
            _finish(looks, x.shape[0], found, blocks, use)

    gather.put(first[:0], finish)


def _reduced(x: torch.Tensor, first: torch.Tensor, widths: list[int]) -> torch.Tensor:
    """Means over the samples, all in one reduction.

    Args:
        x: (N, numbers): of plain operations, of the ReLU family, of Sigmoid, of Tanh.
        first: (numbers,), its first row.
        widths: how many numbers each of the four has.

    Returns:
        (2 * numbers + pieces + 2 * slopes,): of the distances to the first sample, of their squares, of
        what is not 0, of the slopes' size, and of flat slopes.
    """
    wide, pieces, sigmoids, tanhs = x.shape[1], *widths[1:]
    slopes = sigmoids + tanhs
    room = x.new_empty(x.shape[0], 2 * wide + pieces + 2 * slopes)
    moved, squares, active, size, flat = room.split([wide, wide, pieces, slopes, slopes], dim=1)
    _, piece, sigmoid, tanh = x.split(widths, dim=1)
    # distances to the first sample: exactly 0 for a constant output, and no cancellation for others
    torch.sub(x, first, out=moved)
    torch.mul(moved, moved, out=squares)
    if pieces:
        torch.sign(piece, out=active).abs_()
    if sigmoids:
        torch.neg(sigmoid, out=size[:, :sigmoids]).add_(1).mul_(sigmoid).mul_(4).abs_()
    if tanhs:
        torch.mul(tanh, tanh, out=size[:, sigmoids:]).neg_().add_(1).abs_()
    if slopes:
        torch.lt(size, FLAT, out=flat)
    return room.mean(0)


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
    looks: list[tuple[str, Look]], samples: int, found: list[Floats], blocks: dict[str, Floats], use: Use
) -> None:
    """All quantities of all operations; a unit has as many positions as any other of its operation."""
    at = _places(tuple(one.shape for _, one in looks))
    first, means, totals = (numbers.astype(np.float64) for numbers in found)
    wide = len(first)
    moved = means[:wide]
    begins = (first + moved)[at.units]
    # one row for each kind of mean, so that all are taken at once
    rows = np.empty((4, wide))
    rows[0] = np.maximum(means[wide : 2 * wide] - moved * moved, 0.0)
    centre = first + moved
    rows[1] = centre - np.repeat(begins, at.positions)
    np.multiply(rows[1], rows[1], out=rows[2])
    np.multiply(centre, centre, out=rows[3])
    within, shifted, across, square = np.add.reduceat(rows, at.units, axis=1) / at.positions
    units = np.stack(
        [
            shifted + begins,
            within,
            within + square,
            within + np.maximum(across - shifted * shifted, 0.0),
            within + square == 0,
        ]
    )
    each = (np.add.reduceat(units, at.operations, axis=1) / at.counts).T.tolist()
    finite_sums = iter(np.isfinite(totals).tolist())
    piece_at = 2 * wide
    slope_at = piece_at + sum(one.numbers.shape[1] for _, one in looks if one.kind in PIECEWISE)
    slopes = (len(means) - slope_at) // 2
    for (name, one), (mean, spread, power, deviation, silent) in zip(looks, each, strict=True):
        finite = math.isfinite(mean) and (one.total is None or next(finite_sums))
        values: Values = {
            "act_mean": mean if finite else math.nan,
            "act_rms": math.sqrt(max(power, 0.0)) if finite else math.nan,
            "units": float(one.units),
            "act_std": math.sqrt(deviation) if finite else None,
            "act_variation": None,
        }
        if finite and samples > 1:
            values["act_variation"] = spread / power if power > 0 else 0.0
        width = one.shape[0] * one.shape[1]
        if one.kind in PIECEWISE:
            values["dead"] = silent
            values["zero"] = 1 - float(means[piece_at : piece_at + width].mean())
            piece_at += width
        elif one.kind in SATURATING:
            values["slope"] = float(means[slope_at : slope_at + width].mean()) if finite else None
            flat = means[slope_at + slopes : slope_at + slopes + width]
            values["saturated"] = float(flat.mean()) if finite else None
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
