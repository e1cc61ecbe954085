"""Many tensors at once: their norms, copies and differences in one call each, of whatever kind they are."""

from collections.abc import Sequence
from typing import Any

import torch

from unstuck.sources.torch.params import Held, local
from unstuck.sources.torch.stats import WIDE

PLAIN = (torch.Tensor, torch.nn.Parameter)
"""Kinds of tensors that hold their numbers themselves."""


def weights_of(held: Sequence[Held]) -> list[torch.Tensor]:
    """Their numbers, as real tensors on this machine."""
    tensors = [one.tensor for one in held]
    if plain(tensors):
        return [tensor.detach() for tensor in tensors]
    return [real(local(tensor)) for tensor in tensors]


def gradients_of(held: Sequence[Held]) -> list[torch.Tensor]:
    """The gradients that are there, as dense real tensors on this machine."""
    grads = [grad for one in held if (grad := one.tensor.grad) is not None]
    if plain(grads):
        return [grad.detach() for grad in grads] if any(grad.requires_grad for grad in grads) else grads
    return [real(dense(grad)) for grad in grads]


def plain(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all can be used as they are: real numbers of single or double precision, all of them here."""
    kinds = {(type(one), one.dtype, one.layout) for one in tensors}
    return all(kind in PLAIN and dtype in WIDE and layout is torch.strided for kind, dtype, layout in kinds)


def real(tensor: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def dense(grad: torch.Tensor | None) -> Any:
    """The entries that a sparse gradient has; a dense one as it is."""
    if grad is not None and grad.is_sparse:
        return grad.detach().coalesce().values()
    return None if grad is None else local(grad)


def single(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision as single."""
    return tensor if tensor.dtype in WIDE else tensor.float()


def norms_of(tensors: Sequence[torch.Tensor], order: float = 2) -> list[torch.Tensor]:
    """Norms of all tensors in one call; those of half precision are summed in single."""
    together: Any = vars(torch)["_foreach_norm"]  # PyTorch's own optimisers use it; it has no public name
    narrow = any(tensor.dtype not in WIDE for tensor in tensors)
    return list(together([single(tensor) for tensor in tensors] if narrow else tensors, order))


def subtract(tensors: list[torch.Tensor], others: list[torch.Tensor]) -> None:
    """In place, all in one call."""
    together: Any = vars(torch)["_foreach_sub_"]
    together(tensors, others)


def copy_into(tensors: list[torch.Tensor], others: Sequence[torch.Tensor]) -> None:
    """Into the first ones, all in one call."""
    together: Any = vars(torch)["_foreach_copy_"]
    together(tensors, others)


def count_zeros(flat: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
    """How many entries of each part are exactly 0: the sum of flags, for all parts in one call."""
    return norms_of((flat == 0).to(flat.dtype).split(sizes), 1)
