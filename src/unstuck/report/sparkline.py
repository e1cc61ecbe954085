"""A curve in one line of text."""

import math

import numpy as np
from numpy.typing import NDArray

from unstuck.trace.recording import Series

BARS = "▁▂▃▄▅▆▇█"
BROKEN = "×"
"""Stands where a value is not finite."""


def resample(curve: Series, points: int) -> NDArray[np.float64]:
    """The curve at evenly spaced steps: each the last value measured until then.

    Args:
        curve: of at least one value.
        points: how many, at least 2.

    Returns:
        (points,) values; not finite where the curve is not.

    Example:
        >>> resample(Series(np.array([0, 1, 9]), np.array([4.0, 2.0, 1.0])), 4).tolist()
        [4.0, 2.0, 2.0, 1.0]
    """
    at = np.linspace(curve.steps[0], curve.steps[-1], points)
    return curve.values[np.searchsorted(curve.steps, at, side="right") - 1]


def sparkline(curve: Series, width: int = 24) -> str:
    """The curve as a row of bars, from 0 (lowest bar) to its largest value (highest).

    Args:
        curve: steps, rising, and values.
        width: number of bars.

    Returns:
        `width` characters; none for an empty curve.

    Example:
        >>> sparkline(Series(np.array([0, 1, 2]), np.array([8.0, 4.0, np.nan])), 3)
        '█▅×'
    """
    if not curve.values.size:
        return ""
    values = resample(curve, width)
    finite = values[np.isfinite(values)]
    top, bottom = max(finite.max(initial=0.0), 0.0), min(finite.min(initial=0.0), 0.0)
    return "".join(_bar(value, bottom, top) for value in values.tolist())


def _bar(value: float, bottom: float, top: float) -> str:
    if not math.isfinite(value):
        return BROKEN
    if top <= bottom:
        return BARS[0]
    place = (value - bottom) / (top - bottom)
    return BARS[min(int(place * len(BARS) + 1e-9), len(BARS) - 1)]
