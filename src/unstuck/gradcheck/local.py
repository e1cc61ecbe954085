"""Names the mistake in one gradient, from what it should have been and from what its sum is made of."""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np

from unstuck.gradcheck.arrangement import Moved, arrangements, permuted, ratio, same
from unstuck.gradcheck.known.convolution import Convolution
from unstuck.gradcheck.known.operation import Operation
from unstuck.gradcheck.tree import Array

FEW = 2
"""Fewer entries have any factor in common."""


@dataclass(frozen=True)
class Expected:
    """What a gradient should have been, as far as it is known."""

    name: str
    shape: tuple[int, ...]
    index: Array
    """Flat indices of what is known."""
    right: Array
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    """What a factor may be: `the batch size` to its number."""
    share: Array | None = None
    """Contributions: (..., entries), whose sum over all axes but the last is the gradient."""
    operation: Operation | None = None
    turns: bool = False
    """Whether the contributions' first axis is that of a loop's turns, which is gone through backwards."""
    added: bool = False
    """Whether it is known that the tensor is only added, as a bias of whatever shape."""

    @property
    def whole(self) -> Array | None:
        """The right gradient, if all of it is known."""
        if self.right.size != int(np.prod(self.shape)):
            return None
        return self.right.reshape(self.shape)


Named = tuple[str, str]
"""Kind and explanation."""


def explain(given: Array, expected: Expected) -> Named | None:
    """Kind and explanation of a wrong gradient; None: it is like none of the known mistakes.

    Args:
        given: the user's gradient, in whatever shape it has.
        expected: what it should have been.
    """
    name = expected.name
    if given.shape != expected.shape:
        return _shape(given, expected)
    known = given.reshape(-1)[expected.index]
    if not given.any() and expected.right.any():
        return "missing-gradient", f"the gradient of {name} is zero everywhere"
    factor = ratio(known, expected.right)
    if factor is not None and (known.size > FEW or _telling(factor, expected)):
        return factor_named(factor, expected)
    parts = _parts(given, expected)
    if parts is not None:
        return parts
    for moved in arrangements(given, expected.right, expected.index):
        return _arrangement(moved, expected)
    return _order(given, expected) or _some(given, expected)


def _some(given: Array, expected: Expected) -> Named | None:
    """Some entries with a factor in common, and the others right: parameters that share one array."""
    known, right = given.reshape(-1)[expected.index], expected.right
    size = float(np.abs(right).max(initial=0.0))
    bad = np.abs(known - right) > 1e-3 * np.maximum(np.abs(right), 1e-2 * size)
    if not FEW <= int(bad.sum()) < bad.size:
        return None
    factor = ratio(known[bad], right[bad])
    if factor is None or float(np.ptp(right[bad])) == 0:
        return None
    kind, text = factor_named(factor, replace(expected, share=None))
    first, last = (np.unravel_index(int(expected.index[bad][at]), expected.shape) for at in (0, -1))
    where_from = f"{[int(k) for k in first]} to {[int(k) for k in last]}"
    return kind, f"{text} ({int(bad.sum())} of {bad.size} entries, from {where_from}; the others are right)"


def _telling(factor: float, expected: Expected) -> bool:
    """Whether a factor is one that people forget: few entries have some factor in common by chance."""
    if abs(factor + 1) < 1e-3 or factor_word(abs(factor), expected.sizes):
        return True
    return any(abs(abs(factor) * count - 1) < 1e-4 for count in _counts(expected))


def _counts(expected: Expected) -> list[int]:
    """How many contributions a mean may have been taken over: along one axis, or several."""
    axes = expected.share.shape[:-1] if expected.share is not None else ()
    counts = (int(np.prod([axes[axis] for axis in part])) for part in _subsets(axes))
    return [count for count in counts if count > 1]


def factor_named(factor: float, expected: Expected) -> Named:
    """What a constant factor is, in words."""
    name = expected.name
    if abs(factor + 1) < 1e-3:
        return "sign-flipped", f"the gradient of {name} has the wrong sign"
    size, sign = abs(factor), "with the wrong sign, and " if factor < 0 else ""
    word = factor_word(size, expected.sizes)
    for count in _counts(expected):
        if abs(size * count - 1) < 2e-3 and _is_bias(expected):
            mean = f"a mean over {count} instead of a sum: it is 1/{count} of the right one"
            text = f"the gradient of {name} is {sign}{mean}"
            return "mean-instead-of-sum", text
    return "factor", f"the gradient of {name} is {sign}{size:.6g} times the right one{word}"


