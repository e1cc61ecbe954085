"""Samples of the measured batches with their targets: do the targets have anything to do with the inputs?"""

from typing import Any, Final

import numpy as np
import torch

from unstuck.sources.torch.scene import NotMeasured, Scene
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.trace.measure import Values
from unstuck.trace.signal import MOST, NUMBERS, signal

_ROWS: Final = 64
"""Samples of one batch, at most."""


class Pairs:
    """Keeps some samples of each measured batch, with their targets."""

    def __init__(self) -> None:
        """None yet."""
        self._inputs: list[Floats] = []
        self._targets: list[Floats] = []
        self._kind: tuple[bool, bool, int, int] | None = None
        """Whether inputs and targets are real numbers, and how many of each a sample has."""
        self._count = 0

    def look(self, gather: Gather, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Keep some of this batch.

        Args:
            gather: brings them over.
            inputs: (N, ...), all that the model is given.
            targets: (N, ...), what the loss compares with.
        """
        if self._count >= 2 * MOST or not _alike(inputs, targets):
            return
        every = -(-inputs.shape[0] // _ROWS)
        given, wanted = _thin(inputs[::every]), _thin(targets[::every])
        kind = given.is_floating_point(), wanted.is_floating_point(), given.shape[1], wanted.shape[1]
        if self._kind not in {None, kind}:
            return  # another kind of batch, or texts of another length
        self._kind = kind
        self._count += len(given)
        # copies: a view would keep all that came over with it
        gather.put(given, lambda x: self._inputs.append(np.array(x)))
        gather.put(wanted, lambda x: self._targets.append(np.array(x)))

    def measure(self) -> Values:
        """What neighbours and a linear model make of them; nothing where too few were seen."""
        if self._kind is None or not self._inputs:
            return {}
        given, wanted = np.concatenate(self._inputs), np.concatenate(self._targets)
        real, numbers = self._kind[:2]
        found = signal(
            given if real else np.rint(given).astype(np.int64),
            wanted if numbers else np.rint(wanted).astype(np.int64),
        )
        return {f"data.{name}": value for name, value in found.items()}


def _alike(inputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether both have a row for each sample, of numbers that can be read."""
    return (
        inputs.dim() > 1
        and targets.dim() > 0
        and inputs.shape[0] == targets.shape[0]
        and inputs.numel() > 0
        and targets.numel() > 0
        and not inputs.is_complex()
        and not targets.is_complex()
    )


def _thin(rows: torch.Tensor) -> torch.Tensor:
    """Rows of so many numbers at most, always the same ones."""
    flat = rows.detach().reshape(len(rows), -1)
    return flat[:, :: -(-flat.shape[1] // NUMBERS)].clone()


def probe(scene: Scene) -> Values:
    """The same of one batch that is at hand, of real numbers, a row each: images and sequences are left out.

    Args:
        scene: its batch; fewer than 200 samples measure nothing.
    """
    args, named = scene.inputs
    given: Any = args[0] if len(args) == 1 and not named else None
    targets = scene.targets
    if not isinstance(given, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return {}
    if not given.is_floating_point() or given.dim() != 2 or not 1 <= targets.dim() <= 2:
        return {}
    if len(given) != len(targets):
        return {}
    rows, wanted = given.detach().cpu(), targets.detach().cpu()
    if not (bool(rows.isfinite().all()) and bool(wanted.isfinite().all())):
        raise NotMeasured("the batch holds NaN or infinity")
    if bool((wanted == wanted[:1]).all()):
        raise NotMeasured("all targets are the same")
    if bool((rows == rows[:1]).all()):
        raise NotMeasured("all inputs are the same")
    found = signal(rows.double().numpy(), (wanted.double() if wanted.is_floating_point() else wanted).numpy())
    return {f"probe.{name}": value for name, value in found.items()}
