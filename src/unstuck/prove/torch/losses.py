# pyright: basic
# Functions of torch.nn.functional are replaced while a program runs; their stubs forbid that.
"""The door of the loss: what every loss function of PyTorch is given, on its way in.

Modules such as `nn.CrossEntropyLoss` call the functions of `torch.nn.functional`, so these are the one place
through which both styles pass. A loss that a program writes by hand passes through none.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from unstuck.prove.torch.seeds import replaced
from unstuck.trace.baseline import FUNCTIONS

SCORES = {"cross_entropy", "nll_loss"}
"""Losses of one score a class."""
BOUNDARY = {"binary_cross_entropy": 0.5, "binary_cross_entropy_with_logits": 0.0}
"""Losses of a yes/no output, with the value between the two answers."""
DISTANCES = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"}
"""Losses of quantities."""
MOST_CLASSES = 1000
"""With more of them no class is counted by itself."""


@dataclass(frozen=True)
class Given:
    """One call of a loss."""

    name: str
    input: Any
    target: Any
    options: dict[str, Any]
    """Everything else that it was given, by name."""
    judged: tuple[Any, Any] | None = None
    """Answers and targets by which a run is judged, where these are in other units than what goes in."""


Change = Callable[[Given], Given]


class Door:
    """Stands in front of the loss functions, until it is undone: changes what goes in, and looks at it."""

    def __init__(self) -> None:
        """Nothing is changed, nobody looks."""
        self.changes: list[Change] = []
        self.look: Callable[[Given], None] | None = None
        self.look_at_root: Callable[[Any], None] | None = None
        """Where no loss function was called, the number that `backward` is called on is looked at."""
        self.calls = 0
        self._told = 0

    def install(self, undo: ExitStack) -> None:
        """Replace the functions."""
        import torch.nn.functional as functions

        self._originals = {name: getattr(functions, name) for name in FUNCTIONS}
        for name, original in self._originals.items():
            replaced(undo, functions, name, self._in_front(name, original))
        import torch

        replaced(undo, torch.autograd, "backward", self._before_backward(torch.autograd.backward))

    def _before_backward(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            single = isinstance(tensors, torch.Tensor) and tensors.numel() == 1
            if self.look_at_root is not None and self.calls == self._told and single:
                self.look_at_root(tensors)
            self._told = self.calls
            original(tensors, *args, **kwargs)

        return backward

    def _in_front(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        signature = inspect.signature(original)

        @functools.wraps(original)
        def loss(*args: Any, **kwargs: Any) -> Any:
            compiling = torch.compiler.is_compiling()
            if compiling and not self.changes:
                return original(*args, **kwargs)
            try:
                bound = signature.bind(*args, **kwargs).arguments
                given = Given(name, bound.pop("input"), bound.pop("target"), bound)
            except (TypeError, KeyError):
                return original(*args, **kwargs)
            for change in self.changes:
                given = change(given)
            if not compiling:
                self._seen(given)
            if given.name == name and not self.changes:
                return original(*args, **kwargs)
            return self._originals[given.name](given.input, given.target, **given.options)

        return loss

    def _seen(self, given: Given) -> None:
        import torch

        if (
            self.look is None
            or not torch.is_grad_enabled()
            or not getattr(given.input, "requires_grad", False)
        ):
            return
        self.calls += 1
        with torch.no_grad():
            try:
                self.look(given)
            except (RuntimeError, IndexError, TypeError):  # shapes that only the loss itself understands
                return


def renamed(given: Given, name: str, **changes: Any) -> Given:
    """The call of another loss, with those options that it shares."""
    shared = {key: value for key, value in given.options.items() if key in {"reduction", "weight"}}
    return replace(given, name=name, options=given.options if name == given.name else shared, **changes)


class Meter:
    """How right the answers were in training, whatever the loss: measured where answers and targets meet.

    A treatment that changes the loss cannot be judged by the loss. It leaves the answers' order alone, so the
    share of right answers (or, of quantities, the squared error) tells.
    """

    def __init__(self) -> None:
        """Nothing seen."""
        self._seen: list[tuple[str, Any, Any]] = []
        self._classes: list[tuple[Any, Any]] = []
        """Of each judged batch of labels: how many of each class were right, and how many there were."""
        self._codes = (0.0, 1.0)
        """Of the two answers to a yes/no question: some programs code them as 1 and 2, or -1 and 1."""

    def look(self, given: Given) -> None:
        """Judge one batch."""
        answers, target = given.judged or (given.input, given.target)
        scores, target = answers.detach(), target.detach()
        if scores.dim() == 0 or scores.numel() == 0:
            return
        boundary = BOUNDARY.get(given.name)
        if boundary is not None and target.shape == scores.shape:
            labels = target > self._middle(target)
            judged = (scores > boundary) == labels, labels.long(), 2
        else:
            judged = _right(scores, target) if boundary is None else None
        if judged is not None:
            right, labels, classes = judged
            known = (labels >= 0) & (labels < classes)  # others mark samples that do not count
            self._seen.append(("accuracy", (right & known).sum(), known.sum()))
            if classes <= MOST_CLASSES:
                self._classes.append(_by_class(labels[known], labels[right & known], classes))
        elif target.numel() == scores.numel():  # a column against a row is still the same answers
            difference = scores.reshape(-1) - target.reshape(-1)
            self._seen.append(("error", (difference**2).sum(), scores.numel()))

    def look_at_root(self, root: Any) -> None:
        """Judge one batch by a loss written by hand, as far as its graph shows differences."""
        from unstuck.prove.torch.roots import squared_error

        found = squared_error(root)
        if found is not None:
            mean, count = found
            self._seen.append(("error", mean * count, count))

    def _middle(self, target: Any) -> float:
        low, high = float(target.min()), float(target.max())
        if low < 0 or high > 1:
            self._codes = (low, high) if low < high else self._codes
            if self._codes == (0.0, 1.0):  # one answer only so far
                return 0.0 if low < 0 or high < 0 else 1.5
        return sum(self._codes) / 2

    def ended(self) -> dict[str, float]:
        """Over the last tenth of the calls of the commonest kind."""
        kinds = [kind for kind, _, _ in self._seen]
        if not kinds:
            return {}
        usual = max(set(kinds), key=kinds.count)
        own = [(value, count) for kind, value, count in self._seen if kind == usual]
        part = max(len(own) // 10, 1)
        last = own[-part:]
        judged = sum(float(count) for _, count in last)
        found = {usual: sum(float(value) for value, _ in last) / max(judged, 1.0)}
        if usual == "accuracy" and self._classes:
            found["balanced"] = _balanced(self._classes[-part:])
        return found


def _right(scores: Any, target: Any) -> Any:
    """Whether each sample's answer is right, its class, and how many there are; None without classes."""
    whole = not target.is_floating_point() and not target.is_complex()
    if scores.dim() > 1 and scores.shape[1] > 1:
        answer, classes = scores.argmax(1), scores.shape[1]
        if whole and target.shape == answer.shape:
            return answer == target, target, classes
        one_hot = target.shape == scores.shape and bool(((target == 0) | (target == 1)).all())
        if one_hot and bool((target.sum(1) == 1).all()):
            return answer == target.argmax(1), target.argmax(1), classes
    return None


def _by_class(labels: Any, right: Any, classes: int) -> tuple[Any, Any]:
    """How many of each class were right, and how many there were."""
    return right.bincount(minlength=classes), labels.bincount(minlength=classes)


def _balanced(seen: list[tuple[Any, Any]]) -> float:
    """Mean over classes of the share that is right: what always answers the commonest gets 1 / classes."""
    most = max(counts.numel() for _, counts in seen)
    alike = [(hits, counts) for hits, counts in seen if counts.numel() == most]
    hits: Any = sum(hits for hits, _ in alike)
    counts: Any = sum(counts for _, counts in alike)
    present = counts > 0
    return float((hits[present].double() / counts[present]).mean()) if bool(present.any()) else 0.0