def factor_word(size: float, sizes: dict[str, int]) -> str:
    """What a positive factor may come from."""
    for what, count in sizes.items():
        if count > 1 and abs(size / count - 1) < 2e-3:
            return f": {what} is {count}" + (", or the 2 of a square" if count == 2 else "")
        if count > 1 and abs(size * count - 1) < 2e-3:
            return f": 1 / {what} ({count})" + (", or the 1/2 of a square" if count == 2 else "")
    if abs(size - 2) < 2e-3 or abs(size - 0.5) < 1e-3:
        return ": a 2 or 1/2, as from the derivative of a square"
    for what, count in sizes.items():
        for times in (2.0, 0.5):
            if abs(size / (count * times) - 1) < 2e-3 or abs(size * count * times - 1) < 2e-3:
                return f": {what} ({count}) and a factor of 2"
    power = np.log10(size)
    if size < 1 and (
        abs(power - round(power)) < 1e-3
        or any(abs(10**power / 10 ** np.floor(power) - k) < 5e-3 for k in range(1, 10))
    ):
        return ": is a learning rate inside it?"
    return ""


def _shape(  # noqa: C901, PLR0911  (a list of what a shape may tell)
    given: Array, expected: Expected
) -> Named:
    name, shape = expected.name, expected.shape
    found = f"the gradient of {name} has shape {given.shape}, expected {shape}"
    whole = expected.whole
    share = expected.share
    if share is not None and share.shape[-1] == int(np.prod(shape)):
        for part in _subsets(share.shape[:-1]):
            kept = [str(size) for axis, size in enumerate(share.shape[:-1]) if axis not in part]
            if set(kept) - {"1"} and _equal_numbers(given, share.sum(axis=part) if part else share):
                return (
                    "not-summed",
                    f"{found}: it is not summed over all that share {name} ({' x '.join(kept)} left)",
                )
    if whole is not None:
        extra = given.ndim - whole.ndim
        if extra > 0 or given.size > whole.size:
            for part in _subsets(given.shape):
                if (
                    part
                    and same_shape(given.sum(axis=part), whole)
                    and same(given.sum(axis=part).reshape(shape), whole)
                ):
                    return (
                        "not-summed",
                        f"{found}: it is not summed over the batch or positions that share {name}",
                    )
        if given.ndim == whole.ndim and given.shape == whole.shape[::-1]:
            if same(given.T, whole):
                return "transposed", f"{found}: it is transposed"
        elif given.size == whole.size and ratio(given.reshape(-1), whole.reshape(-1)) is not None:
            return "wrong-shape", f"{found}: the numbers are right, their shape is not"
    if given.ndim == len(shape) and given.shape == shape[::-1] and given.shape != shape:
        return "transposed", f"{found}: it is transposed"
    if given.size > int(np.prod(shape)) and len(shape) <= 1 and given.size % max(1, int(np.prod(shape))) == 0:
        return "not-summed", f"{found}: it is not summed over all that share {name}"
    return "wrong-shape", found


def _is_bias(expected: Expected) -> bool:
    """Whether a tensor is only added, or is a vector, whatever the number of its axes."""
    return expected.added or max(expected.shape, default=1) == int(np.prod(expected.shape))


def same_shape(a: Array, b: Array) -> bool:
    """Whether two arrays have as many entries."""
    return a.size == b.size


def _equal_numbers(given: Array, part: Array) -> bool:
    if given.size != part.size:
        return False
    a, b = np.sort(given.reshape(-1)), np.sort(part.reshape(-1))
    return same(a, b, 1e-6)


