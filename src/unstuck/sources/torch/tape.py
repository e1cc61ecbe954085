"""What a program does with its model's answers until it calls `backward`: noted, to be done once more.

Between the end of a model's forward pass and the backward pass stand the operations that make the loss,
whatever it is. They are noted on measured steps only, by a mode of PyTorch's that sees each call of a
function and changes none. On a few steps what happens inside the model is noted, too.
"""

import inspect
import sys
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode_stack,  # pyright: ignore[reportPrivateUsage]  (there is no public name for it)
)

from unstuck.sources.torch.mistaken import VIEWS, Mistaken

MOST = 2000
"""Calls that are noted, at most."""
MOST_PASSES = 8
"""Calls of models before a backward pass whose insides are noted, at most."""
MOST_BYTES = 1 << 29
"""Of numbers made inside of models that are kept alive until the backward pass, at most."""
MOST_ANSWERS = 64
"""Tensors that models give out in a step, at most."""
DRAWS = frozenset(
    {"multinomial", "bernoulli", "poisson", "normal", "rrelu", "gumbel_softmax", "exponential", "binomial"}
)
"""Names of functions whose result is drawn at random from what they are given (and all sorts of dropout)."""
ESCAPES = frozenset({"numpy", "tolist", "__array__", "apply_", "map_", "map2_"})
"""Names of functions after which numbers go on out of sight."""
FLATTENS = VIEWS | {"flatten"}
SHAPES = FLATTENS | {"long", "to", "contiguous", "clone"}
"""Names of functions that keep all numbers in their order."""
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
    inside: bool = False
    """Whether a model did it, and not what follows its answer."""

    @property
    def name(self) -> str:
        """Of the function."""
        return str(getattr(self.func, "__name__", ""))


class Call(NamedTuple):
    """What is known of a call before it is made."""

    reads: list[int]
    """Ids of the noted tensors that it reads."""
    target: torch.Tensor | None
    """What it writes into."""
    before: torch.Tensor | None
    """That, as it was."""


