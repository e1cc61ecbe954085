"""Finds the loss in the autograd graph: which one it is, what it compares, and how it is reduced."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch

from unstuck.sources.torch.handwritten import Difference, difference
from unstuck.sources.torch.likelihood import Outputs, likelihood
from unstuck.sources.torch.marks import Marks
from unstuck.sources.torch.ops import LOSSES, REDUCTIONS, SAME_VALUES, kind, saved, shape, signed
from unstuck.trace.structure import LossFacts

NEAR = 64
"""A loss is looked for among so many operations before the number that `backward` was called on."""
SCALING = frozenset({"Mul", "Div"})
KEEPS = frozenset({"ToCopy", "View", "Squeeze", "Unsqueeze", "Clone", "Alias"})


@dataclass
class Loss:
    """Where the loss is computed."""

    fn: Any
    """Its operation in the graph."""
    type: str
    source: Any
    """The operation whose output is the prediction; None for one without gradient."""
    hidden: set[Any] = field(default_factory=set[Any])
    """Operations that belong to the loss itself, up to the number that `backward` was called on."""
    plain: bool = True
    """Whether only factors lie between this loss and that number: no further terms."""
    added: bool = False
    """Whether all else that lies between are sums with further terms."""
    factors: list[tuple[bool, Any]] = field(default_factory=list[tuple[bool, Any]])
    """(whether to divide, number or tensor)."""
    reduction: str = ""
    target: torch.Tensor | None = None
    prediction: torch.Tensor | None = None
    """What enters it, where it keeps that."""
    difference: Difference | None = None
    """What a loss that is written by hand keeps instead."""
    input_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    target_dtype: str = ""
    ignore_index: int | None = None
    weight: torch.Tensor | None = None
    """How much each class counts, where the program says so."""
    smoothing: float = 0.0
    """Share of each target that is spread over all classes."""
    outside: tuple[int, int] | None = None
    """Where a root is taken: which of the factors, from and to, stand outside of it."""
    terms: "list[Loss]" = field(default_factory=list["Loss"])
    """All terms, where the number is a sum of losses that are known; empty for a single one."""

    def release(self) -> None:
        """Let go of the graph; what was read from it stays."""
        self.fn = self.source = self.target = self.prediction = self.weight = None
        self.difference = None if self.difference is None else self.difference.released()
        self.hidden.clear()
        for term in self.terms:
            if term is not self:
                term.release()

    def facts(self, source: str) -> LossFacts:
        """For the structure; `source` names the operation that feeds the loss."""
        return LossFacts(
            input=source,
            input_shape=self.input_shape,
            target_shape=self.target_shape,
            target_dtype=self.target_dtype,
            reduction=self.reduction,
        )


def find_loss(
    root: Any, marks: Marks, value: torch.Tensor | None = None, outputs: Outputs | None = None
) -> Loss | None:
    """The loss nearest to the number that `backward` was called on; None for one that is not known.

    Args:
        root: the operation that made that number.
        marks: which operations are outputs of modules: the search ends there.
        value: the number; without it a cross entropy that is written out is not recognised.
        outputs: of modules, as far as they are at hand.
    """
    found = _nearest(root, marks)
    if found is None and value is not None and outputs:
        return _written_out(root, value, marks, outputs)
    if found is not None and not found.plain:
        found.terms = _terms(root, marks) or []
        for term in found.terms:
            if term.fn is found.fn:
                found.factors, found.outside = term.factors, term.outside
    return found


def _written_out(root: Any, value: torch.Tensor, marks: Marks, outputs: Outputs) -> Loss | None:
    """Cross entropy by its value."""
    found = likelihood(root, value, marks, outputs)
    if found is None:
        return None
    return Loss(
        root,
        "NLLLoss" if found.logarithms else "CrossEntropyLoss",
        found.source,
        set(found.hidden),
        factors=[(False, -1.0)] if found.negative else [],
        reduction=found.reduction,
        target=found.labels,
        input_shape=found.shape,
        target_shape=tuple(found.labels.shape),
        target_dtype="int64",
    )


def _terms(root: Any, marks: Marks) -> "list[Loss] | None":
    """The losses that a number is the sum of, each with its factors; None where a part of it is unknown."""
    found: list[Loss] = []
    waiting: list[tuple[Any, tuple[Any, ...], bool]] = [(root, (), False)]
    seen = 0
    while waiting:
        fn, path, minus = waiting.pop()
        seen += 1
        known = None if hasattr(fn, "variable") else _recognise(fn, marks) or _by_hand(fn)
        if known is not None:
            _follow(known, path)
            if minus:
                known.factors.append((False, -1.0))
            if not known.plain:
                return None
            found.append(known)
            continue
        children = [child for child, _ in fn.next_functions if child is not None]
        adds = kind(fn) in {"Add", "Sub"} and len(children) == 2 and saved(fn, "alpha") == 1
        follows = len(children) == 1 and (kind(fn) in {*SCALING, *SAME_VALUES, "Neg"})
        if seen > NEAR or marks.made_by_module(fn) or not (adds or follows):
            return None
        for place, child in enumerate(children):
            turned = minus != (kind(fn) == "Sub" and place == 1)
            waiting.append((child, path if adds else (*path, fn), turned))
    return found


def _nearest(root: Any, marks: Marks) -> Loss | None:
    waiting = deque[tuple[Any, tuple[Any, ...]]]([(root, ())])
    seen: set[Any] = set()
    first: Loss | None = None
    while waiting and len(seen) < NEAR:
        fn, path = waiting.popleft()
        if fn in seen or hasattr(fn, "variable"):
            continue
        seen.add(fn)
        found = _recognise(fn, marks)
        if found is None and all(_alone(one) for one in path):  # as a side term it may mean anything
            found = _by_hand(fn)
        if found is not None:
            if first is not None:
                first.plain = False
                return first
            first = found
            if found.target is not None:
                found.target_dtype = str(found.target.dtype).removeprefix("torch.")
            _follow(first, path)
            continue
        if not marks.made_by_module(fn):
            waiting.extend((child, (*path, fn)) for child, _ in fn.next_functions if child is not None)
    return first


def _recognise(fn: Any, marks: Marks) -> Loss | None:
    name = kind(fn)
    if name in {"NllLoss", "NllLoss2D"}:
        return _likelihood(fn, marks)
    if name in LOSSES:
        return _compared(fn, LOSSES[name])
    if name == "Add":
        return _smoothed(fn, marks)
    return _soft_entropy(fn, marks) if name == "Neg" else None


def _alone(fn: Any) -> bool:
    """Whether an operation reads one other only."""
    return sum(child is not None for child, _ in fn.next_functions) == 1


def _child(fn: Any, index: int = 0) -> Any:
    following = fn.next_functions
    return following[index][0] if index < len(following) else None


def _reduction(fn: Any) -> str:
    number = saved(fn, "reduction")
    return REDUCTIONS[number] if isinstance(number, int) and 0 <= number < len(REDUCTIONS) else ""


def _likelihood(fn: Any, marks: Marks) -> Loss:
    """The negative log likelihood, and the cross entropy that is made of it."""
    source, hidden = _child(fn), {fn}
    while source is not None and kind(source) in KEEPS and not marks.known(source):
        hidden.add(source)
        source = _child(source)
    prediction, target = saved(fn, "self"), saved(fn, "target")
    whole = source is not None and kind(source) == "LogSoftmax" and not marks.known(source)
    if whole:
        hidden.add(source)
        source = _child(source)
    input_shape = shape(source) if source is not None else ()
    return Loss(
        fn,
        "CrossEntropyLoss" if whole else "NLLLoss",
        source,
        hidden,
        reduction=_reduction(fn),
        target=target,
        weight=saved(fn, "weight"),
        prediction=None if whole else prediction,
        input_shape=input_shape or (() if prediction is None else tuple(prediction.shape)),
        target_shape=() if target is None else tuple(target.shape),
        ignore_index=signed(saved(fn, "ignore_index")),
    )


def _smoothed(fn: Any, marks: Marks) -> Loss | None:
    """Cross entropy with label smoothing: (1 - e) * likelihood + e / classes * sum of log-probabilities."""
    sides = [_child(fn), _child(fn, 1)]
    if any(side is None or kind(side) != "Mul" or marks.known(side) for side in sides):
        return None
    likelihood, share = _child(sides[0]), saved(sides[0], "other")
    if likelihood is None or kind(likelihood) not in {"NllLoss", "NllLoss2D"} or not isinstance(share, float):
        return None
    loss = _likelihood(likelihood, marks)
    chain, below = [fn, *sides], _child(sides[1])
    while below is not None and below not in loss.hidden:
        chain.append(below)
        below = _child(below)
    if below is None or loss.type != "CrossEntropyLoss":
        return None
    loss.hidden.update(chain)
    loss.smoothing = 1 - share
    return loss


def _compared(fn: Any, name: str) -> Loss:
    """A loss of two tensors of one shape, after broadcasting."""
    source, hidden = _child(fn), {fn}
    prediction, target = saved(fn, "self"), saved(fn, "target")
    while source is not None and kind(source) == "Expand":
        hidden.add(source)
        source = _child(source)
    input_shape = shape(source) if source is not None and not hasattr(source, "variable") else ()
    if not input_shape and prediction is not None:
        input_shape = _unexpanded(prediction)
    if len(hidden) > 1 or (target is not None and prediction is not None and 0 in target.stride()):
        target_shape = () if target is None else _unexpanded(target)
        prediction = None if len(hidden) > 1 else prediction
    else:
        target_shape = () if target is None else tuple(target.shape)
    return Loss(
        fn,
        name,
        source,
        hidden,
        reduction=_reduction(fn),
        target=target,
        prediction=prediction,
        input_shape=input_shape,
        target_shape=target_shape,
    )


def _unexpanded(tensor: torch.Tensor) -> tuple[int, ...]:
    """Shape before broadcasting: an expanded axis has stride 0; leading ones were not there."""
    extents = [
        1 if step == 0 and extent > 1 else extent
        for extent, step in zip(tensor.shape, tensor.stride(), strict=True)
    ]
    new = [step == 0 and extent > 1 for extent, step in zip(tensor.shape, tensor.stride(), strict=True)]
    while new and new[0]:
        del extents[0], new[0]
    return tuple(extents)


def _by_hand(fn: Any) -> Loss | None:
    """((prediction - target) ** 2).mean() and the like; of the target PyTorch keeps only the difference."""
    found = difference(fn)
    if found is None:
        return None
    return Loss(
        fn,
        found.loss,
        found.source,
        set(found.hidden),
        reduction=found.reduction,
        factors=list(found.factors),
        difference=found,
        input_shape=found.input_shape,
        target_shape=found.target_shape,
    )


def _soft_entropy(fn: Any, marks: Marks) -> Loss | None:
    """Cross entropy against probabilities: -(t * log_softmax(x)).sum(), over the batch size outside."""
    total = _child(fn)
    product = _child(total) if total is not None and kind(total) in {"Sum", "Mean"} else None
    if product is None or kind(product) != "Mul":
        return None
    logs = [child for child, _ in product.next_functions if child is not None]
    if len(logs) != 1 or kind(logs[0]) != "LogSoftmax" or marks.known(logs[0]):
        return None
    target = saved(product, "other")
    target = saved(product, "self") if target is None else target
    source = _child(logs[0])
    return Loss(
        fn,
        "CrossEntropyLoss",
        source,
        {fn, total, product, logs[0]},
        reduction="mean",
        target=target,
        input_shape=shape(logs[0]),
        target_shape=() if target is None else tuple(target.shape),
    )


def _follow(loss: Loss, path: tuple[Any, ...]) -> None:
    """What lies between the loss and the number that `backward` was called on."""
    soft, inner, odd = kind(loss.fn) == "Neg", len(loss.factors), False
    for place, fn in enumerate(path):
        loss.hidden.add(fn)
        name = kind(fn)
        if sum(child is not None for child, _ in fn.next_functions) > 1:
            odd = odd or name not in {"Add", "Sub"} or saved(fn, "alpha") != 1
            odd = odd or (name == "Sub" and fn.next_functions[1][0] in {loss.fn, *path[place + 1 :]})
            loss.plain = False
        elif name in SCALING:
            if not (soft and fn is path[-1] and name == "Div"):  # that is the batch size of the mean
                odd = not _scale(loss, fn) or odd
        elif name == "Neg":
            loss.factors.append((False, -1.0))
        elif name == "Sqrt" and loss.outside is None:
            loss.outside = (inner, len(loss.factors))
        elif name in {"Mean", "Sum"} and loss.reduction == "none":
            loss.reduction = name.lower()
        elif name not in SAME_VALUES and not (name == "Add" and place and kind(path[place - 1]) == "Sqrt"):
            loss.plain, odd = False, True  # all but a small number that keeps a root from 0
    loss.added = not loss.plain and not odd and loss.outside is None


def _scale(loss: Loss, fn: Any) -> bool:
    """A product or quotient with a single number is a factor; with more than that it is not known."""
    other = saved(fn, "other")
    if other is None or (isinstance(other, torch.Tensor) and other.numel() != 1):
        loss.plain = False
        return False
    loss.factors.append((kind(fn) == "Div", other))
    return True
