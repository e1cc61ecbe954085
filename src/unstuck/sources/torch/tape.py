"""What a program does with its model's answers until it calls `backward`: noted, to be done once more.

Between the end of a model's forward pass and the backward pass stand the operations that make the loss,
whatever it is. They are noted on measured steps only, by a mode of PyTorch's that sees each call of a
function and changes none.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,  # pyright: ignore[reportPrivateUsage]  (there is no public name for it)
)

MOST = 2000
"""Calls that are noted, at most."""
MOST_ANSWERS = 64
"""Tensors that models give out in a step, at most."""
DRAWS = frozenset(
    {"multinomial", "bernoulli", "poisson", "normal", "rrelu", "gumbel_softmax", "exponential", "binomial"}
)
"""Names of functions whose result is drawn at random from what they are given (and all sorts of dropout)."""
MAKES = (
    "new_",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "randint_like",
)
"""Begin the names of functions that take shape and kind of a tensor, and none of its numbers."""


class CannotReplayError(Exception):
    """The loss cannot be made again from what was noted."""


@dataclass(eq=False)
class Answer:
    """A tensor that a model gave out."""

    tensor: torch.Tensor
    key: tuple[Any, ...]
    """Answers of the same key come from the same place: two calls of one model, say."""


@dataclass(eq=False)
class Noted:
    """One call of a function."""

    func: Any
    args: Any
    kwargs: dict[str, Any]
    out: list[torch.Tensor]
    """Tensors that it gave back."""
    reads: list[int]
    """Ids of the noted tensors that it read."""
    blocks: bool
    """Whether no gradient passes, though one came in."""
    in_place: bool = False

    @property
    def name(self) -> str:
        """Of the function."""
        return str(getattr(self.func, "__name__", ""))


class Tape(TorchFunctionMode):
    """Notes what is done with answers.

    Example:
        >>> tape, w = Tape(), torch.ones(3, requires_grad=True)
        >>> answer = w * 2  # a model
        >>> tape.answered("model", [answer])
        >>> loss = (answer - 1).square().mean()
        >>> tape.pause()
        >>> [call.name for call in tape.needed(loss)]
        ['sub', 'square', 'mean']
        >>> tape.forget()
    """

    def __init__(self) -> None:
        """Nothing noted yet."""
        super().__init__()
        self.answers: dict[int, Answer] = {}
        """By id of the tensor."""
        self.calls: list[Noted] = []
        self.on = False
        self.broken = ""
        """Why the loss cannot be made again, if that is known already."""
        self._known: dict[int, torch.Tensor] = {}
        """Tensors that depend on answers, kept alive so that their ids stay theirs."""
        self._pushed = False

    # ---- when it listens

    @property
    def may_listen(self) -> bool:
        """Whether the program has no mode of its own, compiles nothing and replaced no function."""
        return self._pushed or (_free() and not _compiles() and not _replaced())

    def answered(self, place: Any, tensors: list[torch.Tensor]) -> None:
        """A model gave these out; what is done with them is noted from here on."""
        for index, one in enumerate(tensors):
            if one.grad_fn is None or not one.is_floating_point():
                continue
            if len(self.answers) >= MOST_ANSWERS:
                self.broken = "too many answers"
                break
            self.answers[id(one)] = Answer(
                one, (place, index, tuple(one.shape[2 if one.dim() == 3 else 1 :]))
            )
            self._known[id(one)] = one
        if self.answers and not self.broken and not self._pushed:
            self.__enter__()
            self._pushed = True
        self.on = self._pushed

    def pause(self) -> None:
        """Stop listening; what was noted stays.

        While PyTorch calls one of the functions that it sees (`Tensor.backward` is one), a mode cannot be
        taken off: that waits for the next call of this.
        """
        self.on = False
        stack = _get_current_function_mode_stack()
        if self._pushed and stack and stack[-1] is self:
            self.__exit__(None, None, None)
            self._pushed = False

    def forget(self) -> None:
        """Let go of all tensors."""
        self.pause()
        self.answers.clear()
        self.calls.clear()
        self._known.clear()
        self.broken = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function; note it if it reads what is known."""
        kwargs = kwargs or {}
        if not self.on:
            return func(*args, **kwargs)
        reads = [id(one) for one in tensors((args, kwargs)) if id(one) in self._known]
        name = str(getattr(func, "__name__", ""))
        target = args[0] if args and isinstance(args[0], torch.Tensor) and _writes(name) else None
        before = None
        if reads and target is not None and id(target) not in self._known and target.grad_fn is None:
            with torch.no_grad():
                before = target.detach().clone()
        out = func(*args, **kwargs)
        if reads:
            self._note(func, name, args, kwargs, reads, target, before, out)
        return out

    def _note(
        self,
        func: Any,
        name: str,
        args: Any,
        kwargs: dict[str, Any],
        reads: list[int],
        target: torch.Tensor | None,
        before: torch.Tensor | None,
        out: Any,
    ) -> None:
        found = [target] if target is not None else list(tensors(out))
        if not found or name.startswith(MAKES):
            return
        if len(self.calls) >= MOST or (target is not None and target._is_view()):  # noqa: SLF001
            self.broken = "too many operations" if target is None else "numbers were changed in place"
            return
        learned = any(self._known[one].requires_grad for one in reads)
        blocks = learned and any(one.is_floating_point() and not one.requires_grad for one in found)
        if before is not None:
            args = (before, *args[1:])
        noted = Noted(func, args, kwargs, found, reads, blocks, in_place=target is not None)
        self.calls.append(noted)
        for one in found:
            self._known[id(one)] = one

    # ---- what the loss needs of it

    def needed(self, loss: torch.Tensor) -> list[Noted]:
        """The calls that made a number, in their order.

        Raises:
            CannotReplayError: where the number was not made of answers alone, in ways that are known.
        """
        if self.broken:
            raise CannotReplayError(self.broken)
        wanted, found = {id(loss)}, list[Noted]()
        for call in reversed(self.calls):
            made = ({id(one) for one in call.out} & wanted) - set(self.answers)
            if not made:
                continue
            if call.blocks:
                raise CannotReplayError("a part of it lets no gradient pass")
            if call.name.rstrip("_") in DRAWS or "dropout" in call.name:
                raise CannotReplayError("a part of it is drawn at random from the answers")
            found.append(call)
            if not call.in_place:
                wanted -= made
            wanted |= set(call.reads)
        if not wanted & set(self.answers):
            raise CannotReplayError("it is not made of a model's answers")
        return found[::-1]


