"""Statistics as tensors where they are, and one transfer that brings all of a step over together."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.floating[Any]]
Use = Callable[[Floats], None]

WIDE = frozenset({torch.float32, torch.float64})
"""Precisions in which numbers are summed as they are."""


class Gather:
    """Numbers of one step on their way to the processor.

    Example:
        >>> seen = []
        >>> gather = Gather()
        >>> gather.put(torch.tensor([1.0, 2.0]), lambda numbers: seen.extend(numbers.tolist()))
        >>> gather.put_all([torch.tensor(3.0)], lambda numbers: seen.extend(numbers.tolist()))
        >>> gather.deliver()
        >>> seen
        [1.0, 2.0, 3.0]
    """

    def __init__(self) -> None:
        """Nothing to bring yet."""
        self._parts: list[_Part] = []

    def put(self, tensor: torch.Tensor, use: Use) -> None:
        """Bring a real tensor; `use` gets it as an array of its shape, in the order of the calls."""
        self._parts.append(_Part(tensor.device, tensor.numel(), use, tensor=tensor))

    def put_all(self, scalars: list[torch.Tensor], use: Use) -> None:
        """Bring many single numbers as one array; those on several devices one by one."""
        if not scalars:
            return
        if len({one.device for one in scalars}) == 1:
            self._parts.append(_Part(scalars[0].device, len(scalars), use, scalars=scalars))
            return
        found = np.zeros(len(scalars))
        for i, one in enumerate(scalars):
            self.put(one, lambda number, i=i: found.__setitem__(i, float(number)))
        self.put(torch.zeros(0, device=scalars[-1].device), lambda _: use(found))

    def deliver(self) -> None:
        """Transfer all at once (once for each device), and hand everything out."""
        parts, self._parts = self._parts, []
        arrays = {device: _bring(device, parts) for device in dict.fromkeys(part.device for part in parts)}
        # single numbers stand in front of the larger tensors
        scalar_at = dict.fromkeys(arrays, 0)
        tensor_at = {
            device: sum(part.numbers for part in parts if part.scalars and part.device == device)
            for device in arrays
        }
        for part in parts:
            at = scalar_at if part.scalars else tensor_at
            start = at[part.device]
            at[part.device] = end = start + part.numbers
            found = arrays[part.device][start:end]
            part.use(found if part.tensor is None else found.reshape(part.tensor.shape))


class _Part(NamedTuple):
    """What one call of `put` or `put_all` brings."""

    device: torch.device
    numbers: int
    use: Use
    tensor: torch.Tensor | None = None
    scalars: list[torch.Tensor] | None = None


def _bring(device: torch.device, parts: list[_Part]) -> Floats:
    """The numbers of one device: first all single ones, then all tensors."""
    here = [part for part in parts if part.device == device]
    scalars = [one for part in here for one in part.scalars or ()]
    flat = [part.tensor.reshape(-1) for part in here if part.tensor is not None]
    whole = torch.cat([torch.stack(scalars), *flat] if scalars else flat)
    if whole.is_floating_point() and whole.dtype not in WIDE:
        whole = whole.float()  # NumPy has not all kinds of half precision
    return whole.cpu().numpy()


def sample(tensor: torch.Tensor, most: int) -> torch.Tensor:
    """Some entries of a tensor as a flat view, always the same ones: the whole of a small tensor.

    The step between entries shares no factor with any axis, so that every row and column is visited.
    """
    flat = tensor.detach().reshape(-1)
    if flat.numel() <= most:
        return flat
    step = -(-flat.numel() // most)
    while any(math.gcd(step, int(extent)) > 1 for extent in tensor.shape if extent > 1):
        step += 1
    return flat[::step]


def evenly(tensor: torch.Tensor, samples: int, numbers: int) -> torch.Tensor:
    """Some samples of a batch, so many and with so many numbers at most; all of a small one."""
    if tensor.dim() == 0:
        return tensor
    each = max(tensor.numel() // max(tensor.shape[0], 1), 1)
    wanted = max(min(samples, numbers // each), 1)
    return tensor.detach()[:: max(-(-tensor.shape[0] // wanted), 1)]
