# pyright: basic
# Operations of the autograd graph have no types.
"""The number that `backward` is called on: is it a sum, and of which differences?"""

import math
from typing import TYPE_CHECKING, Any

from unstuck.sources.torch.ops import LOSSES, kind, shape

if TYPE_CHECKING:
    from unstuck.sources.torch.handwritten import Difference

NEAR = 8
"""So many operations with one operand may lie between that number and the loss."""
ON_THE_WAY = frozenset({"Neg", "Mul", "Div", "ToCopy", "View", "Squeeze", "Unsqueeze", "Clone", "Alias"})


def summed(fn: Any) -> int:
    """How many terms a sum has that is a loss; 1 for a mean, or for what is not known.

    Args:
        fn: operation that made the number.

    Example:
        >>> import torch
        >>> x = torch.ones(6, 2, requires_grad=True)
        >>> summed(((x - torch.zeros(6, 2)) ** 2).sum().grad_fn), summed(((x - 1.0) ** 2).mean().grad_fn)
        (12, 1)
    """
    for one in _chain(fn):
        found = _difference(one)
        if found is not None:
            count = 1 if found.numbers is None else found.numbers.numel()
            plain = found.reduction == "sum" and not found.factors
            return count if plain else 1
        if kind(one) == "Sum":
            below = one.next_functions[0][0]
            return math.prod(shape(below)) if below is not None and kind(below) in LOSSES else 1
    return 1


def squared_error(root: Any) -> Any:
    """The mean squared difference between answers and targets, of a loss that is written by hand; else None.

    Args:
        root: the number that `backward` is called on.
    """
    for one in _chain(root.grad_fn):
        found = _difference(one)
        if found is not None and found.numbers is not None:
            return (found.numbers.detach() ** 2).mean(), found.numbers.numel()
    return None


def _difference(fn: Any) -> "Difference | None":
    from unstuck.sources.torch.handwritten import difference  # imports PyTorch, which the program has by then

    return difference(fn)


def _chain(fn: Any) -> list[Any]:
    """The operations with one operand, from the number on."""
    found = []
    while fn is not None and len(found) < NEAR:
        found.append(fn)
        below = [child for child, _ in fn.next_functions if child is not None]
        if kind(fn) not in ON_THE_WAY or len(below) != 1:
            break
        fn = below[0]
    return found
