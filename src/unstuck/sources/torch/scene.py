"""A model, its loss and one batch: what a trial is made of."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unstuck.sources.torch.calls import (
    _tensors as tensors_in,  # pyright: ignore[reportPrivateUsage]  (the one walk over nested tensors)
)
from unstuck.sources.torch.copy import Kept

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of a model."""


class NotMeasured(Exception):  # noqa: N818  (it reports no error: this model or batch does not allow a probe)
    """A probe that says nothing here; the words follow "because"."""

    def __init__(self, because: str) -> None:
        """Keep the reason."""
        super().__init__(because)
        self.because = because


def arguments(inputs: Any) -> Given:
    """What a batch means to a model: a tuple or list is several arguments, a dict named ones.

    A pair of a tuple and a dict, as hooks of modules get it, is what it is.
    """
    match inputs:
        case (tuple() as args, dict() as named):
            return args, named
        case _:
            pass
    if isinstance(inputs, Mapping):
        return (), {str(name): value for name, value in inputs.items()}
    return (tuple(inputs), {}) if isinstance(inputs, (tuple, list)) else ((inputs,), {})


@dataclass
class Scene:
    """On which trials are run, each from what was kept.

    Either `loss_fn` takes the model's output and the targets, or `closure` computes the loss by itself.
    """

    model: nn.Module
    loss_fn: Callable[..., Any] | None
    inputs: Given
    targets: Any
    optimizer: Any
    """A `torch.optim.Optimizer`; None where none is known."""
    kept: Kept
    closure: Callable[[], Any] | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Of the model, those that want a gradient."""
        return [one for one in self.model.parameters() if one.requires_grad]

    # ---- one evaluation

    def output(self, inputs: Given | None = None) -> torch.Tensor:
        """The model's output for a batch, without a gradient; the first tensor of several."""
        args, kwargs = self.inputs if inputs is None else inputs
        with torch.no_grad():
            found = next(tensors_in(self.model(*args, **kwargs)), None)
        if found is None or not found.is_floating_point() or found.dim() == 0:
            raise NotMeasured("the model's output is no tensor of real numbers for each sample")
        return found

    def loss(self, inputs: Given | None = None, targets: Any = None) -> torch.Tensor:
        """The loss of a batch: of the scene's own by default."""
        if self.loss_fn is None:
            if self.closure is None:
                raise NotMeasured("the loss cannot be computed again")
            if inputs is not None or targets is not None:
                raise NotMeasured("the loss can only be computed for the batch as it is")
            return self.closure()
        args, kwargs = self.inputs if inputs is None else inputs
        return self.loss_fn(self.model(*args, **kwargs), self.targets if targets is None else targets)

    def gradients(self, inputs: Given | None = None, targets: Any = None) -> tuple[float, list[torch.Tensor]]:
        """The loss, and its gradient for each of `parameters` (0 where there is none)."""
        loss, parameters = self.loss(inputs, targets), self.parameters
        if not loss.requires_grad or not parameters:
            raise NotMeasured("no gradient of the loss reaches a parameter")
        found: Any = torch.autograd.grad(loss, parameters, allow_unused=True)
        pairs = zip(found, parameters, strict=True)
        return float(loss.detach()), [
            torch.zeros_like(one) if grad is None else grad.detach().to_dense() for grad, one in pairs
        ]

    # ---- a training

    def train(
        self, steps: int, *, factor: float = 1.0, targets: Any = None, patience: int = 3
    ) -> list[float]:
        """Train on the batch with the optimiser as it is, its learning rates multiplied by a factor.

        Args:
            steps: number of updates.
            factor: of the learning rates.
            targets: others than the scene's.
            patience: it ends after so many losses that are not finite.

        Returns:
            The loss before each update and after the last.
        """
        optimizer = self.optimizer
        if optimizer is None:
            raise NotMeasured("no optimiser was given")
        for group in optimizer.param_groups if factor != 1.0 else ():
            if "lr" not in group:
                raise NotMeasured("the optimiser has no learning rate")
            group["lr"] = group["lr"] * factor
        losses: list[float] = []
        for _ in range(steps):
            loss = self.update(targets)
            losses.append(float(loss))
            if len(losses) >= patience and not any(_finite(one) for one in losses[-patience:]):
                return losses
        with torch.no_grad():
            losses.append(float(self.loss(targets=targets)))
        return losses

    def update(self, targets: Any = None) -> torch.Tensor:
        """One step of the training; returns the loss before it."""
        first: list[torch.Tensor] = []

        def evaluate() -> torch.Tensor:
            loss = self.loss(targets=targets)
            self.kept.clear_gradients(loss)
            if loss.requires_grad:
                loss.backward()
            first.append(loss.detach())
            return loss

        self.step(evaluate)
        return first[0]

    def step(self, evaluate: Callable[[], torch.Tensor]) -> None:
        """Let the optimiser make a step; `evaluate` computes the loss and its gradient."""
        if _wants_closure(self.optimizer):
            self.optimizer.step(evaluate)
        else:
            evaluate()
            self.optimizer.step()

    def fewer(self, steps: int) -> int:
        """So many updates, or fewer where each of them evaluates the loss many times."""
        if not _wants_closure(self.optimizer):
            return steps
        return max(steps // max(int(self.optimizer.param_groups[0].get("max_iter", 1)), 1), 3)

    # ---- samples

    @property
    def count(self) -> int:
        """Samples of the batch."""
        own = list(tensors_in(self.inputs))
        axes = {int(extent) for one in own for extent in one.shape[:2]}
        wanted = self.targets.shape[0] if _has_samples(self.targets) else None
        if wanted in axes:
            return int(wanted)
        if not own or own[0].dim() == 0:
            raise NotMeasured("the batch has no tensor with a sample axis")
        return int(own[0].shape[0])

    def samples(self, change: Callable[[torch.Tensor, int], torch.Tensor]) -> Given:
        """The inputs with each tensor changed that has a sample axis: `change(tensor, axis)`."""
        count = self.count
        args, kwargs = self.inputs
        new = [_changed(one, count, change) for one in args]
        return tuple(new), {name: _changed(one, count, change) for name, one in kwargs.items()}

    def by_sample(self, output: torch.Tensor) -> torch.Tensor:
        """An output as (samples, numbers)."""
        count = self.count
        axis = sample_axis(output, count)
        if axis is not None:
            return output.movedim(axis, 0).reshape(count, -1)
        if output.dim() and count and output.shape[0] % count == 0:
            return output.reshape(count, -1)
        raise NotMeasured(f"the model's output {tuple(output.shape)} has no axis of {count} samples")


def sample_axis(tensor: torch.Tensor, count: int) -> int | None:
    """Which of the first two axes counts the samples; None if none has so many."""
    return next((axis for axis in (0, 1) if tensor.dim() > axis and tensor.shape[axis] == count), None)


def _changed(thing: Any, count: int, change: Callable[[torch.Tensor, int], torch.Tensor]) -> Any:
    if isinstance(thing, torch.Tensor):
        axis = sample_axis(thing, count)
        return thing if axis is None else change(thing.detach(), axis)
    if isinstance(thing, Mapping):
        return {name: _changed(one, count, change) for name, one in thing.items()}
    if isinstance(thing, Sequence) and type(thing) in {list, tuple}:
        new = [_changed(one, count, change) for one in thing]
        return tuple(new) if isinstance(thing, tuple) else new
    return thing


def _has_samples(targets: Any) -> bool:
    return isinstance(targets, torch.Tensor) and targets.dim() > 0


def _wants_closure(optimizer: Any) -> bool:
    """Whether its step evaluates the loss by itself (LBFGS)."""
    given = inspect.signature(type(optimizer).step).parameters.get("closure")
    return given is not None and given.default is inspect.Parameter.empty


def _finite(value: float) -> bool:
    return value - value == 0
