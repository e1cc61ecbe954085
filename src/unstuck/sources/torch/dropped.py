"""Dropout that is a function, or written by hand: its mask tells what it is."""

import math
from typing import Any, Final

import torch

from unstuck.sources.torch.ops import kind, saved

MASKED: Final = 4096
"""Numbers of a mask that are looked at."""


def dropped(fn: Any) -> float | None:
    """The share that a dropout sets to 0; None for other operations.

    Without a device of its own PyTorch's function multiplies by a mask: 0, or 1 / (1 - p) for what is kept.
    So does a dropout that somebody wrote by hand.

    Args:
        fn: an operation of the graph, before the backward pass.
    """
    name = kind(fn)
    if name == "NativeDropout":
        share = saved(fn, "p")
        return float(share) if isinstance(share, float) else None
    if name != "Mul":
        return None
    for side in ("other", "self"):
        mask = saved(fn, side)
        if isinstance(mask, torch.Tensor) and not mask.requires_grad and _whole(mask):
            found = _masked(mask.detach().flatten()[:MASKED])
            if found is not None:
                return found
    return None


def _whole(mask: torch.Tensor) -> bool:
    """Whether it is cheap to look at: strides of an own array, on the processor."""
    return (
        mask.device.type == "cpu" and mask.is_floating_point() and mask.is_contiguous() and mask.numel() > 15
    )


def _masked(some: torch.Tensor) -> float | None:
    kept, zero = float(some.max()), some == 0
    if not kept > 1 or not bool((zero | (some == kept)).all()):
        return None
    share, seen = 1 - 1 / kept, float(zero.float().mean())
    # as many zeros as chance allows, or it is another mask
    near = abs(seen - share) <= 5 * math.sqrt(share * (1 - share) / some.numel())
    return round(share, 4) if near else None
