"""What is changed in PyTorch while a training is recorded, and changed back afterwards."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.amp.grad_scaler import GradScaler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import dataloader


class Watcher(Protocol):
    """What is told of a training's steps. None of its methods may raise."""

    def before_backward(self, tensors: Any, gradients: Any) -> bool:
        """`backward` is about to run; returns whether to be told of its end."""
        ...

    def after_backward(self) -> None:
        """It has run, or failed."""
        ...

    def before_step(self, optimizer: Any) -> None:
        """An optimiser is about to step."""
        ...

    def after_step(self, optimizer: Any) -> None:
        """It has stepped."""
        ...

    def scaled(self, scaler: Any) -> None:
        """A loss was scaled for half precision."""
        ...

    def scaler_updated(self) -> None:
        """The scale may change now: the step was made, or left out because of overflow."""
        ...

    def handed(self, iterator: Any, data: Any) -> None:
        """The iterator of a data loader handed out a batch."""
        ...


def install(watcher: Watcher) -> Callable[[], None]:
    """Tell a watcher of every backward pass and optimiser step, until the result is called.

    `torch.autograd.backward` is replaced (`Tensor.backward` calls it), optimisers get PyTorch's own hooks.

    Returns:
        Puts everything back; somebody else's change on top of ours stays, and ours then does nothing.
    """
    active = [True]
    handles = [
        register_optimizer_step_pre_hook(_told(watcher.before_step)),
        register_optimizer_step_post_hook(_told(watcher.after_step)),
    ]
    undo = [
        _replace(torch.autograd, "backward", lambda original: _backward(original, watcher, active)),
        _replace(GradScaler, "scale", lambda original: _scale(original, watcher, active)),
        _replace(GradScaler, "update", lambda original: _update(original, watcher, active)),
    ]
    iterator = getattr(dataloader, "_BaseDataLoaderIter", None)
    if hasattr(iterator, "__next__"):
        undo.append(_replace(iterator, "__next__", lambda original: _next(original, watcher, active)))

    def remove() -> None:
        active.clear()
        for handle in handles:
            handle.remove()
        for one in undo:
            one()

    return remove


def _told(method: Callable[[Any], None]) -> Callable[[Any, Any, Any], None]:
    """A hook of an optimiser, which gets the step's arguments too."""

    def hook(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        method(optimizer)

    return hook


def _replace(owner: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
    original = getattr(owner, name)
    ours = make(original)
    for attribute in ("__doc__", "__name__", "__qualname__", "__module__"):
        setattr(ours, attribute, getattr(original, attribute, None))
    setattr(owner, name, ours)

    def undo() -> None:
        if getattr(owner, name) is ours:
            setattr(owner, name, original)

    return undo


def _backward(original: Any, watcher: Watcher, active: list[bool]) -> Any:
    def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
        told = bool(active) and watcher.before_backward(tensors, grad_tensors)
        try:
            original(tensors, grad_tensors, *args, **kwargs)
        finally:
            if told:
                watcher.after_backward()

    return backward


def _scale(original: Any, watcher: Watcher, active: list[bool]) -> Any:
    def scale(self: Any, outputs: Any) -> Any:
        result = original(self, outputs)
        if active and self.is_enabled():
            watcher.scaled(self)
        return result

    return scale


def _next(original: Any, watcher: Watcher, active: list[bool]) -> Any:
    def following(self: Any) -> Any:
        data = original(self)
        if active:
            watcher.handed(self, data)
        return data

    return following


def _update(original: Any, watcher: Watcher, active: list[bool]) -> Any:
    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if active:
            watcher.scaler_updated()

    return update
