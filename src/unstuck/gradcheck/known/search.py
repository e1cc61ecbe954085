"""Which operations a user's network is made of: tried one after another until y comes out."""

import heapq
import itertools
import time
from dataclasses import dataclass, field, replace

import numpy as np

from unstuck.gradcheck.known.candidates import Candidate, candidates, losses
from unstuck.gradcheck.known.dense import Dense
from unstuck.gradcheck.known.elementwise import Elementwise, Last, Reshape
from unstuck.gradcheck.known.operation import Operation
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array

SECONDS = 8.0
MOST = 60_000


@dataclass(order=True)
class _Node:
    cost: float
    number: int
    operations: list[Operation] = field(compare=False)
    h: Array = field(compare=False)
    unused: tuple[str, ...] = field(compare=False)
    seen: int = field(compare=False, default=0)
    """How many of the steps gave an array of the cache."""
    pending: Candidate | None = field(compare=False, default=None)


class Evidence:
    """What is known of a forward pass: its output, and the arrays in its cache."""

    def __init__(self, y: Array, arrays: list[Array], around: list[Array], tolerance: float) -> None:
        self.y, self.around, self.tolerance = y, around, tolerance
        self.arrays = [
            array.astype(np.float64) for array in arrays if array.size > 1 and array.dtype.kind in "fiub"
        ]
        self._by_size: dict[int, list[Array]] = {}
        for array in self.arrays:
            self._by_size.setdefault(array.size, []).append(array)

    def same(self, a: Array, b: Array) -> bool:
        """Whether two arrays are equal within the precision of the user's code."""
        if a.shape != b.shape:
            return False
        scale = float(np.abs(b).max()) if b.size else 0.0
        return bool(np.abs(a - b).max(initial=0.0) <= self.tolerance * max(scale, 1e-12))

    def seen(self, h: Array) -> bool:
        """Whether an array stands in the cache, in this shape or another."""
        arrays = self._by_size.get(h.size, ())
        return any(self.same(h.reshape(array.shape), array) for array in arrays) or (
            h.size == self.y.size and self.same(h.reshape(self.y.shape), self.y)
        )

    def sizes(self) -> set[int]:
        """Sizes that occur."""
        return {self.y.size, *self._by_size}

    def of_size(self, size: int) -> list[Array]:
        """Arrays of the cache with so many entries."""
        return self._by_size.get(size, [])


def recognise(  # noqa: C901, PLR0912  (one search, told in one place)
    values: Values, x: str, evidence: Evidence, unneeded: set[str], seconds: float = SECONDS
) -> list[Operation] | None:
    """The operations that make y from x, or None.

    Args:
        values: all tensors.
        x: the input's name.
        evidence: of a forward pass at these values.
        unneeded: parameters that need not occur.
        seconds: after which it gives up.
    """
    names = tuple(name for name in values if name != x and values[name].size > 0)
    counter = itertools.count()
    heap = [_Node(0.0, next(counter), [], values[x], names)]
    seen: set[tuple[bytes, tuple[str, ...], str]] = set()
    end = time.process_time() + seconds
    for _ in range(MOST):
        if not heap or time.process_time() > end:
            break
        node = heapq.heappop(heap)
        h = node.h
        if node.pending is not None:
            following = next(node.pending.others, None)
            if following is not None:
                further = node.cost - node.pending.cost + following.cost
                following = replace(following, others=node.pending.others)
                heapq.heappush(
                    heap,
                    _Node(further, next(counter), node.operations, h, node.unused, node.seen, following),
                )
            try:
                with np.errstate(all="ignore"):
                    h = node.pending.operation.forward(values, node.h)
            except (ValueError, IndexError):
                continue
            if not np.isfinite(h).all() or (h.shape == node.h.shape and evidence.same(h, node.h)):
                continue
            gain = not isinstance(node.pending.operation, (Reshape, Last)) and evidence.seen(h)
            found = node.seen + gain
            cost = -3.0 * found + 0.01 * len(node.operations) if gain else node.cost
            operations = [*node.operations, node.pending.operation]
            unused = tuple(name for name in node.unused if name not in node.pending.operation.tensors)
            key = (np.round(h, 9).tobytes(), unused, str(h.shape))
            if key in seen:
                continue
            seen.add(key)
            node = _Node(cost, next(counter), operations, h, unused, found)
        if not set(node.unused) - unneeded:
            if evidence.same(h, evidence.y):
                return node.operations
            if evidence.y.size == 1 and h.size > 1:
                for loss in losses(h, evidence):
                    return [*node.operations, loss]
        if not node.unused and h.size < evidence.y.size:
            continue  # nothing that is left makes an array larger
        if len(node.operations) < 40:
            for candidate in candidates(values, node.operations, h, node.unused, evidence):
                cost = node.cost + (0.01 if _shown(candidate, values, h, evidence) else candidate.cost)
                heapq.heappush(
                    heap, _Node(cost, next(counter), node.operations, h, node.unused, node.seen, candidate)
                )
    return None


def _shown(candidate: Candidate, values: Values, h: Array, evidence: Evidence) -> bool:
    """Whether what a cheap operation would give stands in the cache: then it is tried first."""
    if not isinstance(candidate.operation, (Dense, Elementwise)):
        return False
    try:
        with np.errstate(all="ignore"):
            made = candidate.operation.forward(values, h)
    except (ValueError, IndexError):
        return False
    return not evidence.same(made, h) and evidence.seen(made)
