"""Whether a batch's targets have anything to do with its inputs, for two simple readers of both."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from unstuck.sources.torch.scene import NotMeasured, Scene
from unstuck.trace.measure import Values

LEAST: Final = 200
"""Samples from which on a missing signal can be told from one that is hard to see."""
_MOST: Final = 512
_DEALS: Final = 99
_NEIGHBOURS: Final = 5
Matrix = npt.NDArray[np.float64]


def signal(scene: Scene) -> Values:
    """How well neighbours and a linear model tell left-out targets, against targets dealt out at random.

    Both predict a sample's target as weighted sums of the others' targets, S Y, where S depends on the inputs
    alone: dealing the targets out costs one product each. What counts is the cosine of S Y and Y (centred).

    Args:
        scene: its batch; fewer than 200 samples measure nothing, nor do images and sequences: to these
            readers a shifted picture is another one.
    """
    args, named = scene.inputs
    given: Any = args[0] if len(args) == 1 and not named else None
    targets = scene.targets
    if not isinstance(given, torch.Tensor) or not isinstance(targets, torch.Tensor):
        return {}
    if not given.is_floating_point() or given.dim() != 2 or not 1 <= targets.dim() <= 2:
        return {}
    count = min(len(given), _MOST)
    if len(given) != len(targets) or count < LEAST:
        return {}
    inputs = given[:count].detach().reshape(count, -1).double().cpu().numpy()
    wanted = _numbers(targets[:count].detach())
    if not (np.isfinite(inputs).all() and np.isfinite(wanted).all()):
        raise NotMeasured("the batch holds NaN or infinity")
    readers, rng = _readers(inputs), np.random.default_rng(0)
    own = _agreement(readers, wanted)
    dealt = np.array([_agreement(readers, wanted[rng.permutation(count)]) for _ in range(_DEALS)])
    mean, spread = dealt.mean(axis=0), np.maximum(dealt.std(axis=0), 1e-12)
    best = ((own - mean) / spread).max()
    as_good = int((((dealt - mean) / spread).max(axis=1) >= best).sum())
    return {
        "probe.signal": float((own - mean).max()),
        "probe.signal_p": (1 + as_good) / (1 + _DEALS),
        "probe.signal_samples": float(count),
    }


def _numbers(targets: torch.Tensor) -> Matrix:
    """Targets as centred columns, a column for each class."""
    if targets.is_floating_point():
        columns = targets.reshape(len(targets), -1).double().cpu().numpy()
    else:
        flat = targets.reshape(len(targets), -1).cpu().numpy()
        columns = (flat[:, :1] == np.unique(flat[:, 0])).astype(np.float64)
    columns = columns - columns.mean(axis=0)
    if not np.abs(columns).max() > 0:
        raise NotMeasured("all targets are the same")
    return columns


def _readers(inputs: Matrix) -> list[Matrix]:
    """For each reader the weights of the samples' targets in its prediction for each, its own left out."""
    spread = inputs.std(axis=0)
    features = (inputs - inputs.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if not features.size:
        raise NotMeasured("all inputs are the same")
    count = len(features)
    near = features @ features.T / features.shape[1]
    hat = near @ np.linalg.inv(near + np.trace(near) / count * np.eye(count))
    own = np.diag(hat).copy()
    linear = (hat - np.diag(own)) / (1 - own)[:, None]
    apart = np.diag(near)[:, None] + np.diag(near)[None] - 2 * near
    np.fill_diagonal(apart, math.inf)
    neighbours = np.zeros((count, count))
    nearest = np.argpartition(apart, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
    np.put_along_axis(neighbours, nearest, 1 / _NEIGHBOURS, axis=1)
    return [linear, neighbours]


def _agreement(readers: list[Matrix], wanted: Matrix) -> Matrix:
    """Cosine between each reader's predictions and the targets."""
    told = [reader @ wanted for reader in readers]
    length = float(np.linalg.norm(wanted))
    return np.array(
        [float((one * wanted).sum()) / (float(np.linalg.norm(one)) * length or 1.0) for one in told]
    )
