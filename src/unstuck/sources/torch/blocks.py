"""What single numbers of an output tell: ranks, cosines and distinct units of a small block."""

import numpy as np
import numpy.typing as npt

from unstuck.sources.torch.stats import Floats
from unstuck.trace import measure
from unstuck.trace.measure import Values


def block_stats(block: Floats) -> Values:
    """What needs single numbers: the same quantities as `measure.output_stats`, for a small block.

    Units with a cosine above 1 - 1e-6 count as one, and so do all constant ones.
    """
    x = block.astype(np.float64)
    undefined: Values = {"input_cosine": None, "effective_rank": None, "distinct_outputs": None}
    if not np.isfinite(x).all():
        return undefined
    samples = x.reshape(len(x), -1)
    rows = x.transpose(0, 2, 1).reshape(-1, x.shape[1])
    scaled = rows / (np.abs(rows).max() or 1.0)
    moved = scaled - scaled[0]
    centred = moved - moved.mean(axis=0)
    lengths = np.sqrt(np.einsum("ij,ij->j", centred, centred))
    sizes = np.sqrt(np.einsum("ij,ij->j", scaled, scaled))
    varies = lengths > measure.SAME * sizes
    directions = centred[:, varies] / lengths[varies]
    values: Values = {
        "input_cosine": _cosine(samples),
        "effective_rank": measure.effective_rank(rows),
        "distinct_outputs": None,
    }
    if len(rows) > 1:
        same = np.triu(directions.T @ directions >= 1 - measure.SAME, 1)
        repeats = _repeats(same) if same.any() else 0
        values["distinct_outputs"] = float(same.shape[0] - repeats + (not varies.all()))
    return values


def _repeats(same: npt.NDArray[np.bool_]) -> int:
    """Units that equal an earlier one that itself equals none before it; `same` is upper triangular."""
    first: list[int] = []
    for unit in range(len(same)):
        if not same[first, unit].any():
            first.append(unit)
    return len(same) - len(first)


def _cosine(samples: npt.NDArray[np.float64]) -> float | None:
    """Mean cosine over all pairs of samples that are not zero; None when there is no pair."""
    largest = np.abs(samples).max(axis=1, keepdims=True)
    x = samples[largest[:, 0] > 0] / largest[largest[:, 0] > 0]
    n = len(x)
    if n < 2:
        return None
    total = (x / np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]).sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))
