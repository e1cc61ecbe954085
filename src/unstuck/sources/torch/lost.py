"""When a loss is no number for the first time: were the data, before the network did anything with them?"""

from typing import Any, Final, Literal

import torch

from unstuck.sources.torch.ops import saved

GIVEN: Final = ("mat1", "input", "self")
"""Names under which PyTorch's operations keep what they read."""
MOST: Final = 2000
"""Operations that are looked at."""


def lost(root: Any) -> Literal["", "inputs", "targets"]:
    """Which data of a loss hold NaN or infinity; '' for none that an operation of its graph kept.

    Data are what has no graph of its own.

    Args:
        root: the loss's operation.

    Example:
        >>> x = torch.tensor([[1.0, float("nan")]])
        >>> loss = torch.nn.functional.linear(x, torch.ones(1, 2, requires_grad=True)).mean()
        >>> lost(loss.grad_fn), lost(loss.detach().requires_grad_().exp().grad_fn)
        ('inputs', '')
    """
    waiting, seen = [root], {root}
    while waiting:
        fn = waiting.pop()
        if _bad(saved(fn, "target")):
            return "targets"
        if any(_bad(saved(fn, name)) for name in GIVEN):
            return "inputs"
        for child, _ in fn.next_functions:
            if child is not None and child not in seen and len(seen) < MOST:
                seen.add(child)
                waiting.append(child)
    return ""


def _bad(kept: Any) -> bool:
    if not isinstance(kept, torch.Tensor) or not kept.is_floating_point():
        return False
    return kept.grad_fn is None and not kept.requires_grad and not bool(torch.isfinite(kept).all())