def _subsets(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    axes = range(len(shape))
    return list(itertools.chain.from_iterable(itertools.combinations(axes, n) for n in range(len(shape) + 1)))


def _parts(given: Array, expected: Expected) -> Named | None:
    """A part of the sum instead of all of it: the last, the first, or a mean over some of it."""
    share, name = expected.share, expected.name
    if share is None or share.shape[-1] != given.size:
        return None
    flat = given.reshape(-1)
    axes = share.shape[:-1]
    if axes == share.shape[1:] and _is_bias(expected):
        gap = float(np.sqrt(((flat - share.sum(axis=1)) ** 2).sum()))
        if gap <= 1e-6 * float(np.sqrt((share**2).sum())):
            return "not-summed", f"the gradient of {name} is summed over the wrong axis"
    for part in _subsets(axes):
        if not part or any(axes[axis] == 1 for axis in part):
            continue
        count = int(np.prod([axes[axis] for axis in part]))
        for last in (-1, 0):
            cut = share[tuple(last if axis in part else slice(None) for axis in range(share.ndim))]
            one = cut.sum(axis=tuple(range(cut.ndim - 1)))
            if same(flat, one):
                which = "last" if last else "first"
                text = (
                    f"the gradient of {name} is that of the {which} of {count} uses alone: it is not added up"
                )
                overwritten = (
                    last == -1 or "recurrent" in getattr(expected.operation, "word", "") or expected.turns
                )
                return ("overwritten" if overwritten and not _is_bias(expected) else "not-summed"), text
    return None


def _arrangement(  # noqa: PLR0911  (a list of what may be moved)
    moved: Moved, expected: Expected
) -> Named:
    name = expected.name
    sign = " and has the wrong sign" if moved.factor < 0 else ""
    plain = tuple(range(len(moved.permutation)))
    kernel = _kernel_axes(expected)
    if moved.permutation != plain:
        changed = {axis for axis in plain if moved.permutation[axis] != axis}
        if len(plain) > 2 and not changed <= set(kernel):
            return (
                "channels-swapped",
                f"input and output channels are exchanged in the gradient of {name}{sign}",
            )
        return "transposed", f"the gradient of {name} is transposed{sign}"
    if moved.flipped:
        if kernel and set(moved.flipped) <= set(kernel):
            return (
                "kernel-not-flipped",
                f"the gradient of the kernel {name} is the wrong way round: flipped{sign}",
            )
        if len(plain) > 3 or (len(plain) == 3 and isinstance(expected.operation, Convolution)):
            return "channels-swapped", f"the channels in the gradient of {name} stand in another order{sign}"
        return "shifted", f"the gradient of {name} stands in reverse{sign}"
    axis, by = moved.rolled
    if len(plain) == 4 and axis > 0 and 2 * abs(by) == expected.shape[axis]:
        return "channels-swapped", f"both halves of axis {axis} are exchanged in the gradient of {name}{sign}"
    return "shifted", f"the gradient of {name} is off by {abs(by)} along axis {axis}{sign}"


def _kernel_axes(expected: Expected) -> tuple[int, ...]:
    """Axes of a kernel's height and width; guessed from the shape where the operation is not known."""
    if isinstance(expected.operation, Convolution):
        if expected.operation.form.view:
            return ()
        return tuple(axis for axis in expected.operation.order[2:] if axis >= 0)
    shape = expected.shape
    if len(shape) == 4:
        return (0, 1) if shape[0] == shape[1] <= 7 and shape[2] != shape[3] else (2, 3)
    return (2,) if len(shape) == 3 else ()


def _order(given: Array, expected: Expected) -> Named | None:
    whole = expected.whole
    if whole is not None and whole.size > 3 and permuted(given, whole):
        if whole.ndim == 4 and _whole_channels(given, whole, _kernel_axes(expected)):
            text = f"the channels in the gradient of {expected.name} stand in another order"
            return "channels-swapped", text
        return "shifted", f"the gradient of {expected.name} holds the right numbers in other places"
    return None


def _whole_channels(given: Array, right: Array, spatial: tuple[int, ...]) -> bool:
    """Whether each height by width of one stands somewhere in the other as it is."""
    if len(spatial) != 2:
        return False
    one, two = (
        np.moveaxis(array, spatial, (-2, -1)).reshape(-1, 1, *_sizes(array, spatial))
        for array in (given, right)
    )
    size = float(np.abs(two).max(initial=0.0))
    alike = np.abs(one - two.swapaxes(0, 1)).max(axis=(2, 3)) <= 1e-6 * size
    return bool(alike.any(axis=0).all() and alike.any(axis=1).all())


def _sizes(array: Array, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(array.shape[axis] for axis in axes)


def where(given: Array, index: Array, bad: Array, right: Array) -> str:
    """Which entries are wrong, and how, without a guess at the reason."""
    shape = given.shape
    wrong = index[bad]
    if not wrong.size:
        return "its entries together, though none of them alone"
    if wrong.size == index.size:
        text = (
            "all entries are wrong"
            if index.size == given.size
            else f"all {index.size} entries looked at are wrong"
        )
    else:
        text = f"{wrong.size} of {index.size} entries looked at are wrong"
        places = np.array(np.unravel_index(wrong, shape)) if shape else np.zeros((0, wrong.size), dtype=int)
        fixed = [
            f"axis {axis} at {int(row[0])}"
            for axis, row in enumerate(places)
            if np.ptp(row) == 0 and shape[axis] > 1
        ]
        text += f", all with {' and '.join(fixed)}" if fixed else ""
    first = int(np.flatnonzero(bad)[0])
    place = tuple(int(k) for k in np.unravel_index(int(index[first]), shape)) if shape else ()
    found = float(given.reshape(-1)[index[first]])
    return f"{text}; at {list(place)}: {found:.6g} instead of {float(right[first]):.6g}"
