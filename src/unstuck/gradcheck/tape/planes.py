"""Convolution of planes as SciPy does it (`convolve2d`, `correlate2d`), in steps that are written down."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from unstuck.gradcheck.tape.record import CONVOLVED
from unstuck.gradcheck.tape.traced import Traced

_VALID, _SAME, _FULL = 0, 1, 2
"""How SciPy's own function is told how much of the result is wanted."""


@contextmanager
def followed() -> Generator[None]:
    """While this lasts, SciPy's convolutions of planes are followed, under whatever name they are called."""
    inner = sys.modules.get("scipy.signal._sigtools")
    plainly = getattr(inner, "_convolve2d", None)
    if plainly is None:
        yield
        return
    setattr(inner, "_convolve2d", _either(plainly))  # noqa: B010  (it is private to SciPy)
    try:
        yield
    finally:
        setattr(inner, "_convolve2d", plainly)  # noqa: B010


def _either(plainly: Callable[..., Any]) -> Callable[..., Any]:
    def made(a: Any, v: Any, turned: int, mode: int, boundary: int, fill: Any) -> Any:
        if not isinstance(a, Traced) and not isinstance(v, Traced):
            return plainly(a, v, turned, mode, boundary, fill)
        if boundary != 0 or fill != 0:
            raise NotImplementedError
        return convolved(a, v, mode, turned=bool(turned))

    return made


def convolved(a: Any, v: Any, mode: int, *, turned: bool) -> Any:
    """One product and sum for each place, as it is defined.

    Args:
        a: (H, W).
        v: (h, w), the kernel.
        mode: 0 valid, 1 same, 2 full.
        turned: whether the kernel is turned by half a turn (a convolution), or not (a correlation).
    """
    sizes = np.shape(v)
    around = [_around(size, mode, turned=turned) for size in sizes]
    wide = a if mode == _VALID else np.pad(a, around)
    windows = np.lib.stride_tricks.sliding_window_view(wide, sizes)
    kernel = v[::-1, ::-1] if turned else v
    return labelled(a, v, lambda: np.matmul(windows.reshape(*windows.shape[:2], -1), kernel.reshape(-1)))


def labelled(a: Any, v: Any, make: Callable[[], Any]) -> Any:
    """What a step makes, which is told to be a convolution of these."""
    tape = getattr(a, "tape", None) or getattr(v, "tape", None)
    if tape is None:
        return make()
    tape.label = CONVOLVED
    made = make()
    tape.label = ""
    return made


def _around(size: int, mode: int, *, turned: bool) -> tuple[int, int]:
    """Zeros before and behind."""
    if mode == _FULL:
        return size - 1, size - 1
    before = (size - 1) // 2 if mode == _SAME else 0
    after = size - 1 - before if mode == _SAME else 0
    return (after, before) if turned else (before, after)