def tensors(thing: Any, depth: int = 4) -> Iterator[torch.Tensor]:
    """Tensors in nested tuples, lists and dicts."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, dict) and depth:
        for one in thing.values():
            yield from tensors(one, depth - 1)
    elif isinstance(thing, (tuple, list)) and depth:
        for one in thing:
            yield from tensors(one, depth - 1)


def _writes(name: str) -> bool:
    """Whether a function changes its first argument."""
    return (
        (name.endswith("_") and not name.endswith("__"))
        or (
            name.startswith("__i")
            and name.endswith("__")
            and name not in {"__invert__", "__index__", "__int__"}
        )
        or name == "__setitem__"
    )


def _replaced() -> bool:
    """Whether somebody put a function of their own in the place of one of PyTorch's.

    PyTorch's then asks the mode, and hands it the function by its name: the other one would be called twice.
    """
    return any(
        isinstance(one, FunctionType) and not str(one.__globals__.get("__name__")).startswith("torch")
        for owner in (torch.nn.functional, torch.functional, torch.Tensor)
        for name, one in vars(owner).items()
        if name != "backward"  # watched by ourselves, while nothing is noted
    )


def _free() -> bool:
    """Whether no mode of the program's own stands there, which would be taken off in our place."""
    default = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return all(one is default for one in _get_current_function_mode_stack())


def _compiles() -> bool:
    """Whether the program compiles anything: a mode would have it compiled again."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    known: dict[int, Any] = getattr(frames, "cached_backends", None) or {}
    return any(one is not None for one in known.values())  # optimisers alone leave a None there
