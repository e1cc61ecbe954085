# pyright: basic
# Functions and methods of PyTorch are replaced while a program runs; its stubs forbid that.
"""Treatments of where the answer meets the loss: a softmax too many, another loss, targets in another form.

They act at the door of the loss. What an activation was given is remembered with its result, and carried
along when the result is only reshaped, so that the scores in front of a last activation are at hand there.
"""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.losses import BOUNDARY, DISTANCES, SCORES, Given, renamed
from unstuck.prove.torch.modules import FUNCTIONS, functions
from unstuck.prove.torch.seeds import replaced

SCORES_KEPT = "_unstuck_scores"
RESHAPING = ("squeeze", "view", "reshape", "flatten", "unsqueeze", "view_as", "ravel", "__getitem__", "float")
BY_HAND = "no loss function of PyTorch is called with what this treatment is about (a loss written by hand?)"


def scores_of(answer: Any) -> tuple[Any, str]:
    """What the last activation in front of the loss was given, and its type; (None, "") without one."""
    return getattr(answer, SCORES_KEPT, (None, ""))


class AtTheLoss(Intervention):
    """A treatment that changes what a loss is given."""

    nothing = BY_HAND
    remembers = True

    def install(self, undo: ExitStack) -> None:
        """Stand at the door."""
        if self.door is None:
            return
        self.door.changes.append(self._change)
        if self.remembers:
            _remember(undo)

    def _change(self, given: Given) -> Given:
        changed = self.change(given)
        if changed is not given:
            self.did(given.name)
        return changed

    def change(self, given: Given) -> Given:
        """The call as it is to be made; the same object where nothing is changed."""
        return given


