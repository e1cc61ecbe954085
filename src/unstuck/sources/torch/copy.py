"""Everything that a look at a model may change, kept and put back: the same objects with the same bytes."""

import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from operator import is_
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import nn

from unstuck.errors import UnstuckError

MOST = 100_000
"""Objects inside models and optimisers that are looked at."""
_HOLDERS = (dict, OrderedDict, defaultdict, list, set, deque)
_Put = Callable[[], None]


@contextmanager
def untouched(*things: Any) -> Generator["Kept"]:
    """Keep the things and all random states, and put everything back at the end, whatever happens.

    Args:
        things: modules, optimisers, tensors, functions (what they use is kept), and tuples, lists or dicts
            of these.

    Yields:
        What was kept; its `reset` goes back to it in between.

    Raises:
        UnstuckError: for parameters that have no numbers.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> before = layer.weight.clone()
        >>> with untouched(layer):
        ...     _ = layer.weight.data.zero_()
        >>> bool((layer.weight == before).all())
        True
    """
    kept = Kept(things)
    try:
        kept.clear_gradients()
        yield kept
    finally:
        kept.restore()


class Kept:
    """Parameters, buffers, gradients, optimiser states, attributes of modules and random states.

    Attributes that are tensors, arrays, random generators, or lists, dicts and sets of such are kept with
    their contents; of objects of other classes only which one it is. This takes the memory of one copy of
    the parameters and of the optimiser's state.
    """

    def __init__(self, things: Iterable[Any]) -> None:
        """Copy; nothing is changed yet."""
        self._seen: dict[int, Any] = {}
        """By id; holding the objects keeps the ids from being used again."""
        self._tensors: list[_Tensor] = []
        self._contents: list[_Put] = []
        self._random = _Random()
        self._by_id: dict[int, _Tensor] = {}
        for thing in things:
            self._keep(thing)

    def reset(self) -> None:
        """Back to what was kept, but without gradients: the start of one trial."""
        for put in self._contents:
            put()
        for one in self._tensors:
            one.put()
            one.tensor.grad = None
        self.reset_random()

    def restore(self) -> None:
        """Back to what was kept, gradients included."""
        self.reset()
        for one in self._tensors:
            one.put_gradient()

    def clear_gradients(self, loss: torch.Tensor | None = None) -> None:
        """Let go of all gradients, and of a loss's other leaves too, whose gradients are kept from now on."""
        for leaf in () if loss is None else leaves(loss):
            if id(leaf) not in self._seen:
                self._seen[id(leaf)] = leaf
                self._add(_Tensor(leaf, content=False))
        for one in self._tensors:
            one.tensor.grad = None

    def numbers(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The kept numbers of a tensor, not to be changed; None if it was not kept."""
        one = self._by_id.get(id(tensor))
        return None if one is None else one.copy

    def reset_random(self) -> None:
        """Back to the random states that were kept."""
        self._random.put()

    def same_random(self) -> bool:
        """Whether no random number was drawn since the random states were kept or put back."""
        return self._random.same()

    def gradient(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The gradient that a tensor had."""
        one = self._by_id.get(id(tensor))
        return None if one is None else one.grad

    # ---- what is there

    def _add(self, one: "_Tensor") -> None:
        self._tensors.append(one)
        self._by_id[id(one.tensor)] = one

    def _keep(self, thing: Any) -> None:
        waiting = [thing]
        while waiting:
            one = waiting.pop()
            if id(one) in self._seen or len(self._seen) > MOST:
                continue
            if isinstance(one, torch.Tensor):
                self._seen[id(one)] = one
                self._add(_Tensor(one))
            elif isinstance(one, (nn.Module, torch.optim.Optimizer)):
                self._seen[id(one)] = one
                waiting += [vars(one)]
                if isinstance(one, torch.jit.ScriptModule):  # keeps its tensors out of sight
                    waiting += [*one.parameters(), *one.buffers()]
            elif isinstance(one, _HOLDERS):
                self._seen[id(one)] = one
                self._contents.append(_holder(one))
                waiting += list(one.values()) if isinstance(one, dict) else list(one)
            elif isinstance(one, tuple):
                waiting += list(one)
            elif isinstance(one, (FunctionType, MethodType, partial)):
                self._seen[id(one)] = one
                waiting += _used_by(one)
            else:
                put = _other(one)
                if put is not None:
                    self._seen[id(one)] = one
                    self._contents.append(put)


class _Tensor:
    """One tensor: its numbers, where they lie, its gradient, and whether it wants one."""

    def __init__(self, tensor: torch.Tensor, *, content: bool = True) -> None:
        if nn.parameter.is_lazy(tensor):
            raise UnstuckError(
                "the model has a parameter without a shape (a lazy layer): call it once on a batch first"
            )
        self.tensor = tensor
        self.grad = tensor.grad if tensor.is_leaf else None
        self.requires_grad = tensor.requires_grad
        self.version = None if tensor.is_inference() else tensor._version  # noqa: SLF001  (there is no public name)
        self.place: torch.Tensor | None = None
        self.copy: torch.Tensor | None = None
        if content and not tensor.is_meta and not tensor.is_inference():
            self.place = tensor.detach()
            self.copy = None if _overlaps(tensor) else self.place.clone()

    def put(self) -> None:
        tensor = self.tensor
        if self.place is not None:
            if tensor.layout == torch.strided and tensor.data_ptr() != self.place.data_ptr():
                tensor.data = self.place
            if self.copy is not None:
                with torch.no_grad():
                    self.place.copy_(self.copy)
        if tensor.is_leaf and tensor.requires_grad != self.requires_grad:
            tensor.requires_grad_(self.requires_grad)
        if self.version is not None:
            # The bytes are the same again: a graph that the user holds may still be used. No public name.
            torch._C._autograd._unsafe_set_version_counter(  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
                (tensor,), (self.version,)
            )

    def put_gradient(self) -> None:
        if self.tensor.is_leaf:
            self.tensor.grad = self.grad


def _overlaps(tensor: torch.Tensor) -> bool:
    """Whether one number stands for several entries (an expanded tensor): nobody can write into it."""
    if tensor.layout != torch.strided:
        return False
    return any(step == 0 and extent > 1 for step, extent in zip(tensor.stride(), tensor.shape, strict=True))


def _holder(holder: Any) -> _Put:
    """Puts the same items back into the same dict, list, set or deque."""
    if isinstance(holder, dict):
        keys, values = list(holder), list(holder.values())

        def put_pairs() -> None:
            if not _same(holder, keys) or not _same(holder.values(), values):
                holder.clear()
                holder.update(zip(keys, values, strict=True))

        return put_pairs
    items = list(holder)

    def put_items() -> None:
        if not _same(holder, items):
            holder.clear()
            (holder.update if isinstance(holder, set) else holder.extend)(items)

    return put_items


def _same(now: Collection[Any], kept: Sequence[Any]) -> bool:
    """Whether these are the same objects in the same order."""
    return len(now) == len(kept) and all(map(is_, now, kept))


def _other(thing: Any) -> _Put | None:
    """Puts back an array or the state of a generator of random numbers; None for anything else."""
    if isinstance(thing, np.ndarray) and thing.flags.writeable and not thing.dtype.hasobject:
        array = thing.copy()
        return lambda: np.copyto(thing, array)
    if isinstance(thing, torch.Generator):
        bits = thing.get_state()
        return lambda: _ignore(thing.set_state(bits))
    if isinstance(thing, random.Random):
        state = thing.getstate()
        return lambda: thing.setstate(state)
    if isinstance(thing, np.random.Generator):
        own = thing.bit_generator.state
        return lambda: setattr(thing.bit_generator, "state", own)
    if isinstance(thing, np.random.RandomState):
        old = thing.get_state(legacy=False)
        return lambda: thing.set_state(old)
    return None


def _used_by(function: Any) -> list[Any]:
    """What a function has at hand: the object it belongs to, its defaults, names around it that it uses."""
    if isinstance(function, partial):
        return [function.func, *function.args, *function.keywords.values()]
    found: list[Any] = []
    if isinstance(function, MethodType):
        found.append(function.__self__)
        function = function.__func__
    if not isinstance(function, FunctionType):
        return found
    found += [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    found += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    around = [function.__globals__.get(name) for name in function.__code__.co_names]
    # of a whole module's names only what a call can change; a function in turn would lead through all of them
    return found + [
        one for one in around if isinstance(one, (torch.Tensor, nn.Module, torch.optim.Optimizer))
    ]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _ignore(_: Any) -> None:
    return None


class _Random:
    """The random states of Python, NumPy and PyTorch (of all devices in use)."""

    def __init__(self) -> None:
        self.python = random.getstate()
        self.numpy: Any = np.random.get_state()  # noqa: NPY002  (the global state is what programs use)
        self.torch = _torch_states()

    def put(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)  # noqa: NPY002
        torch.set_rng_state(self.torch[0])
        if len(self.torch) > 1:
            torch.cuda.set_rng_state_all(self.torch[1:])

    def same(self) -> bool:
        now: Any = np.random.get_state()  # noqa: NPY002
        return (
            random.getstate() == self.python
            and all(map(np.array_equal, now, self.numpy))
            and all(map(torch.equal, _torch_states(), self.torch))
        )


def _torch_states() -> list[torch.Tensor]:
    """Of the processor, then of each GPU if any is in use."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if used else [])]


def leaves(loss: torch.Tensor) -> list[torch.Tensor]:
    """The tensors into which a backward pass from a number would put gradients."""
    found: dict[int, torch.Tensor] = {}
    if loss.grad_fn is None:
        return [loss] if loss.requires_grad else []
    seen, waiting = {loss.grad_fn}, [loss.grad_fn]
    while waiting:
        for child, _ in waiting.pop().next_functions:
            if child is None or child in seen:
                continue
            seen.add(child)
            variable = getattr(child, "variable", None)
            if variable is not None:
                found[id(variable)] = variable
            else:
                waiting.append(child)
    return list(found.values())
