"""Some numbers of an operation's output, kept as they were when it came out."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import gcd
from typing import NamedTuple

import torch

from unstuck.sources.torch.stats import WIDE
from unstuck.trace.structure import PIECEWISE, SATURATING

POINTWISE = PIECEWISE | SATURATING

MOST_SAMPLES = 128
"""Samples of a batch that outputs are measured on."""
MOST_NUMBERS = 1 << 13
"""... and numbers of one output: positions of images are taken evenly, around the middle."""
GOLDEN = (5**0.5 - 1) / 2
HEARD_SAMPLES = 16
HEARD_NUMBERS = 1 << 17
"""Samples and numbers of a ReLU's output in which it is looked for units that give anything but 0."""
PASSING = (
    "MaxPool",
    "AvgPool",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "Flatten",
    "Unflatten",
    "Dropout",
    "Identity",
    "Sequential",  # an empty one
)
"""Operations that pass on what they get: between the steps of the default schedule they are left out."""


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
    total: torch.Tensor | None
    """Sum over the whole output: not finite if any number is not; None where the numbers themselves tell."""
    largest: torch.Tensor | None = None
    """(all units,): of a ReLU's output of which only some positions are in `numbers`: the largest number of
    each unit over all positions of some samples. A unit may be silent at a few positions only, as at the
    black border of an image."""
    heard: int = 0
    """How many samples that is over."""


def look(output: torch.Tensor, kind: str, axis: int, *, weighted: bool, bounded: bool = False) -> Look | None:
    """Keep some numbers of one output, without waiting for the device.

    Of large outputs, samples and positions are taken evenly: enough for means over thousands of numbers. A
    NaN or infinity anywhere is seen all the same, in the sum.

    Args:
        output: (N, units, *positions), or with the units on another axis.
        kind: the operation's type.
        axis: where the units are.
        weighted: whether the operation has parameters.
        bounded: whether a NaN or infinity in it, with a finite input, must fill a whole unit.

    Returns:
        The numbers; None for what is not real, empty or a single number.
    """
    if output.dim() == 0 or not output.is_floating_point() or output.numel() == 0 or output.is_meta:
        return None
    x = output.detach()
    plan = _plan(x.shape, x.stride(), axis) if type(x) is torch.Tensor and x.layout is torch.strided else None
    if plan is None:
        x, width = _units_second(x, axis)
        few = some(x, MOST_SAMPLES, MOST_NUMBERS, width)
        plan = _Plan((), (), 0, int(x.shape[1]), few.numel() < x.numel())
    else:
        few = x.as_strided(plan.shape, plan.strides, x.storage_offset() + plan.start)
    dtype = x.dtype if x.dtype in WIDE else torch.float32
    numbers = few.to(dtype, copy=True, memory_format=torch.contiguous_format)
    samples, taken = few.shape[0], few.shape[1]
    each = few.shape[2] if few.dim() > 2 else 1
    pointwise = kind in POINTWISE
    # what is finite stays finite in a pointwise operation: the one before has been summed
    told = pointwise or not plan.partial or (bounded and taken == plan.units)
    total = None if told else x.sum() if x.dtype in WIDE else x.sum(dtype=dtype)
    found = Look(
        kind, plan.units, (taken, each), numbers.view(samples, taken * each), weighted or pointwise, total
    )
    if kind == "ReLU" and plan.partial:
        found.largest, found.heard = _largest(output, axis)
    return found


def rectified(seen: Look, output: torch.Tensor, axis: int) -> Look:
    """The look at a ReLU, from the look at what it was given.

    Args:
        seen: the look before.
        output: of the ReLU.
        axis: where its units are.
    """
    found = Look("ReLU", seen.units, seen.shape, torch.relu(seen.numbers), own=True, total=None)
    if seen.numbers.numel() < output.numel():
        found.largest, found.heard = _largest(output, axis)
    return found


