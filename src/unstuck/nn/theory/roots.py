"""Roots of a function of one number, by halving."""

from collections.abc import Callable


def bisect(f: Callable[[float], float], low: float, high: float) -> float:
    """Where f changes its sign between two places, to the last digit.

    Example:
        >>> round(bisect(lambda x: x * x - 2, 0.0, 2.0), 12)
        1.414213562373
    """
    sign = f(low)
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        value = f(middle)
        if value == 0:
            return middle
        if (value > 0) == (sign > 0):
            low = middle
        else:
            high = middle
    return (low + high) / 2
