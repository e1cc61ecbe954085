"""Where batch, channels, height and width stand in an array."""

from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.tree import Array

_LETTERS = "NCHW"


@dataclass(frozen=True)
class Layout:
    """An order of axes, such as NCHW, NHWC, CHW or HW; what is missing has size 1."""

    letters: str

    def inward(self, array: Array) -> Array:
        """As (N, C, H, W)."""
        present = [self.letters.index(letter) for letter in _LETTERS if letter in self.letters]
        moved = array.transpose(present)
        sizes = iter(moved.shape)
        return moved.reshape([next(sizes) if letter in self.letters else 1 for letter in _LETTERS])

    def outward(self, array: Array) -> Array:
        """From (N, C, H, W) back; axes that are missing here must have size 1."""
        present = [letter for letter in _LETTERS if letter in self.letters]
        sizes = [size for size, letter in zip(array.shape, _LETTERS, strict=True) if letter in present]
        moved = array.reshape(sizes)
        return moved.transpose(np.array([present.index(letter) for letter in self.letters], dtype=int))


def layouts(ndim: int) -> tuple[Layout, ...]:
    """The usual orders for an array of so many axes."""
    usual = {4: ("NCHW", "NHWC"), 3: ("CHW", "NHW", "HWC", "NCW", "NWC"), 2: ("HW", "NW", "CW"), 1: ("W",)}
    return tuple(Layout(letters) for letters in usual.get(ndim, ()))
