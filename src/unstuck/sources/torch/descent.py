"""The constant answer with the smallest loss (or the largest), found by the signs of its slopes alone."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from unstuck.sources.torch.replay import filled, play
from unstuck.sources.torch.tape import Answer, Noted

GROWS, SHRINKS = 1.3, 0.5
"""How the step of each number changes where its slope keeps or turns its sign (Riedmiller & Braun, 1993)."""
FAR, LEAPS = 8, 2.0
"""After so many steps the same way the goal is far (targets in other units): steps double from then on."""
ROUNDING = 1e-6
"""Sum of the samples' slopes / sum of their sizes that rounding explains."""


def descend(
    calls: Sequence[Noted],
    answers: Sequence[Answer],
    loss: torch.Tensor,
    start: dict[tuple[Any, ...], torch.Tensor],
    sizes: dict[tuple[Any, ...], torch.Tensor],
    steps: int,
    *,
    up: bool = False,
) -> tuple[dict[tuple[Any, ...], torch.Tensor], torch.Tensor]:
    """Rprop on the constants; all numbers stay on the device.

    Args:
        calls: that make the loss.
        answers: in whose places the constants stand.
        loss: the number.
        start: by key of the answers, where to begin.
        sizes: how large the answers are: the first step is a tenth of it.
        steps: so many.
        up: whether to search the largest loss instead.

    Returns:
        The best constants, and the loss in each step.

    References:
        Riedmiller & Braun (1993), "A direct adaptive method for faster backpropagation learning: the RPROP
        algorithm", IEEE International Conference on Neural Networks. It needs the slopes' signs only, so
        neither the size of a loss nor its corners matter.
    """
    keys = list(start)
    now = [start[key].clone() for key in keys]
    best, lowest = [one.clone() for one in now], torch.full((), math.inf, device=loss.device)
    pace = [torch.ones_like(one) * sizes[key] * 0.1 for key, one in zip(keys, now, strict=True)]
    signs = [torch.zeros_like(one) for one in now]
    ahead = [torch.zeros_like(one) for one in now]
    losses: list[torch.Tensor] = []
    for _ in range(steps):
        with torch.enable_grad():
            given = filled(answers, dict(zip(keys, now, strict=True)))
            free = [given[id(one.tensor)].requires_grad_() for one in answers]
            try:
                number = play(calls, given, loss).reshape(())
            except (ValueError, RuntimeError, AssertionError):
                # answers that the loss refuses (a variance below 0): back to the best, with smaller steps
                if not losses:
                    raise
                now = [one.clone() for one in best]
                pace = [one * SHRINKS**2 for one in pace]
                continue
            number = -number if up else number
            if not number.requires_grad:
                losses.append(number.detach().float())
                break
            slopes = _slopes(answers, torch.autograd.grad(number, free, allow_unused=True), now, keys)
        value = number.detach().float()
        losses.append(value)
        with torch.no_grad():
            better = value < lowest
            lowest = torch.where(better, value, lowest)
            best = [torch.where(better, a, b) for a, b in zip(now, best, strict=True)]
            for i, sign in enumerate(slopes):
                turned = sign * signs[i]
                ahead[i] = torch.where(turned > 0, ahead[i] + 1, torch.zeros_like(ahead[i]))
                grown = torch.where(ahead[i] > FAR, LEAPS, GROWS)
                pace[i] = pace[i] * torch.where(
                    turned > 0, grown, torch.where(turned < 0, SHRINKS, torch.ones_like(turned))
                )
                now[i] = now[i] - sign * pace[i]
                signs[i] = torch.where(turned < 0, torch.zeros_like(sign), sign)
    return dict(zip(keys, best, strict=True)), torch.stack(losses)


def _slopes(
    answers: Sequence[Answer],
    found: Sequence[Any],
    now: Sequence[torch.Tensor],
    keys: Sequence[tuple[Any, ...]],
) -> list[torch.Tensor]:
    """Signs of each constant's slopes; 0 where those of the samples cancel up to rounding."""
    total = [torch.zeros_like(one) for one in now]
    sizes = [torch.zeros_like(one) for one in now]
    for answer, slope in zip(answers, found, strict=True):
        if slope is None:
            continue
        at, known = keys.index(answer.key), torch.nan_to_num(slope)
        total[at] += known.sum_to_size(total[at].shape)
        sizes[at] += known.abs().sum_to_size(total[at].shape)
    return [
        torch.where(one.abs() > ROUNDING * size, one.sign(), torch.zeros_like(one))
        for one, size in zip(total, sizes, strict=True)
    ]
