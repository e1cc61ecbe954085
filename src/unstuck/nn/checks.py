"""Checks of what callers pass: whole numbers, real numbers, arrays. Errors name what was found."""

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import DataError, UnstuckError


def whole(what: str, value: object, least: int) -> int:
    """A whole number (Python's or NumPy's) of at least `least`.

    Raises:
        UnstuckError: it is something else.
    """
    try:
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)  # pyright: ignore[reportArgumentType]  that is what is tested
    except TypeError:
        number = None
    if number is None or number < least:
        msg = f"{what} must be a whole number of at least {least}, found {value!r}"
        raise UnstuckError(msg)
    return number


def real(what: str, value: object) -> float:
    """A finite number.

    Raises:
        UnstuckError: it is something else.
    """
    known = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not known or not math.isfinite(value):  # pyright: ignore[reportArgumentType]  it is a number here
        msg = f"{what} must be a finite number, found {value!r}"
        raise UnstuckError(msg)
    return float(value)  # pyright: ignore[reportArgumentType]  it is a number here


def numbers(what: str, value: Any) -> NDArray[np.generic]:
    """An array of real numbers (or truth values).

    Raises:
        DataError: ragged lists, text, complex numbers or objects.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        msg = f"{what} must form a regular array; their parts have different lengths"
        raise DataError(msg) from None
    if array.dtype.kind not in "fiub":
        msg = f"{what} must be real numbers, found an array of {array.dtype}"
        raise DataError(msg)
    return array


def cast(array: NDArray[np.generic], dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """The array in another number type; what does not fit becomes infinite, without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(array, dtype=dtype)