def _largest(output: torch.Tensor, axis: int) -> tuple[torch.Tensor, int]:
    """The largest number of each unit, over all positions of some samples, and how many samples these are."""
    x = output.detach()
    if x.dim() < 2:
        return x.amax().reshape(1).float(), int(x.shape[0])
    units = axis % x.dim()
    each = max(x.numel() // max(x.shape[0], 1), 1)
    few = x[:: -(-x.shape[0] // max(HEARD_NUMBERS // each, HEARD_SAMPLES))]
    over = [i for i in range(x.dim()) if i != units]
    if few.numel() > HEARD_NUMBERS and len(over) > 1:  # every k-th row of images: all columns are seen
        rows = [slice(None)] * x.dim()
        rows[over[1]] = slice(None, None, -(-few.numel() // HEARD_NUMBERS))
        few = few[tuple(rows)]
    return few.amax(dim=over).float(), int(few.shape[0])


class _Plan(NamedTuple):
    """Which numbers of an output are looked at."""

    shape: tuple[int, ...]
    """(samples, units, positions) or (samples, units)."""
    strides: tuple[int, ...]
    start: int
    """Where the first of them lies."""
    units: int
    """Of the output; not all of very many are looked at."""
    partial: bool
    """Whether some numbers are left out."""


@lru_cache(maxsize=1024)
def _plan(shape: tuple[int, ...], strides: tuple[int, ...], axis: int) -> _Plan | None:
    """The plan for an output of this form; None if its numbers must be moved to lie as (N, units, ...)."""
    whole = torch.empty_strided(shape, strides, device="meta")
    x, width = _units_second(whole, axis)
    few = some(x, MOST_SAMPLES, MOST_NUMBERS, width)
    if few is not whole and few._base is not whole:  # noqa: SLF001  (whether it is a view has no public name)
        return None
    start = int(few.storage_offset()) - int(whole.storage_offset())
    return _Plan(tuple(few.shape), few.stride(), start, int(x.shape[1]), few.numel() < whole.numel())


def _units_second(x: torch.Tensor, axis: int) -> tuple[torch.Tensor, int]:
    """As (N, units) or (N, units, positions), and how many positions make a row."""
    if x.dim() == 1:
        return x.reshape(-1, 1), 1
    if x.dim() == 2:
        return x, 1
    x = x.movedim(axis, 1) if axis not in {1, 1 - x.dim()} else x
    return x.flatten(2), int(x.shape[-1])


def some(x: torch.Tensor, most_samples: int, most_numbers: int, width: int) -> torch.Tensor:
    """Samples, positions and, if there are very many, units, each taken evenly: a view.

    Args:
        x: (N, units) or (N, units, positions).
        most_samples: to keep at most.
        most_numbers: to keep at most, unless there are more samples than that.
        width: how many positions make a row of the image.
    """
    if x.shape[0] > most_samples:
        x = x[:: -(-x.shape[0] // most_samples)]
    each = max(most_numbers // x.shape[0], 1)
    if x.shape[1] > each:
        x = x[:, :: -(-x.shape[1] // each)]
    wanted = max(each // x.shape[1], 1)
    if x.dim() < 3 or x.shape[2] <= wanted:
        return x
    return x[:, :, _positions(int(x.shape[2]), width, wanted)]


def _positions(positions: int, width: int, wanted: int) -> slice:
    """At most so many positions, evenly, around the middle, each in another column than the one before.

    At the border images are often empty, whatever the sample; a step of whole rows stays in one column. The
    column moves on by the golden section of the width: any number of such points lies evenly (Kronecker's
    sequence).
    """
    step = even = -(-positions // wanted)
    if even >= width > 1:
        step = max(round(even / width - GOLDEN), 0) * width + round(GOLDEN * width)
    elif width < positions:
        step = next(wider for wider in count(even) if gcd(wider, width) == 1)
    middle = positions // width // 2 * width + width // 2
    before = min(wanted // 2, middle // step)
    after = min(wanted - before - 1, (positions - 1 - middle) // step)
    return slice(middle - before * step, middle + after * step + 1, step)
