"""Gradients as they arrive: hooks on parameters that put down which one it was, and nothing else."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

MOST = 1 << 16
"""So many arrivals are kept at most: a forked process that trains inherits the hooks, and clears nothing."""


class Arrivals:
    """The parameters whose gradients were accumulated in this step, in their order.

    The hook is a list's own `append`: it runs once for each parameter, in whatever thread PyTorch runs the
    backward pass, and costs next to nothing there.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> arrivals = Arrivals()
        >>> arrivals.attach([weight])
        >>> (weight * 2).sum().backward()
        >>> arrivals.ids() == [id(weight)]
        True
    """

    def __init__(self) -> None:
        """No hook yet."""
        self._seen: deque[torch.Tensor] = deque(maxlen=MOST)
        self._handles: list[Any] = []

    def __len__(self) -> int:
        """How many there were."""
        return len(self._seen)

    def attach(self, tensors: Iterable[torch.Tensor]) -> None:
        """Hook those that get a gradient; those that are hooked stay so."""
        if not self._handles:
            self._handles = [
                one.register_post_accumulate_grad_hook(self._seen.append)
                for one in tensors
                if one.requires_grad and one.is_leaf
            ]

    def detach(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seen.clear()

    def ids(self, since: int = 0) -> list[int]:
        """Ids of the parameters, from a place on."""
        return [id(one) for one in self._seen][since:]

    def forget(self, since: int = 0) -> None:
        """Let go of those from a place on."""
        while len(self._seen) > since:
            self._seen.pop()
