"""Shapes that are hardly ever meant: a view in the place of a transpose, answers that meet all samples."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import torch

VIEWS: Final = frozenset({"reshape", "view"})
DISTANCES: Final = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
"""Names of functions that make a table of answers (N, 1) and targets (N,), and give its mean."""


class Mistaken:
    """What of that was seen in a step, the first of each kind."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.exchanged: tuple[int, int] | None = None
        """Extents of an axis before and after a view that gave axes each other's extents."""
        self.torn: tuple[int, int] | None = None
        """Length of the last axis before and after a view that makes rows of what lay along another axis."""
        self.parts = 0
        """How many parts, the first axis, such a row was meant to hold side by side; 0 if it is of one."""
        self.table = 0
        """Samples, where answers (N, 1) met something of shape (N,), or the other way round."""

    def view(self, before: torch.Tensor, after: torch.Tensor) -> None:
        """Something that depends on the answers was given another shape."""
        self.exchanged = self.exchanged or exchanged(before.shape, after.shape)
        if self.torn is None:
            self.torn = torn(before.shape, after.shape)
            beside = self.torn is not None and after.shape[1] != before.shape[1]
            self.parts = int(before.shape[0]) if beside else 0

    def meet(self, name: str, args: Sequence[Any], made: torch.Tensor, known: Collection[int]) -> None:
        """Two arguments of a call met.

        Args:
            name: of the function.
            args: both.
            made: by the call.
            known: ids of what depends on answers.
        """
        self.table = self.table or _spread(args, None if name in DISTANCES else made, known)

    @property
    def row(self) -> dict[str, float]:
        """By the names of a recording's quantities."""
        found: dict[str, float] = {}
        if self.exchanged is not None:
            found |= {"view.before": float(self.exchanged[0]), "view.after": float(self.exchanged[1])}
        if self.torn is not None:
            found |= {"view.last": float(self.torn[0]), "view.row": float(self.torn[1])}
        if self.parts:
            found["view.parts"] = float(self.parts)
        return found | ({"table.samples": float(self.table)} if self.table else {})


def exchanged(before: Sequence[int], after: Sequence[int]) -> tuple[int, int] | None:
    """The first two extents that differ, where a view has the extents that a transposed tensor would have.

    A view keeps all numbers in their order; one that seems to exchange axes takes them from other places.

    Example:
        >>> exchanged((8, 24, 65), (8, 65, 24)), exchanged((8, 24, 65), (192, 65)), exchanged((8, 1), (1, 8))
        ((24, 65), None, None)
    """
    old, new = ([extent for extent in shape if extent != 1] for shape in (before, after))
    if old == new or sorted(old) != sorted(new):
        return None
    return next((int(a), int(b)) for a, b in zip(old, new, strict=True) if a != b)


def torn(before: Sequence[int], after: Sequence[int]) -> tuple[int, int] | None:
    """The last axis' lengths, where a view makes rows of an axis that is the second, and not the last.

    The numbers along that axis do not lie beside each other: each row gets numbers of other places. So does a
    view that puts the last axis of each part, the two directions of a recurrent layer, behind one another.

    Example:
        >>> torn((8, 4, 24, 24), (4608, 4)), torn((8, 24, 4), (192, 4)), torn((8, 4, 1), (8, 4))
        ((24, 4), None, None)
        >>> torn((2, 32, 16), (32, 32)), torn((32, 2, 16), (32, 32)), torn((1, 32, 16), (32, 16))
        ((16, 32), None, None)
    """
    if (
        len(before) == 3
        and tuple(after) == (before[1], before[0] * before[2])
        and before[0] not in {1, before[1]}
    ):
        return (int(before[-1]), int(after[1])) if before[1] > 1 else None
    if len(before) < 3 or len(after) != 2 or after[1] != before[1] or before[1] < 2:
        return None
    return (int(before[-1]), int(after[1])) if before[-1] not in {1, after[1]} else None


def _spread(args: Sequence[Any], made: torch.Tensor | None, known: Collection[int]) -> int:
    """How many samples were each met with all others: one side is an answer, the other is not.

    What was made is None where the table is the function's own, and gone.
    """
    if not all(isinstance(one, torch.Tensor) for one in args) or len({id(one) in known for one in args}) < 2:
        return 0
    shapes = sorted((tuple(one.shape) for one in args), key=len)
    count = shapes[0][0] if len(shapes[0]) == 1 else 0
    table = made is None or made.shape == (count, count)
    return count if count > 1 and shapes[1] == (count, 1) and table else 0
