"""What is measured of weights, gradients, updates, outputs and data: pure functions of arrays.

Everything is computed in float64. NaN and Inf never raise or warn: norms and means carry them on, because
that is what was measured; what has no meaning beside them (spreads, ranks, cosines) is None, as is a
ratio to zero. No array that is passed in is changed.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.trace.distinct import count_distinct
from unstuck.trace.structure import PIECEWISE, SATURATING

Array = npt.NDArray[np.floating[Any] | np.integer[Any]]
Doubles = npt.NDArray[np.float64]
Values = dict[str, float | None]

_QUIET = np.errstate(all="ignore")
"""What overflows or is NaN is a measurement here, not a mistake."""

SAME = 1e-6
"""Two units are the same up to this relative difference (about ten roundings of float32)."""
SOME = 1 << 15
"""Inputs among which different numbers are counted, at most."""
MAX_ROWS = 4096
"""Rows (samples × positions) that ranks and distinct outputs look at, taken evenly."""
MAX_SIDE = 1024
"""... and fewer when there are more units than this, so that the smaller Gram matrix stays small."""


def doubles(array: npt.ArrayLike) -> Doubles:
    """The array in float64 (itself when it is so already)."""
    return np.asarray(array, dtype=np.float64)


def by_row(array: npt.ArrayLike) -> Doubles:
    """(N, ...) as (N, numbers each), float64; a single number as (1, 1)."""
    x = doubles(array)
    return x.reshape(x.shape[0], math.prod(x.shape[1:])) if x.ndim else x.reshape(1, 1)


@_QUIET
def norm(array: Array) -> float:
    """Euclidean norm over all entries, safe from overflow and underflow of the squares.

    Example:
        >>> norm(np.array([3e200, 4e200])) / 1e200
        5.0
    """
    flat = doubles(array).ravel()
    plain = float(np.sqrt(flat @ flat))
    if 1e-140 < plain < np.inf:
        return plain
    largest = float(np.max(np.abs(flat), initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    scaled = flat / largest
    return largest * float(np.sqrt(scaled @ scaled))


def ratio(part: float, whole: float) -> float | None:
    """Part / whole; None for a whole of zero."""
    return None if whole == 0.0 else part / whole


@_QUIET
def tensor_stats(weight: Array, grad: Array | None = None) -> Values:
    """weight_norm, nonfinite and, with a gradient, grad_norm and zero_grad of one tensor."""
    values: Values = {"weight_norm": norm(weight)}
    bad = ~np.isfinite(weight)
    if grad is not None:
        values["grad_norm"] = norm(grad)
        values["zero_grad"] = float(np.mean(grad == 0)) if grad.size else None
        bad = bad | ~np.isfinite(grad)
    values["nonfinite"] = float(np.mean(bad)) if bad.size else None
    return values


@_QUIET
def unit_rows(weight: Array, bias: Array | None = None) -> Doubles:
    """One row [weights, bias] for each unit: (units, fan_in) or (units, fan_in + 1), float64."""
    rows = by_row(weight)
    if bias is not None and bias.shape == (len(rows),):
        return np.concatenate([rows, doubles(bias)[:, None]], axis=1)
    return rows


@_QUIET
def spread(rows: Doubles) -> float | None:
    """How different units are: max_i |u_i − u_0| / max_i |u_i|.

    Distance from the first unit stands for the largest distance between any two: it is 0 exactly when
    all units are equal, never more than that distance and never less than half of it, at linear cost.

    Args:
        rows: (units, numbers per unit).

    Returns:
        The spread; None for a single unit, for units that are all zero and for NaN or Inf.

    Example:
        >>> spread(np.array([[3.0, 4.0], [3.0, 4.0]]))
        0.0
    """
    if len(rows) < 2 or not np.isfinite(rows).all():
        return None
    scaled = _scaled(rows)
    distance = float(np.linalg.norm(scaled - scaled[0], axis=1).max())
    return ratio(distance, float(np.linalg.norm(scaled, axis=1).max()))


@_QUIET
def distinct_units(rows: Doubles) -> float | None:
    """Number of different units, to 1e-6 of the longer of two; None for NaN or Inf."""
    if not np.isfinite(rows).all():
        return None
    return float(count_distinct(_scaled(rows), SAME))


def unit_stats(
    weight: Array, bias: Array | None = None, grad: Array | None = None, bias_grad: Array | None = None
) -> Values:
    """unit_spread, distinct_units and, with a gradient, grad_spread of one layer; axis 0 counts units."""
    rows = unit_rows(weight, bias)
    values: Values = {"unit_spread": spread(rows), "distinct_units": distinct_units(rows)}
    if grad is not None:
        values["grad_spread"] = spread(unit_rows(grad, bias_grad))
    return values


@_QUIET
def update_stats(before: Array, after: Array, start: Array) -> Values:
    """update_norm, update_ratio, drift_norm and drift of one tensor.

    Args:
        before: the weights before the update.
        after: the weights after it.
        start: the weights that the training began with.
    """
    final = doubles(after)
    update = norm(final - before)
    way = norm(final - start)
    return {
        "update_norm": update,
        "update_ratio": ratio(update, norm(before)),
        "drift_norm": way,
        "drift": ratio(way, norm(start)),
    }


@_QUIET
def grad_cosine(pairs: Iterable[tuple[Array, Array]]) -> float | None:
    """Cosine between two gradients, given tensor by tensor; None when one is zero or not finite."""
    dot = first = second = 0.0
    for a, b in pairs:
        x, y = doubles(a).ravel(), doubles(b).ravel()
        dot, first, second = dot + float(x @ y), first + float(x @ x), second + float(y @ y)
    length = float(np.sqrt(first) * np.sqrt(second))
    return dot / length if np.isfinite(dot) and 0.0 < length < np.inf else None


def output_stats(output: Array, kind: str = "") -> Values:
    """All that is measured of one operation's output.

    Args:
        output: (N, units), (N, units, *positions) or (N,) for a single unit.
        kind: the operation's type: the ReLU family adds `dead` and `zero`; Sigmoid and Tanh add `saturated`
            and `slope`.
    """
    return size_stats(output, kind) | close_stats(output)


@_QUIET
def size_stats(output: Array, kind: str = "") -> Values:
    """The part of `output_stats` that is made of sums: act_mean to act_variation, dead to slope."""
    x = by_unit(output)
    finite = bool(np.isfinite(x).all())
    values: Values = {
        "act_mean": float(x.mean()) if x.size else None,
        "act_rms": norm(x) / float(np.sqrt(x.size)) if x.size else None,
        "units": float(x.shape[1]),
        "act_std": _unit_std(x) if finite and x.size else None,
        "act_variation": variation(x),
    }
    if kind in PIECEWISE and x.size:
        values["dead"] = float(np.mean(np.all(x == 0, axis=(0, 2))))
        values["zero"] = float(np.mean(x == 0))
    if kind in SATURATING and x.size:
        slope = 4 * x * (1 - x) if kind == "Sigmoid" else 1 - x * x
        values["saturated"] = float(np.mean(slope < 0.05)) if finite else None
        values["slope"] = float(np.mean(np.abs(slope))) if finite else None
    return values


@_QUIET
def close_stats(output: Array) -> Values:
    """The part that compares samples and units: input_cosine, effective_rank and distinct_outputs.

    References:
        Roy & Vetterli (2007), "The effective rank: a measure of effective dimensionality", EUSIPCO.
    """
    x = by_unit(output)
    if not np.isfinite(x).all():
        return {"input_cosine": None, "effective_rank": None, "distinct_outputs": None}
    rows = _some_rows(x)
    return {
        "input_cosine": _mean_cosine(by_row(x)),
        "effective_rank": effective_rank(rows),
        "distinct_outputs": _distinct_outputs(rows),
    }


@_QUIET
def variation(samples: Array) -> float | None:
    """Share of an output that depends on the input: its variance over samples / its mean square.

    Args:
        samples: (N, ...).

    Returns:
        0 for a constant output (zero included), at most 1; None for fewer than two samples and for NaN
        or Inf.
    """
    x = by_row(samples)
    if len(x) < 2 or x.size == 0 or not np.isfinite(x).all():
        return None
    x = _scaled(x)
    moved = x - x[0]  # exactly zero where the output is constant
    square = float(np.mean(x * x))
    return float(np.mean(moved.var(axis=0))) / square if square > 0.0 else 0.0


@_QUIET
def effective_rank(rows: Doubles) -> float | None:
    """exp(H(p)) with p the singular values of the centred matrix over their sum.

    The singular values are square roots of the eigenvalues of the smaller Gram matrix.

    Args:
        rows: (samples × positions, units), finite.

    Returns:
        Between 1 and the rank; 0 when nothing varies by more than 1e-6 of its size; None for a single row.

    Example:
        >>> round(effective_rank(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
        2.0
    """
    if len(rows) < 2 or rows.size == 0:
        return None
    centred = _centred(rows)
    size = norm(centred)
    if size <= SAME * norm(_scaled(rows)):
        return 0.0
    centred = centred / size
    gram = centred @ centred.T if centred.shape[0] < centred.shape[1] else centred.T @ centred
    eigenvalues = np.linalg.eigvalsh(gram)
    noise = float(eigenvalues[-1]) * len(gram) * float(np.finfo(np.float64).eps)
    singular = np.sqrt(eigenvalues[eigenvalues > noise])
    shares = singular / singular.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


@_QUIET
def nonfinite_share(inputs: Array) -> float:
    """Share of the numbers that are NaN or infinite.

    Example:
        >>> nonfinite_share(np.array([[1.0, np.nan], [0.0, 2.0]]))
        0.25
    """
    if not np.issubdtype(inputs.dtype, np.inexact) or not inputs.size:
        return 0.0
    return 1 - float(np.isfinite(inputs).mean())


def data_stats(inputs: Array) -> Values:
    """Smallest, largest, mean and std of the finite inputs, and the share that is not finite.

    Of at most 32,768 of them, drawn evenly: how many are different, and the share of the commonest.
    """
    x = doubles(inputs).ravel()
    finite = x[np.isfinite(x)]
    some = finite if finite.size <= SOME else finite[np.random.default_rng(0).permutation(finite.size)[:SOME]]
    _, counts = np.unique(some, return_counts=True)
    return {
        "data.values": float(counts.size) if counts.size else None,
        "data.commonest": float(counts.max() / some.size) if counts.size else None,
        "data.min": float(finite.min()) if finite.size else None,
        "data.max": float(finite.max()) if finite.size else None,
        "data.mean": float(finite.mean()) if finite.size else None,
        "data.std": float(finite.std()) if finite.size else None,
        "data.nonfinite": 1 - finite.size / x.size if x.size else None,
    }


def by_unit(output: Array) -> Doubles:
    """An output as (N, units, positions) in float64."""
    x = doubles(output)
    if x.ndim < 2:
        return x.reshape(x.size, 1, 1)
    return x.reshape(x.shape[0], x.shape[1], math.prod(x.shape[2:]))


def _some_rows(x: Doubles) -> Doubles:
    """(N, units, positions) as (samples × positions, units), rows taken evenly when there are too many."""
    count, units, positions = x.shape[0] * x.shape[2], x.shape[1], x.shape[2]
    most = MAX_SIDE if units > MAX_SIDE else MAX_ROWS
    chosen = np.arange(count) if count <= most else np.linspace(0, count - 1, most).astype(np.int64)
    return x[chosen // max(positions, 1), :, chosen % max(positions, 1)]


def _scaled(x: Doubles) -> Doubles:
    """The array over its largest entry, so that squares neither overflow nor vanish."""
    largest = float(np.max(np.abs(x), initial=0.0))
    return x / largest if largest > 0.0 else x


def _centred(rows: Doubles) -> Doubles:
    """Scaled rows minus their mean; a constant column becomes exactly zero."""
    x = _scaled(rows)
    moved = x - x[0]
    return moved - moved.mean(axis=0)


def _unit_std(x: Doubles) -> float:
    """Standard deviation over samples and positions, root mean square over units; x (N, units, positions)."""
    scaled = _scaled(x)
    moved = scaled - scaled[:1, :, :1]
    return float(np.sqrt(np.mean(moved.var(axis=(0, 2))))) * float(np.max(np.abs(x)))


def _mean_cosine(samples: Doubles) -> float | None:
    """Mean cosine over all pairs of samples that are not zero; None when there is no pair."""
    if samples.size == 0:
        return None
    largest = np.max(np.abs(samples), axis=1, keepdims=True)
    x = samples[largest[:, 0] > 0] / largest[largest[:, 0] > 0]
    n = len(x)
    if n < 2:
        return None
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    total = x.sum(axis=0)  # |sum of unit vectors|^2 is n plus the cosines of all ordered pairs
    return float((total @ total - n) / (n * (n - 1)))


def _distinct_outputs(rows: Doubles) -> float | None:
    """Units whose centred outputs have a cosine below 1 − 1e-6 to each other; constant units count as one."""
    if len(rows) < 2:
        return None
    centred = _centred(rows)
    lengths = np.linalg.norm(centred, axis=0)
    varies = lengths > SAME * np.linalg.norm(_scaled(rows), axis=0)
    directions = (centred[:, varies] / lengths[varies]).T
    constant = 0.0 if bool(varies.all()) else 1.0
    return constant + count_distinct(np.ascontiguousarray(directions), float(np.sqrt(2 * SAME)))
