"""Statistics of operations' outputs: reduced where they are, finished for many steps together."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from unstuck.sources.torch.blocks import block_stats
from unstuck.sources.torch.looks import Look, some
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.trace.activity import Activity
from unstuck.trace.measure import Values
from unstuck.trace.recording import Recording
from unstuck.trace.structure import PIECEWISE, SATURATING

CLOSE_SAMPLES = 32
CLOSE_NUMBERS = 1 << 11
"""Samples, and numbers of one output, for what is computed after the transfer: ranks, distinct units."""
FLAT = 0.05
"""A unit whose slope is below this share of the largest one hardly reacts."""
TOGETHER = 16
"""Steps that are finished at once: most of the work is the same for one as for many."""

Use = Callable[[str, Values], None]
Doubles = npt.NDArray[np.float64]


class Kept(NamedTuple):
    """What a look leaves once its numbers are reduced."""

    name: str
    kind: str
    units: int
    shape: tuple[int, int]
    """(units, positions) that were looked at."""
    summed: bool
    """Whether the whole output was summed."""


class Found(NamedTuple):
    """The reduced numbers of one step."""

    step: int
    first: Floats
    means: Floats
    totals: Floats


class Reduction:
    """Reduces the outputs of each measured step on their device, and finishes them later.

    Steps that look alike, and in which all is finite, wait for each other; `flush` finishes them.
    """

    def __init__(self, recording: Recording) -> None:
        """Nothing waits.

        Args:
            recording: where the rows go that were not handed out at once.
        """
        self._recording = recording
        self._waiting: dict[tuple[int, tuple[Kept, ...]], list[Found]] = {}
        self._room: dict[int, torch.Tensor] = {}
        """Memory that the next measured step may use again."""
        self._activity = Activity()

    @property
    def waiting(self) -> bool:
        """Whether some steps are not in the recording yet."""
        return bool(self._waiting)

    def release(self) -> None:
        """The next step is not measured: give the memory back."""
        self._room.clear()

    def flush(self) -> None:
        """Finish all that waits."""
        waiting, self._waiting = self._waiting, {}
        for (samples, kept), found in waiting.items():
            steps = [one.step for one in found]
            with np.errstate(all="ignore"):
                for name, _, columns in _finished(kept, samples, found):
                    self._recording.add_columns(steps, name, columns)

    def bring(
        self, gather: Gather, looks: Sequence[tuple[str, Look]], step: int, use: Use, *, close: bool
    ) -> None:
        """Reduce outputs on their device, and bring the results over.

        Args:
            gather: brings the numbers.
            looks: outputs with their names.
            step: number of the step.
            use: gets a name and the quantities of `measure.output_stats`, where something is not finite or
                a close look is taken; all else is in the recording after `flush`.
            close: whether ranks, cosines and distinct outputs are measured too.
        """
        alike: dict[tuple[torch.device, torch.dtype, int], list[tuple[str, Look]]] = {}
        for one in looks:
            numbers = one[1].numbers
            alike.setdefault((numbers.device, numbers.dtype, numbers.shape[0]), []).append(one)
        for number, group in enumerate(alike.values()):
            ordered = sorted(group, key=lambda one: _order(one[1].kind))
            blocks = _bring_blocks(gather, ordered) if close else None
            self._bring(gather, ordered, Place(step, number), use, blocks)

    def _bring(
        self,
        gather: Gather,
        looks: list[tuple[str, Look]],
        at: "Place",
        use: Use,
        blocks: dict[str, Floats] | None,
    ) -> None:
        """Outputs of as many samples, side by side."""
        widths = [0, 0, 0, 0]
        for _, one in looks:
            widths[_order(one.kind)] += one.numbers.shape[1]
        samples = looks[0][1].numbers.shape[0]
        kept = tuple(Kept(name, one.kind, one.units, one.shape, one.total is not None) for name, one in looks)
        numbers = [one.numbers for _, one in looks]
        x = torch.cat(numbers, dim=1, out=self._space(at.group, numbers[0], (samples, sum(widths))))
        first, arrays = x[0].clone(), list[Floats]()
        gather.put(first, arrays.append)
        gather.put(_reduced(x, first, widths), arrays.append)
        summed = [one.total for _, one in looks if one.total is not None]
        gather.put_all(summed or [first[0]], arrays.append)
        heard: dict[str, Floats] = {}
        for name, one in looks:
            if one.largest is not None:
                gather.put(one.largest, lambda x, name=name: heard.__setitem__(name, x))

        def finish(_: Floats) -> None:
            found = Found(at.step, *arrays)
            self._hear(at.step, looks, found, heard)
            if blocks is None and np.isfinite(found.means).all() and np.isfinite(found.totals).all():
                waiting = self._waiting.setdefault((samples, kept), [])
                # copies: else all that came over in this step would wait too
                waiting.append(Found(at.step, *(array.copy() for array in arrays)))
                if len(waiting) >= TOGETHER:
                    self.flush()
                return
            with np.errstate(all="ignore"):
                for name, finite, columns in _finished(kept, samples, [found]):
                    values = _at_once(
                        {quantity: column[0] for quantity, column in columns.items()}, finite[0]
                    )
                    if blocks is not None and name in blocks:
                        values |= block_stats(blocks[name])
                    use(name, values)

        gather.put(first[:0], finish)

    def _hear(
        self, step: int, looks: list[tuple[str, Look]], found: "Found", heard: dict[str, Floats]
    ) -> None:
        """Which units gave anything but 0: told of each step in its order, as it comes over."""
        begin = 2 * len(found.first)
        for name, one in looks:
            if one.kind not in PIECEWISE:
                continue
            width = one.shape[0] * one.shape[1]
            shares = found.means[begin : begin + width].reshape(one.shape)
            begin += width
            largest = heard.get(name)
            active = shares.max(axis=1) != 0 if largest is None else largest != 0
            samples = one.heard if largest is not None else one.numbers.shape[0]
            values = self._activity.see(name, active, units=one.units, samples=samples)
            self._recording.add_row(step, name, values)

    def _space(self, group: int, like: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """Memory for so many numbers: that of the measured step before, if it fits."""
        room = self._room.get(group)
        fits = room is not None and tuple(room.shape) == shape and room.dtype == like.dtype
        if room is None or not fits or room.device != like.device:
            room = self._room[group] = like.new_empty(shape)
        return room


class Place(NamedTuple):
    """Which step, and which of its groups of outputs."""

    step: int
    group: int


def _order(kind: str) -> int:
    """Outputs that are treated alike stand together."""
    return 1 if kind in PIECEWISE else 2 if kind == "Sigmoid" else 3 if kind in SATURATING else 0


def _reduced(x: torch.Tensor, first: torch.Tensor, widths: list[int]) -> torch.Tensor:
    """Means over the samples.

    Args:
        x: (N, numbers): of plain operations, of the ReLU family, of Sigmoid, of Tanh; overwritten.
        first: (numbers,), its first row.
        widths: how many numbers each of the four has.

    Returns:
        (2 * numbers + pieces + 2 * slopes,): of the distances to the first sample, of their squares, of
        what is not 0, of the slopes' size, and of flat slopes.
    """
    _, piece, sigmoid, tanh = x.split(widths, dim=1)
    pieces: list[torch.Tensor] = []
    slopes: list[torch.Tensor] = []
    if widths[1]:
        pieces.append(piece.sign().abs_().mean(0))
    if widths[2]:
        slopes.append((1 - sigmoid).mul_(sigmoid).mul_(4).abs_())
    if widths[3]:
        slopes.append((tanh * tanh).neg_().add_(1).abs_())
    flat = [(size < FLAT).to(size.dtype).mean(0) for size in slopes]
    # distances to the first sample: exactly 0 for a constant output, and no cancellation for others
    moved = x.sub_(first).mean(0)
    return torch.cat([moved, x.square_().mean(0), *pieces, *(size.mean(0) for size in slopes), *flat])


def _bring_blocks(gather: Gather, looks: Sequence[tuple[str, Look]]) -> dict[str, Floats]:
    """Small blocks of the outputs whose units are made there; they are filled when all is delivered."""
    blocks: dict[str, Floats] = {}
    for name, one in looks:
        if one.own:
            block = some(one.numbers.view(-1, *one.shape), CLOSE_SAMPLES, CLOSE_NUMBERS, one.shape[1])
            gather.put(block, lambda x, name=name: blocks.__setitem__(name, x))
    return blocks


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


def _finished(
    kept: Sequence[Kept], samples: int, found: Sequence[Found]
) -> Iterator[tuple[str, npt.NDArray[np.bool_], dict[str, Doubles]]]:
    """All quantities of all operations; a unit has as many positions as any other of its operation.

    Args:
        kept: the operations.
        samples: of the batch.
        found: (steps,) that look alike.

    Yields:
        Name, (steps,) whether all was finite, and (steps,) of each quantity; NaN is undefined.
    """
    at = _places(tuple(one.shape for one in kept))
    first, means = (
        np.array(rows, dtype=np.float64) for rows in zip(*((f.first, f.means) for f in found), strict=True)
    )
    wide = first.shape[1]
    moved = means[:, :wide]
    centre = first + moved
    begins = centre[:, at.units]
    # one row for each kind of mean, so that all are taken at once
    rows = np.empty((4, *centre.shape))
    rows[0] = np.maximum(means[:, wide : 2 * wide] - moved * moved, 0.0)
    rows[1] = centre - np.repeat(begins, at.positions, axis=1)
    np.multiply(rows[1], rows[1], out=rows[2])
    np.multiply(centre, centre, out=rows[3])
    within, shifted, across, square = np.add.reduceat(rows, at.units, axis=2) / at.positions
    units = np.stack(
        [
            shifted + begins,
            within,
            within + square,
            within + np.maximum(across - shifted * shifted, 0.0),
        ]
    )
    each = np.add.reduceat(units, at.operations, axis=2) / at.counts
    finite_sums = iter(np.isfinite([one.totals for one in found]).T)
    piece_at = 2 * wide
    slope_at = piece_at + sum(one.shape[0] * one.shape[1] for one in kept if one.kind in PIECEWISE)
    slopes = (means.shape[1] - slope_at) // 2
    for i, one in enumerate(kept):
        mean, spread, power, deviation = each[:, :, i]
        finite = np.isfinite(mean) & (next(finite_sums) if one.summed else True)
        columns = {
            "act_mean": mean,
            "act_rms": np.sqrt(np.maximum(power, 0.0)),
            "units": np.full(len(found), float(one.units)),
            "act_std": np.sqrt(deviation),
            "act_variation": np.where(power > 0, spread / power, 0.0) if samples > 1 else mean * np.nan,
        }
        width = one.shape[0] * one.shape[1]
        if one.kind in PIECEWISE:
            columns["zero"] = 1 - means[:, piece_at : piece_at + width].mean(1)
            piece_at += width
        elif one.kind in SATURATING:
            columns["slope"] = means[:, slope_at : slope_at + width].mean(1)
            columns["saturated"] = means[:, slope_at + slopes : slope_at + slopes + width].mean(1)
            slope_at += width
        yield one.name, finite, columns


def _at_once(columns: dict[str, float], finite: np.bool_) -> Values:
    """The quantities of one step: where something is not finite, sizes are NaN and the rest is undefined."""
    values: Values = {}
    for quantity, number in columns.items():
        whole = quantity in {"units", "zero"}
        bad = math.nan if quantity in {"act_mean", "act_rms"} else None
        values[quantity] = float(number) if whole or (finite and not math.isnan(number)) else bad
    return values
