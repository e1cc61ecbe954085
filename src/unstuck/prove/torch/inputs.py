# pyright: basic
# Hooks of modules are given whatever a model takes.
"""Treatments of what a model is given: the scale of its inputs, and the order of the samples."""

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.seeds import mixed, replaced

ENOUGH = 1024
"""Samples after which the scale of the inputs is settled."""


class Scale(Intervention):
    """`data=standardise` and `data=-1..1`: inputs are shifted and scaled at the model's door.

    Each feature, or each channel of images and signals. The scale is that of the first 1024 samples, as far
    as they have been seen, and the same in training and evaluation.
    """

    nothing = "no model of this program was given real numbers by position"

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Stand at the door of each model."""
        import gc

        import torch

        del optimizers
        compiled = {
            id(vars(one).get("_modules", {}).get("_orig_mod")): one
            for one in gc.get_objects()
            if type(one).__name__ == "OptimizedModule"
        }
        for model in models:
            if isinstance(model, torch.nn.Module) and not vars(model).get("_unstuck_scaled"):
                door = _Door(self)
                outside = compiled.get(id(model), model)
                outside.register_forward_pre_hook(door.enter, with_kwargs=True, prepend=True)
                vars(model)["_unstuck_scaled"] = True


class _Door:
    """The scale of one model's inputs."""

    def __init__(self, owner: Scale) -> None:
        self.owner = owner
        self.count = 0
        self.low: Any = None
        self.high: Any = None
        self.sum: Any = None
        self.squares: Any = None

    def enter(self, _model: Any, args: Any, kwargs: Any) -> Any:
        import torch

        place, one = next(
            ((i, one) for i, one in enumerate(args) if isinstance(one, torch.Tensor)), (None, None)
        )
        if place is None or one is None:
            return None
        if not one.is_floating_point() or one.dim() < 1 or one.requires_grad:
            self.owner.refuse(
                "its model is not given real numbers, but "
                + ("what another model made" if one.requires_grad else "whole ones")
            )
            return None
        scaled = self._scaled(one)
        same = scaled.shape == one.shape and torch.allclose(scaled, one, rtol=1e-5, atol=1e-6)
        if not same:
            self.owner.did("inputs")
        return (*args[:place], scaled, *args[place + 1 :]), kwargs

    def _scaled(self, one: Any) -> Any:
        import torch

        axis = 1 if one.dim() in {4, 5} else one.dim() - 1  # channels of images; features of all else
        axes = [i for i in range(one.dim()) if i != axis]
        if one.dim() == 1:
            axes = [0]
        if torch.is_grad_enabled() and self.count < ENOUGH:
            self._learn(one.detach().double(), axes)
        if self.count == 0:
            return one
        if self.owner.treatment.value == "standardise":
            middle = self.sum / self.rows
            spread = (self.squares / self.rows - middle**2).clamp_min(0).sqrt()
            # a rounding error is no spread
            spread = torch.where(spread > 1e-7 * middle.abs(), spread, 0)
        else:
            middle, spread = (self.low + self.high) / 2, (self.high - self.low) / 2
        spread = torch.where(spread > 0, spread, 1.0)
        return ((one - middle.to(one)) / spread.to(one)).to(one.dtype)

    def _learn(self, one: Any, axes: list[int]) -> None:
        total, squares = one.sum(axes, keepdim=True), (one**2).sum(axes, keepdim=True)
        low, high = one.amin(axes, keepdim=True), one.amax(axes, keepdim=True)
        rows = one.numel() // max(total.numel(), 1)
        if self.sum is None or self.sum.shape != total.shape:
            if self.sum is not None:
                return
            self.sum, self.squares, self.low, self.high, self.rows = total, squares, low, high, rows
        else:
            self.sum, self.squares, self.rows = self.sum + total, self.squares + squares, self.rows + rows
            self.low, self.high = low.minimum(self.low), high.maximum(self.high)
        self.count += one.shape[0]


class Shuffle(Intervention):
    """`order=shuffle`: loaders that went through their samples in order deal them anew in each epoch."""

    nothing = "no DataLoader of this program goes through its samples in order"

    def install(self, undo: ExitStack) -> None:
        """Change loaders when they are made."""
        import torch
        from torch.utils.data import DataLoader, IterableDataset, RandomSampler

        made = DataLoader.__init__

        @functools.wraps(made)
        def make(
            loader: Any,
            dataset: Any,
            batch_size: Any = 1,
            shuffle: Any = None,
            sampler: Any = None,
            batch_sampler: Any = None,
            *args: Any,
            **kwargs: Any,
        ) -> None:
            free = not shuffle and sampler is None and batch_sampler is None
            if free and not isinstance(dataset, IterableDataset) and len(dataset) > 1:
                generator = torch.Generator()
                generator.manual_seed(mixed("order", self.seed))
                sampler, shuffle = RandomSampler(dataset, generator=generator), None
                self.did("DataLoader")
            made(loader, dataset, batch_size, shuffle, sampler, batch_sampler, *args, **kwargs)

        replaced(undo, DataLoader, "__init__", make)
