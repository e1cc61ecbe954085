"""In which mode the layers were called in a step, how often, and what batch normalisations saw of it."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]  (the base of all of them)

from unstuck.sources.torch.ops import saved
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.weights import Rows
from unstuck.trace.measure import Values
from unstuck.trace.norms import norm_gaps


class _Seen(NamedTuple):
    """What one call of a batch normalisation left: small copies, made at once."""

    name: str
    values: int
    """Numbers that each mean was taken over."""
    moments: torch.Tensor
    """(4, channels): mean and 1 / standard deviation of the batch, running mean and running variance."""
    eps: float
    batches: torch.Tensor | None
    """How many batches the running statistics took in."""


class Modes:
    """What the calls of one step show, until `clear`.

    It reads only: the batch's own moments are those that PyTorch keeps for the backward pass.
    """

    def __init__(self) -> None:
        """Nothing was called yet."""
        self.times: dict[str, int] = {}
        """How often each layer was called, with or without gradients."""
        self.training = False
        """Whether anything was in training mode, in a pass with gradients."""
        self.passes = False
        """Whether there was such a pass."""
        self._norms: dict[str, _Seen] = {}
        self._fresh: dict[str, torch.Tensor] = {}
        """Running statistics of normalisations that were called in evaluation mode."""

    def clear(self) -> None:
        """Before a measured step."""
        self.times.clear()
        self._norms.clear()
        self._fresh.clear()
        self.training = self.passes = False

    def entered(self, model: nn.Module) -> None:
        """A pass with gradients through a whole model begins."""
        self.passes, self.training = True, self.training or model.training

    def called(self, name: str, module: nn.Module, result: torch.Tensor) -> None:
        """A layer was called in a pass with gradients.

        Args:
            name: of the layer.
            module: which it is.
            result: what it made.
        """
        self.passes, self.training = True, self.training or module.training
        if isinstance(module, _BatchNorm) and name not in self._norms:
            self._normalised(name, module, result)

    def _normalised(self, name: str, module: _BatchNorm, result: torch.Tensor) -> None:
        mean, var = module.running_mean, module.running_var
        if mean is None or var is None or mean.is_meta:
            return
        if not module.training:
            self._fresh.setdefault(name, torch.stack([mean.detach(), var.detach()]))
            return
        own, inverse = (saved(result.grad_fn, f"result{i}") for i in (1, 2))
        if not isinstance(own, torch.Tensor) or not isinstance(inverse, torch.Tensor):
            return  # of another kind: what it normalised by is out of sight
        if own.shape != mean.shape or inverse.shape != mean.shape:
            return
        kept = [own, inverse, mean.to(own.dtype), var.to(own.dtype)]
        batches = module.num_batches_tracked
        self._norms[name] = _Seen(
            name,
            result.numel() // max(mean.numel(), 1),
            torch.stack([one.detach() for one in kept]),
            module.eps,
            None if batches is None else batches.float(),
        )

    def measure(self, gather: Gather, rows: Rows, *, close: bool) -> None:
        """Put into the rows of a step what its calls showed.

        Args:
            gather: brings the numbers.
            rows: where they go.
            close: whether this is a close look, which tells how often every layer was called.
        """
        if self.passes:
            rows[""]["eval_mode"] = float(not self.training)
        for seen in self._norms.values():
            rows[seen.name]["norm_values"] = float(seen.values)
            gather.put(seen.moments, lambda found, seen=seen: rows[seen.name].update(_gaps(found, seen.eps)))
            if seen.batches is not None:
                gather.put(
                    seen.batches.reshape(1),
                    lambda found, seen=seen: rows[seen.name].__setitem__("norm_batches", float(found[0])),
                )
        for name, moments in self._fresh.items() if close else ():
            gather.put(moments, lambda found, name=name: rows[name].__setitem__("norm_fresh", _fresh(found)))


def _gaps(moments: Floats, eps: float) -> Values:
    """How far a batch's mean and variance lie from the running ones, over the channels."""
    own, inverse, mean, var = moments.astype(np.float64)
    with np.errstate(all="ignore"):
        return norm_gaps(own, 1 / inverse**2 - eps, mean, var, eps=eps)


def _fresh(moments: Floats) -> float:
    """1 if these are the running statistics of a new layer: mean 0 and variance 1."""
    return float(bool((moments[0] == 0).all() and (moments[1] == 1).all()))
