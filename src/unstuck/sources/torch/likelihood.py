"""A cross entropy that a program writes out itself: recognised by its value, whatever it is made of."""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from unstuck.sources.torch.marks import Marks
from unstuck.sources.torch.ops import saved

NEAR = 64
"""Operations that are looked at before the number that `backward` was called on."""
EXACT = 1e-4
"""Relative difference of two computations of one loss that rounding explains."""
Outputs = Mapping[int, tuple[torch.Tensor, int]]
"""By mark: outputs of modules that are at hand, with the version they had."""


class Likelihood(NamedTuple):
    """Scores and labels whose cross entropy is the number."""

    source: Any
    """The operation that made the scores."""
    hidden: frozenset[Any]
    labels: torch.Tensor
    """(N,) class numbers."""
    reduction: str
    negative: bool
    """Whether the number is minus the cross entropy."""
    logarithms: bool
    """Whether the scores are logarithms of probabilities already."""
    shape: tuple[int, int]


def likelihood(root: Any, value: torch.Tensor, marks: Marks, outputs: Outputs) -> Likelihood | None:
    """The cross entropy that a number is, of a module's output and of labels somewhere in the graph.

    One source of scores (N, C), and N class numbers or N one-hot rows that an operation keeps: where the mean
    or the sum of their cross entropy is the number itself, up to rounding, it is that loss. A chance hit
    would need a coincidence of four digits.

    Args:
        root: the operation that made the number.
        value: the number.
        marks: which operations are outputs of modules.
        outputs: those at hand.
    """
    hidden, sources, kept = _near(root, marks, outputs)
    if len(sources) != 1:
        return None
    source, scores = next(iter(sources.items()))
    if scores.dim() != 2 or scores.shape[1] < 2 or not scores.is_floating_point() or not scores.numel():
        return None  # a model may give its loss, too
    count = scores.shape[0]
    logs = functional.log_softmax(scores.double(), 1)
    given = value.double().reshape(())
    seen: list[torch.Tensor] = []
    for labels in _labels(kept, count, scores.shape[1]):
        if any(torch.equal(labels, other) for other in seen):
            continue
        seen.append(labels)
        mean = float(functional.nll_loss(logs, labels))
        for reduction, size in (("mean", mean), ("sum", mean * count)):
            if math.isfinite(size) and abs(abs(float(given)) - size) <= EXACT * max(size, EXACT):
                done = bool((scores.double().logsumexp(1).abs() <= EXACT).all())
                return Likelihood(
                    source,
                    frozenset(hidden),
                    labels,
                    reduction,
                    float(given) < 0,
                    done,
                    (count, int(scores.shape[1])),
                )
    return None


def _near(root: Any, marks: Marks, outputs: Outputs) -> tuple[set[Any], dict[Any, torch.Tensor], list[Any]]:
    """Operations of the loss, outputs of modules that enter it, and tensors that its operations keep."""
    hidden, sources, kept = set[Any](), dict[Any, torch.Tensor](), list[Any]()
    waiting = deque([root])
    while waiting and len(hidden) < NEAR:
        fn = waiting.popleft()
        if fn in hidden or fn in sources:
            continue
        mark = marks.get(fn)
        held = outputs.get(mark.number) if mark is not None else None
        if held is not None and held[0]._version == held[1]:  # noqa: SLF001  (not changed in place since)
            sources[fn] = held[0]
            continue
        if marks.made_by_module(fn) or hasattr(fn, "variable"):
            return set(), {}, []
        hidden.add(fn)
        kept.extend(saved(fn, name) for name in ("index", "indices", "other", "self", "mask"))
        waiting.extend(child for child, _ in fn.next_functions if child is not None)
    return (hidden, sources, kept) if not waiting else (set(), {}, [])


def _labels(kept: list[Any], count: int, classes: int) -> Iterator[torch.Tensor]:
    """Class numbers (count,) among what operations keep: whole numbers, or one-hot rows."""
    flat = [one for thing in kept for one in (thing if isinstance(thing, (tuple, list)) else (thing,))]
    for one in flat:
        if not isinstance(one, torch.Tensor) or one.requires_grad:
            continue
        if one.dtype in {torch.int64, torch.int32} and one.numel() == count:
            labels = one.reshape(-1).long()
            if bool(((labels >= 0) & (labels < classes)).all()):
                yield labels
        elif tuple(one.shape) == (count, classes) and not one.is_complex():
            rows = one.double()
            if bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(1) == 1).all()):
                yield rows.argmax(1)