class Start(NamedTuple):
    """What a step's forward passes began with."""

    inputs: dict[int, tuple[str, torch.Tensor]]
    """By id: what models were given, by the names of their arguments."""
    random: list[torch.Tensor]
    """States of the generators before the first model was called: the processor's, those of devices."""
    random_of: list[torch.device]
    """These devices."""
    casts: list[tuple[str, torch.dtype]]
    """Kinds of devices on which the models compute with less precision, and with which."""


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
        # inside of models
        self.inputs: dict[int, tuple[str, torch.Tensor]] = {}
        """By id: what models were given, by the names of their arguments."""
        self.hidden = ""
        """Why what happens inside the models is not known, if that is known already."""
        self.random: list[torch.Tensor] = []
        """States of the generators before the first model was called: the processor's, those of devices."""
        self.random_of: list[torch.device] = []
        """These devices."""
        self.casts: list[tuple[str, torch.dtype]] = []
        """Kinds of devices on which the models compute with less precision, and with which."""
        self.shapes: dict[int, tuple[torch.Tensor, torch.Size]] = {}
        """By id of a target that was made flat before it entered the loss: it, and its shape before."""
        self.mistaken = Mistaken()
        """Shapes that are hardly ever meant."""
        self._passes = self._bytes = 0
        self._inside = False
        self._apart: dict[int, torch.Tensor] = {}
        """Tensors that were made of no input while it listened."""

    # ---- when it listens

    @property
    def may_listen(self) -> bool:
        """Whether the program has no mode of its own, compiles nothing and replaced no function."""
        return self._pushed or (_free() and not _compiles() and not _replaced())

    def entered(self, given: list[tuple[str, torch.Tensor]]) -> None:
        """A model is about to be given these; what it does with them is noted from here on."""
        devices = {one.device for _, one in given}
        if not self.may_listen or self.hidden or not _can_be_set_back(devices):
            return
        self._passes += 1
        if self._passes > MOST_PASSES:
            self._hide("too many passes through models")
            return
        if not self.inputs:
            self.random_of = [one for one in devices if one.type == "cuda"]
            self.random = [torch.get_rng_state(), *(torch.cuda.get_rng_state(one) for one in self.random_of)]
            kinds = {one.type for one in devices}
            self.casts = [
                (one, torch.get_autocast_dtype(one)) for one in kinds if torch.is_autocast_enabled(one)
            ]
        for name, one in given:
            if id(one) not in self._known:
                self.inputs[id(one)] = name, one
                self._known[id(one)] = one
        self._inside = True
        self._listen()

    def answered(self, place: Any, tensors: list[torch.Tensor], *, graded: bool = True) -> None:
        """A model gave these out; what is done with them is noted from here on.

        Args:
            place: where they come from.
            tensors: the answers.
            graded: whether only those count that a gradient can pass.
        """
        self._inside = False
        for index, one in enumerate(tensors):
            if (graded and one.grad_fn is None) or not one.is_floating_point():
                continue
            if len(self.answers) >= MOST_ANSWERS:
                self.broken = "too many answers"
                break
            self.answers[id(one)] = Answer(
                one, (place, index, tuple(one.shape[2 if one.dim() == 3 else 1 :]))
            )
            self._known[id(one)] = one
        if self.answers and not self.broken:
            self._listen()
        else:
            self.on = self._pushed

    def _listen(self) -> None:
        if not self._pushed:
            self.__enter__()
            self._pushed = True
        self.on = True

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

    def aside(self) -> AbstractContextManager[Any]:
        """While this lasts nothing is noted: what our own hooks do with tensors is none of the program's."""
        return torch._C.DisableTorchFunction() if self._pushed else nullcontext()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  (no public name)

    def forget(self) -> None:
        """Let go of all tensors."""
        self.pause()
        self.answers.clear()
        self.calls.clear()
        self._known.clear()
        self._apart.clear()
        self.inputs.clear()
        self.shapes.clear()
        self._inside, self.mistaken = False, Mistaken()
        self._passes = self._bytes = 0
        self.broken = self.hidden = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, once and as it is; note it if it reads what is known."""
        kwargs = kwargs or {}
        if not self.on:
            return func(*args, **kwargs)
        name, seen = str(getattr(func, "__name__", "")), None
        try:
            seen = self._before(name, args, kwargs)
        except Exception:  # noqa: BLE001  (nothing of ours may stop a program)
            self._give_up()
        out = func(*args, **kwargs)
        if seen is not None:
            try:
                self._after(func, name, args, kwargs, seen, out)
            except Exception:  # noqa: BLE001
                self._give_up()
        return out

    def _give_up(self) -> None:
        self.broken = self.broken or "a call could not be noted"
        self._hide(self.broken)
        self.on = False

    def _before(self, name: str, args: Any, kwargs: dict[str, Any]) -> Call:
        """What is known before a function is called."""
        reads = [id(one) for one in tensors((args, kwargs)) if id(one) in self._known]
        target = args[0] if args and isinstance(args[0], torch.Tensor) and _writes(name) else None
        before = None
        if reads and target is not None and id(target) not in self._known and target.grad_fn is None:
            with torch.no_grad():
                before = target.detach().clone()
        if self.inputs and not self.hidden:
            self._watch(name, args, kwargs, reads=bool(reads))
        return Call(reads, target, before)

    def _after(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], seen: Call, out: Any) -> None:
        """Note what it gave."""
        given = next(tensors((args, kwargs)), None)
        if (
            name in VIEWS
            and isinstance(out, torch.Tensor)
            and given is not None
            and given.grad_fn is not None
        ):
            self.mistaken.view(given, out)  # whether it can be done once more or not
        if seen.reads:
            self._note(func, name, args, kwargs, seen, out)
        elif self._inside:
            self._apart |= {id(one): one for one in tensors(out)}
        elif self.inputs and name in SHAPES and isinstance(out, torch.Tensor) and given is not None:
            flat = name in FLATTENS
            shape = given.shape if flat else self.shapes.get(id(given), (given, given.shape))[1]
            self.shapes[id(out)] = out, shape

    def _watch(self, name: str, args: Any, kwargs: dict[str, Any], *, reads: bool) -> None:
        """Whether what happens inside the models can be done once more without harm, and is seen in full."""
        if reads and name in ESCAPES:
            self.hidden = "numbers are taken out of PyTorch"
        elif kwargs.get("out") is not None or kwargs.get("max_norm") is not None or "fake_quant" in name:
            self.hidden = "an operation writes into what it is given"
        elif any(isinstance(one, torch.Generator) for one in (*args, *kwargs.values())):
            self.hidden = "a generator of its own is drawn from"
        elif any(
            one.grad_fn is not None and id(one) not in self._known and id(one) not in self._apart
            for one in tensors((args, kwargs))
        ):
            self.hidden = "a part of it is made out of sight"

    def _note(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], seen: Call, out: Any) -> None:
        reads, target, before = seen
        found = [target] if target is not None else list(tensors(out))
        if not found or name.startswith(MAKES):
            return
        if self._inside and self.hidden:
            return
        if len(self.calls) >= MOST or (target is not None and target._is_view()):  # noqa: SLF001
            because = "too many operations" if target is None else "numbers were changed in place"
            if self._inside:
                self._hide(because)
            else:
                self.broken = because
            return
        if not self._inside and len(args) > 1:
            self.mistaken.meet(name, args[:2], found[0], self._known)
        learned = any(self._known[one].requires_grad for one in reads)
        blocks = learned and any(one.is_floating_point() and not one.requires_grad for one in found)
        if before is not None:
            args = (before, *args[1:])
        noted = Noted(
            func, args, kwargs, found, reads, blocks, in_place=target is not None, inside=self._inside
        )
        self.calls.append(noted)
        for one in found:
            self._known[id(one)] = one
            self._bytes += one.nbytes if self._inside and one._base is None else 0  # noqa: SLF001  (a view costs nothing)
        if self._bytes > MOST_BYTES:
            self._hide("too large")

    def _hide(self, because: str) -> None:
        """Let go of what happened inside the models, and note no more of it in this step."""
        self.hidden, self._bytes = because, 0
        self.calls = [call for call in self.calls if not call.inside]
        kept = {id(one) for call in self.calls for one in call.out} | set(self.answers)
        self._known = {number: one for number, one in self._known.items() if number in kept}
        self._apart.clear()
        self.inputs.clear()

    # ---- what the loss needs of it

    @property
    def start(self) -> Start:
        """What the models were given; it stays when the tape forgets."""
        return Start(dict(self.inputs), list(self.random), list(self.random_of), list(self.casts))

    def needed(self, loss: torch.Tensor) -> list[Noted]:
        """The calls that made a number, in their order.

        Raises:
            CannotReplayError: where the number was not made of answers alone, in ways that are known.
        """
        if self.broken:
            raise CannotReplayError(self.broken)
        wanted, found = {id(loss)}, list[Noted]()
        for call in reversed([one for one in self.calls if not one.inside]):
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

    def making(self, *results: torch.Tensor) -> list[Noted]:
        """The calls, inside of models too, that made tensors of what the models were given, in their order.

        Raises:
            CannotReplayError: where not all of them were seen.
        """
        if self.broken or self.hidden:
            raise CannotReplayError(self.broken or self.hidden)
        wanted, found = {id(one) for one in results}, list[Noted]()
        for call in reversed(self.calls):
            made = {id(one) for one in call.out} & wanted
            if made:
                found.append(call)
                wanted = (wanted if call.in_place else wanted - made) | set(call.reads)
        if any(call.func is torch.autograd.grad for call in found):
            raise CannotReplayError("it takes a slope")
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


def named(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, torch.Tensor]]:
    """The tensors that a model is given, by the names of its arguments.

    Example:
        >>> class Model(nn.Module):
        ...     def forward(self, image, words): ...
        >>> [name for name, _ in named(Model(), (torch.ones(2), [torch.ones(3)]), {})]
        ['image', 'words']
    """
    names = list(inspect.signature(module.forward).parameters)
    given = [(names[i] if i < len(names) else f"{i + 1}", one) for i, one in enumerate(args)]
    found: list[tuple[str, torch.Tensor]] = []
    for name, thing in (*given, *kwargs.items()):
        own = list(tensors(thing))
        found += [(name if len(own) == 1 else f"{name}[{i}]", one) for i, one in enumerate(own)]
    return found


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


def _can_be_set_back(devices: Collection[torch.device]) -> bool:
    """Whether the random numbers of devices can be drawn once more, and nobody would notice."""
    kinds = {one.type for one in devices}
    return kinds <= {"cpu", "cuda"} and not ("cuda" in kinds and torch.cuda.is_current_stream_capturing())


def _free() -> bool:
    """Whether no mode of the program's own stands there, which would be taken off in our place."""
    default = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return all(
        one is default or (isinstance(one, Tape) and not one.on) for one in _get_current_function_mode_stack()
    )


def _compiles() -> bool:
    """Whether the program compiles anything: a mode would have it compiled again."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    known: dict[int, Any] = getattr(frames, "cached_backends", None) or {}
    return any(one is not None for one in known.values())  # optimisers alone leave a None there
