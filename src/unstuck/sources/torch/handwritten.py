"""Errors that a program writes by hand: the mean of a difference, squared or without its sign."""

import math
from typing import Any, NamedTuple, Self

import torch

from unstuck.sources.torch.ops import kind, saved, shape
from unstuck.sources.torch.stats import WIDE

REDUCING = frozenset({"Mean", "Sum"})
MOST = 4
"""Means and sums, one over another."""
ROUNDING = 8
"""So many units in the last place may a target be off that was computed back from its difference."""
PRECISE = 0.01
"""Share of the targets' spread that rounding may be: else the targets are as good as not known."""


class Difference(NamedTuple):
    """prediction - target, squared or without its sign, reduced to a single number."""

    loss: str
    """MSELoss or L1Loss."""
    source: Any
    """The operation that made the prediction."""
    hidden: frozenset[Any]
    """All operations from the difference to the number."""
    reduction: str
    """mean or sum."""
    factors: tuple[tuple[bool, int], ...]
    """(True, count): by what a sum is divided beside."""
    numbers: torch.Tensor | None
    """The difference, where PyTorch keeps it."""
    turned: bool
    """Whether it is target - prediction."""
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]

    def released(self) -> Self:
        """The same without what holds the graph."""
        return self._replace(source=None, hidden=frozenset(), numbers=None)


def difference(fn: Any) -> Difference | None:
    """The error that an operation is the number of; None for anything else.

    Args:
        fn: operation of the graph.
    """
    reducing, outer = [fn], fn
    while kind(outer) in REDUCING and len(reducing) <= MOST:
        outer = outer.next_functions[0][0]
        if outer is None:
            return None
        reducing.append(outer)
    reducing.pop()
    if not reducing or math.prod(shape(fn)) != 1:
        return None
    inner = outer.next_functions[0][0]
    squared = kind(outer) == "Pow" and saved(outer, "exponent") == 2
    squared = squared or (kind(outer) == "Mul" and inner is not None and inner is _second(outer))
    if inner is None or kind(inner) != "Sub" or saved(inner, "alpha") != 1:
        return None
    if not squared and kind(outer) != "Abs":
        return None
    sides = [child for child, _ in inner.next_functions]
    sources = [child for child in sides if child is not None]
    if len(sources) != 1:
        return None
    given, together = shape(sources[0]), shape(inner)
    row = len(given) == 2 and given[1] == 1 and together == (given[0], given[0])
    reduction, factors = _reduction(reducing, together)
    return Difference(
        "MSELoss" if squared else "L1Loss",
        sources[0],
        frozenset({*reducing, outer, inner}),
        reduction,
        factors,
        saved(outer, "self"),
        sides[0] is None,
        given,
        given if together == given else (given[0],) if row else (),
    )


def _second(fn: Any) -> Any:
    following = fn.next_functions
    return following[1][0] if len(following) > 1 else None


def _reduction(reducing: list[Any], entering: tuple[int, ...]) -> tuple[str, tuple[tuple[bool, int], ...]]:
    """Means of means over parts of equal size are one mean; with a sum among them, a sum over counts."""
    if all(kind(fn) == "Mean" for fn in reducing):
        return "mean", ()
    counts: list[tuple[bool, int]] = []
    for fn in reversed(reducing):
        leaving = shape(fn)
        if kind(fn) == "Mean":
            counts.append((True, math.prod(entering) // max(math.prod(leaving), 1)))
        entering = leaving
    return "sum", tuple(counts)


def target(prediction: torch.Tensor, numbers: torch.Tensor, *, turned: bool) -> torch.Tensor | None:
    """The target of a difference, up to rounding; None for half precision.

    Whole numbers come out whole: labels are to be known as such. Where predictions are so large that rounding
    spoils the targets, all are NaN.

    Args:
        prediction: (...), as it entered the difference.
        numbers: the difference, of the same shape.
        turned: whether it is target - prediction.
    """
    if prediction.shape != numbers.shape or numbers.dtype not in WIDE or not numbers.numel():
        return None
    prediction, numbers = prediction.detach().to(numbers.dtype), numbers.detach()
    found = prediction + numbers if turned else prediction - numbers
    slack = ROUNDING * torch.finfo(numbers.dtype).eps * (prediction.abs() + numbers.abs())
    whole = found.round()
    found = torch.where(((found - whole).abs() <= slack).all(), whole, found)
    precise = slack.max() <= PRECISE * found.std(correction=0)
    return torch.where(precise, found, torch.nan)
