"""Whether a program threw away what was learned: the weights it ends with are those of the start."""

from typing import Final

import numpy as np

from unstuck.diagnose import reach
from unstuck.trace.recording import Recording

_SAME: Final = 1e-6
"""Distance from the start / the largest before, which rounding explains (a copy is exact)."""


def put_back(trace: Recording) -> bool:
    """Every layer that was trained moved, and stands where it began after the last step.

    Args:
        trace: what was measured.
    """
    ways = [trace.series("drift_norm", node.name).values for node in reach.trained(trace)]
    moved = [way for way in ways if way.size >= 2 and np.isfinite(way).all() and way.any()]
    return bool(moved) and all(way[-1] <= _SAME * way.max() for way in moved)
