# pyright: basic
# Hooks of modules are given whatever a model takes.
"""Treatments of what a model is given: the scale of its inputs, and the order of the samples."""

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.modes import outermost
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
        import torch

        del optimizers
        for model in outermost(models):
            if isinstance(model, torch.nn.Module) and not vars(model).get("_unstuck_scaled"):
                model.register_forward_pre_hook(_Door(self).enter, with_kwargs=True, prepend=True)
                vars(model)["_unstuck_scaled"] = True


class _Door:
    """The door of one model."""

    def __init__(self, owner: Scale) -> None:
        self.owner = owner
        self.extent = Extent()

    def enter(self, _model: Any, args: Any, kwargs: Any) -> Any:
        import torch

        place, one = next(
            ((i, one) for i, one in enumerate(args) if isinstance(one, torch.Tensor)), (None, None)
        )
        if place is None or one is None:
            return None
        if not one.is_floating_point() or one.dim() < 1 or one.requires_grad:
            what = "what another model made" if one.requires_grad else "whole ones"
            self.owner.nothing = f"its model is not given real numbers, but {what}"
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
        if torch.is_grad_enabled():
            self.extent.learn(one, axes)
        if not self.extent.count:
            return one
        middle, spread = self.extent.of(self.owner.treatment.value)
        return ((one - middle.to(one)) / spread.to(one)).to(one.dtype)


class Extent:
    """Where numbers lie, and how far they spread, by the first 1024 samples of them."""

    def __init__(self) -> None:
        """Nothing seen."""
        self.count = self.rows = 0
        self._low: Any = None
        self._high: Any = None
        self._sum: Any = None
        self._squares: Any = None

    def learn(self, one: Any, axes: list[int]) -> None:
        """Look at a batch, unless enough was seen.

        Args:
            one: (samples, ...) numbers.
            axes: over which they are taken together.
        """
        if self.count >= ENOUGH:
            return
        one = one.detach().double()
        total, squares = one.sum(axes, keepdim=True), (one**2).sum(axes, keepdim=True)
        low, high = one.amin(axes, keepdim=True), one.amax(axes, keepdim=True)
        rows = one.numel() // max(total.numel(), 1)
        if self._sum is not None and self._sum.shape != total.shape:
            return
        if self._sum is None:
            self._sum, self._squares, self._low, self._high, self.rows = total, squares, low, high, rows
        else:
            self._sum, self._squares = self._sum + total, self._squares + squares
            self._low, self._high = low.minimum(self._low), high.maximum(self._high)
            self.rows += rows
        self.count += one.shape[0]

    def of(self, how: str) -> tuple[Any, Any]:
        """What to take away and by what to divide: `standardise`, else to the range from -1 to 1."""
        import torch

        if how == "standardise":
            middle = self._sum / self.rows
            spread = (self._squares / self.rows - middle**2).clamp_min(0).sqrt()
            # a rounding error is no spread
            spread = torch.where(spread > 1e-7 * middle.abs(), spread, 0)
        else:
            middle, spread = (self._low + self._high) / 2, (self._high - self._low) / 2
        return middle, torch.where(spread > 0, spread, 1.0)


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
