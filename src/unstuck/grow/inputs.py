"""The form of the samples: features or images, size and range, fixed by the first ones that are seen."""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import DataError, ShapeError
from unstuck.nn.program import Shape

RANGES = (16.0, 255.0, 65535.0)
"""Largest values of images that are stored as whole numbers; they are brought to 0..1."""
ALREADY = 2.0
"""Images up to here are taken as they are."""
FARTHER = 10.0
"""Later images may not reach so many times as far as the first ones did, where those were not divided."""
LEAST, COLOURS = 5, (3, 4)
"""Images of so many rows and columns, or more, whose last axis is so short, have their channels last."""


class Form(msgspec.Struct, frozen=True):
    """What a sample looks like."""

    axes: tuple[int, ...]
    """Shape of one sample as the user gives it."""
    scale: float
    """What samples are divided by."""
    reach: float = 0.0
    """Largest absolute value of the first samples; 0 where it is not known."""

    @property
    def shape(self) -> Shape:
        """Shape of one sample as the network sees it: (features,) or (channels, height, width)."""
        return (1, *self.axes) if len(self.axes) == 2 else self.axes

    @property
    def features(self) -> int:
        """Numbers in a sample."""
        return int(np.prod(self.axes))

    @classmethod
    def of(cls, x: NDArray[Any]) -> "Form":
        """The form of the first samples.

        Images of bytes are divided by 255. Other images whose largest value is above 2, and none negative,
        by the first of 16, 255 and 65535 that holds it. Features are taken as they are, bytes divided by 255.

        Raises:
            ShapeError: samples of another number of axes, or images with their channels last.
        """
        if x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
            raise ShapeError(
                f"X: found shape {x.shape}, expected (N, features), (N, height, width) or "
                "(N, channels, height, width)"
            )
        if x.ndim == 4 and x.shape[3] in COLOURS and min(x.shape[1:3]) >= LEAST:
            raise ShapeError(
                f"X: found images of shape {x.shape[1:]}, expected (channels, height, width); "
                "if the channels are last, give X.transpose(0, 3, 1, 2)"
            )
        scale = 1.0
        if x.dtype == np.uint8:
            scale = 255.0
        elif x.ndim > 2 and x.size and x.min() >= 0 and x.max() > ALREADY:
            scale = next((full for full in RANGES if x.max() <= full), 1.0)
        return cls(x.shape[1:], scale, float(np.abs(x).max()) if x.size else 0.0)

    def prepare(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Samples as the network reads them, (N, *shape) float32.

        Raises:
            ShapeError: samples of another shape than the first.
            DataError: images in another range: 0..255 where the first ones were 0..1, or the reverse, or
                below 0 where the first ones were whole numbers above it.
        """
        if x.shape[1:] != self.axes:
            raise ShapeError(
                f"X: found samples of shape {x.shape[1:]}, expected {self.axes} as those that came first"
            )
        self._check_range(x)
        with np.errstate(over="ignore"):
            scaled = np.asarray(x, dtype=np.float32)
            if self.scale != 1:
                scaled = scaled / np.float32(self.scale)
        if not np.isfinite(scaled).all():
            raise DataError("X: found numbers that are too large for float32")
        return scaled.reshape(len(x), *self.shape)

    def _check_range(self, x: NDArray[Any]) -> None:
        if not x.size or len(self.axes) < 2:
            return
        top, bottom = float(x.max()), float(x.min())
        if self.scale > 1 and bottom < 0:
            raise DataError(
                f"X: found values down to {bottom:g}, expected 0 to {self.scale:g} as the first images had"
            )
        if self.scale > 1 and top > self.scale:
            raise DataError(
                f"X: found values up to {top:g}, expected at most {self.scale:g} as the first images had"
            )
        if self.scale > 1 and x.dtype.kind == "f" and 0 < top <= 1 and (x % 1 != 0).any():
            raise DataError(
                f"X: found fractions up to {top:g}, expected whole numbers up to {self.scale:g} "
                "as the first images had"
            )
        if self.scale == 1 and x.dtype == np.uint8 and top > ALREADY:
            raise DataError(f"X: found bytes up to {top:g}, expected values in the range of the first images")
        if self.scale == 1 and self.reach and max(top, -bottom) > FARTHER * max(self.reach, 1):
            raise DataError(
                f"X: found values up to {max(top, -bottom):g}, expected the range of the first images, "
                f"up to {self.reach:g}"
            )