class Output(AtTheLoss):
    """`output=...`: what stands last in front of the loss is left out, put in, or exchanged."""

    def install(self, undo: ExitStack) -> None:
        """See `AtTheLoss`; a softmax over an axis of length one becomes a sigmoid."""
        super().install(undo)
        if self.treatment.value == "sigmoid":
            import torch

            for owner in (torch.nn.functional, torch, torch.Tensor):
                replaced(undo, owner, "softmax", self._softmax(owner.softmax))

    def _softmax(self, original: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        @functools.wraps(original)
        def softmax(given: Any, *args: Any, **kwargs: Any) -> Any:
            dim = kwargs.get("dim", args[0] if args else None)
            if isinstance(dim, int) and given.dim() and given.shape[dim] == 1:
                self.did("softmax")
                return torch.sigmoid(given)
            return original(given, *args, **kwargs)

        return softmax

    def change(self, given: Given) -> Given:
        """One of the five."""
        return getattr(self, f"_{self.treatment.value}")(given)

    def _remove_softmax(self, given: Given) -> Given:
        import torch

        scores, kind = scores_of(given.input)
        if given.name == "nll_loss" and kind == "LogSoftmax":
            inner, before = scores_of(scores)
            return replace(given, input=inner.log_softmax(1)) if before == "Softmax" else given
        if given.name != "cross_entropy":
            return given
        if kind == "Softmax":
            return replace(given, input=scores)
        shares = given.input
        if shares.dim() > 1 and shares.is_floating_point():
            sums = shares.detach().sum(1)
            if bool((shares.detach() >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
                # up to a number that is the same for all classes, which the loss does not see
                return replace(given, input=shares.clamp_min(torch.finfo(shares.dtype).tiny).log())
        return given

    def _remove_sigmoid(self, given: Given) -> Given:
        scores, kind = scores_of(given.input)
        if given.name in {"cross_entropy", "binary_cross_entropy_with_logits"} and kind == "Sigmoid":
            return replace(given, input=scores)
        return given

    def _log_softmax(self, given: Given) -> Given:
        import torch

        if given.name != "nll_loss":
            return given
        with torch.no_grad():
            total = given.input.logsumexp(1)
            if torch.allclose(total, torch.zeros_like(total), atol=1e-3):
                self.refuse("its answers are logarithms of probabilities already")
                return given
        return replace(given, input=given.input.log_softmax(1))

    def _sigmoid(self, given: Given) -> Given:
        scores, kind = scores_of(given.input)
        if kind in FUNCTIONS and kind != "Sigmoid" and given.name not in SCORES:
            return replace(given, input=scores.sigmoid())
        if given.name == "binary_cross_entropy" and not kind:
            outside = bool(((given.input < 0) | (given.input > 1)).any())
            if outside or self.applied:
                return replace(given, input=given.input.sigmoid())
        return given

    def _linear(self, given: Given) -> Given:
        scores, kind = scores_of(given.input)
        return replace(given, input=scores) if kind in FUNCTIONS and given.name in DISTANCES else given


class Loss(AtTheLoss):
    """`loss=...`: another loss of the same answers, on the scores in front of a last activation."""

    def change(self, given: Given) -> Given:
        """One of the two."""
        if self.treatment.value == "cross_entropy":
            return self._cross_entropy(given)
        return self._bce_with_logits(given)

    def _cross_entropy(self, given: Given) -> Given:
        scores, kind = scores_of(given.input)
        scores = given.input if scores is None else scores
        if given.name == "cross_entropy" or (given.name == "nll_loss" and kind == "LogSoftmax"):
            self.refuse("it trains with cross entropy already")
            return given
        if given.name == "nll_loss":
            return renamed(given, "cross_entropy", input=scores)
        target = given.target
        if scores.dim() == 2 and scores.shape[1] > 1 and target.shape == scores.shape and _one_hot(target):
            return renamed(given, "cross_entropy", input=scores, target=target.argmax(1))
        return given

    def _bce_with_logits(self, given: Given) -> Given:
        name = "binary_cross_entropy_with_logits"
        scores, _ = scores_of(given.input)
        scores = given.input if scores is None else scores
        if given.name == name:
            self.refuse("it trains with binary cross entropy on scores already")
            return given
        if given.name == "binary_cross_entropy" or (given.name in DISTANCES and _yes_or_no(given.target)):
            return renamed(given, name, input=scores)
        return given


class Target(AtTheLoss):
    """`target=...`: the same targets in the form that the loss expects."""

    remembers = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """No target seen yet."""
        super().__init__(*args, **kwargs)
        self._low = self._high = None

    def change(self, given: Given) -> Given:
        """One of the three."""
        target = given.target
        if self.treatment.value == "same_shape":
            differs = target.shape != given.input.shape and target.numel() == given.input.numel()
            same = given.name not in SCORES and differs
            return replace(given, target=target.reshape(given.input.shape)) if same else given
        self._low = min(float(target.min()), float("inf") if self._low is None else self._low)
        self._high = max(float(target.max()), float("-inf") if self._high is None else self._high)
        if self.treatment.value == "from_zero" and given.name in SCORES and not target.is_floating_point():
            if self._low == 0:
                self.refuse("its classes are numbered from 0 already")
                return given
            return replace(given, target=target - 1)
        if self.treatment.value == "zero_one" and given.name in BOUNDARY:
            if self._low >= 0 and self._high <= 1:
                return given
            low = -1.0 if self._low < 0 else 1.0  # codes -1 and 1, or 1 and 2
            return replace(given, target=(target - low) / (2.0 if low < 0 else 1.0))
        return given


def _remember(undo: ExitStack) -> None:
    """Keep with the result of an activation what it was given, and carry it through changes of shape."""
    import torch

    for kind in FUNCTIONS:
        for owner, name in functions(kind):
            replaced(undo, owner, name, _keeping(kind, getattr(owner, name)))
    for owner in (torch.nn.functional, torch, torch.Tensor):
        replaced(undo, owner, "softmax", _keeping("Softmax", owner.softmax))
        replaced(undo, owner, "log_softmax", _keeping("LogSoftmax", owner.log_softmax))
    for name in RESHAPING:
        replaced(undo, torch.Tensor, name, _carrying(getattr(torch.Tensor, name)))
    for name in ("squeeze", "reshape", "flatten", "unsqueeze"):
        replaced(undo, torch, name, _carrying(getattr(torch, name)))


def _keeping(kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    @functools.wraps(original)
    def activation(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        given = args[0] if args else kwargs.get("input")
        changed_in_place = result is given
        if isinstance(given, torch.Tensor) and not changed_in_place and not torch.compiler.is_compiling():
            setattr(result, SCORES_KEPT, (given, kind))
        return result

    return activation


def _carrying(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def reshaping(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        kept = getattr(args[0], "__dict__", {}).get(SCORES_KEPT) if args else None
        if kept is not None and result is not args[0]:
            setattr(result, SCORES_KEPT, (original(kept[0], *args[1:], **kwargs), kept[1]))
        return result

    return reshaping


def _one_hot(target: Any) -> bool:
    return bool(((target == 0) | (target == 1)).all()) and bool((target.sum(1) == 1).all())


def _yes_or_no(target: Any) -> bool:
    return bool(((target == 0) | (target == 1)).all())
