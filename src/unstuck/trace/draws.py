"""What weights tell, before any update, about the random draws that made them: drawn twice from one seed?

A generator that is seeded again for every layer gives all tensors the same first numbers, up to the factor by
which an initialisation scales them. Four numbers in a row are enough to tell: their three ratios agree by
chance, to 1e-5 each, in one of some 10^13 pairs of tensors.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from unstuck.trace.grouping import BIAS, WEIGHT, row_name
from unstuck.trace.measure import Array, Doubles, Values, by_row, doubles

FIRST = 4
"""Numbers of a tensor that are compared."""
CLOSE = 1e-5
"""Relative difference up to which ratios are the same: many roundings of float32."""
ROW = 64
"""Weights of the first unit that are looked at."""

Starts = list[Doubles]
"""Ratios to the first number, (3,) each, in the orders in which a tensor may have been filled."""


def starts(weight: Array, bias: Array | None = None) -> Starts:
    """How a tensor begins, in three orders: unit by unit, input by input, and each unit with its bias.

    Args:
        weight: (units, inputs, ...), or its first `FIRST` units and inputs.
        bias: (units,), or its first ones.

    Returns:
        Ratios of the second, third and fourth number to the first. None of a tensor whose first numbers are
        not finite, zero or equal in size: constants, identities and signs are no draws.
    """
    rows = by_row(weight)
    orders = [rows.ravel(), rows.T.ravel()]
    if bias is not None and rows.shape[1] < FIRST and len(bias) == len(rows):
        orders.append(np.concatenate([rows, doubles(bias)[:, None]], axis=1).ravel())
    return [numbers[1:FIRST] / numbers[0] for numbers in orders if _drawn(numbers[:FIRST])]


def corner(weight: Array) -> Doubles:
    """The first units and inputs of a weight tensor, all that `starts` needs: (units, inputs)."""
    return by_row(weight[:FIRST])[:, :FIRST] if weight.ndim > 1 else np.zeros((0, 0))


def same_draws(tensors: Mapping[str, Starts]) -> dict[str, Values]:
    """Groups of tensors that begin with the same draws.

    Args:
        tensors: name to how it begins.

    Returns:
        For each name `same_draws`: the number of its group, from 1; None for one that has no like.
    """
    entries = [(start, name) for name, known in tensors.items() for start in known]
    entries.sort(key=lambda entry: float(entry[0][0]))
    group = {name: name for name in tensors}
    for i, (start, name) in enumerate(entries):
        for other, partner in entries[i + 1 :]:
            if other[0] - start[0] > CLOSE * abs(start[0]):
                break
            if partner != name and np.all(np.abs(other - start) <= CLOSE * np.abs(start)):
                old, new = group[partner], group[name]
                group = {key: new if value == old else value for key, value in group.items()}
    shared = [first for first in dict.fromkeys(group.values()) if list(group.values()).count(first) > 1]
    return {
        name: {"same_draws": float(shared.index(first) + 1) if first in shared else None}
        for name, first in group.items()
    }


def unit_values(row: Array, bias: Array | None = None) -> float | None:
    """How many different values the first unit has among its first weights; of a single one, with its bias.

    Args:
        row: (inputs, ...) of one unit.
        bias: (units,).

    Example:
        >>> unit_values(np.array([0.0, 1.0, 0.0, 1.0])), unit_values(np.array([0.3]), np.array([-0.2]))
        (2.0, 2.0)
    """
    numbers = doubles(row).ravel()[:ROW]
    if numbers.size == 1 and bias is not None and bias.size:
        numbers = np.append(numbers, doubles(bias).ravel()[0])
    return float(np.unique(numbers).size) if np.isfinite(numbers).all() else None


def draw_rows(params: Mapping[str, tuple[Array, Array | None]]) -> dict[str, Values]:
    """same_draws and unit_values of the weights that a training begins with.

    Args:
        params: layer to (weight, bias).
    """
    matrices = {layer: pair for layer, pair in params.items() if pair[0].ndim > 1 and pair[0].size}
    found = same_draws(
        {
            layer: starts(corner(weight), None if bias is None else bias[:FIRST])
            for layer, (weight, bias) in matrices.items()
        }
    )
    for layer, (weight, bias) in matrices.items():
        found[layer]["unit_values"] = unit_values(weight[0], bias)
    return found


def rows_of_start(params: Mapping[str, Array]) -> dict[str, Values]:
    """The same of all parameters by name ("fc1.weight", "fc1.bias"): by the row that each weight has."""
    return draw_rows(
        {
            row_name(name): (weight, params.get(name.removesuffix(WEIGHT) + BIAS))
            for name, weight in params.items()
            if name.endswith(WEIGHT)
        }
    )


def _drawn(numbers: Sequence[float] | Doubles) -> bool:
    """Whether numbers may be random draws: as many as are needed, and no two of the same size."""
    sizes = np.sort(np.abs(doubles(np.asarray(numbers))))
    if sizes.size < FIRST or not np.isfinite(sizes).all() or sizes[0] == 0:
        return False
    return bool(np.all(np.diff(sizes) > CLOSE * sizes[1:]))
