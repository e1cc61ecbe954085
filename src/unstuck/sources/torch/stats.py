"""Statistics as tensors where they are, and one transfer that brings all of a step over together."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.floating[Any]]
Use = Callable[[Floats], None]


class Gather:
    """Numbers of one step on their way to the processor.

    Example:
        >>> seen = []
        >>> gather = Gather()
        >>> gather.put(torch.tensor([1.0, 2.0]), lambda numbers: seen.extend(numbers.tolist()))
        >>> gather.deliver()
        >>> seen
        [1.0, 2.0]
    """

    def __init__(self) -> None:
        """Nothing to bring yet."""
        self._parts: dict[torch.device, list[tuple[torch.Tensor, tuple[int, ...], Use]]] = {}

    def put(self, tensor: torch.Tensor, use: Use) -> None:
        """Bring a real tensor; `use` gets it as an array of its shape, in the order of the calls."""
        self._parts.setdefault(tensor.device, []).append((tensor.reshape(-1), tuple(tensor.shape), use))

    def put_all(self, scalars: list[torch.Tensor], use: Use) -> None:
        """Bring many single numbers as one array; those on several devices one by one."""
        if not scalars:
            return
        if len({one.device for one in scalars}) == 1:
            self.put(torch.stack([one.float() if one.is_floating_point() else one for one in scalars]), use)
            return
        found = np.zeros(len(scalars))
        for i, one in enumerate(scalars):
            self.put(one, lambda number, i=i: found.__setitem__(i, float(number)))
        self.put(torch.zeros(0, device=scalars[-1].device), lambda _: use(found))

    def deliver(self) -> None:
        """Transfer all at once (once for each device), and hand everything out."""
        parts, self._parts = self._parts, {}
        for group in parts.values():
            whole: Floats = torch.cat([part for part, _, _ in group]).cpu().numpy()
            start = 0
            for part, shape, use in group:
                end = start + part.shape[0]
                use(whole[start:end].reshape(shape))
                start = end


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
