"""Dropout: each number is left out with some probability while the network is trained."""

import math
from dataclasses import dataclass
from typing import ClassVar

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places
from unstuck.nn.program import Buffer, Shape, Writer


@dataclass(frozen=True)
class Dropout(Layer):
    """y = x / (1 - p) for numbers that are kept, 0 with probability p. Any shape.

    In training (`fit`, `loss_and_grads`) each number of each sample is drawn anew at each step, by the
    training's seed: the same bits in any order of the samples, beside any other networks, on any number of
    threads. In use (`forward`) everything passes as it is.

    Args:
        p: the probability of leaving a number out; 1 leaves out all.

    Raises:
        UnstuckError: p is not from 0 to 1.

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Dropout(0.5)).init(0)
        >>> net.forward([[1.0, 2.0]]).tolist()
        [[1.0, 2.0]]

    References:
        Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014), "Dropout: a simple way to prevent
        neural networks from overfitting", JMLR 15.
    """

    reads_output: ClassVar[bool] = False

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= real("Dropout: p", self.p) <= 1:
            msg = f"Dropout: p must be from 0 to 1, found {self.p!r}"
            raise UnstuckError(msg)

    @property
    def overwrites(self) -> bool:
        return True

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        del places
        mask = self._mask(writer, y)
        kept = 1 / (1 - self.p) if self.p < 1 else 0.0
        blocks = _blocks(y)
        writer.row(codes.DROP, mask.offset, blocks, writer.masks, constants=(float(self.p), kept))
        writer.masks += 1
        writer.elementwise_back(codes.PRODUCT, mask, x, y)

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del places, x
        if dx is not None:
            writer.elementwise_back(codes.PRODUCT, self._mask(writer, y), dy.view, dx.view)

    def _mask(self, writer: Writer, y: Buffer) -> Buffer:
        room = writer.keep(y, (4 * _blocks(y),))
        area = y.lines * y.positions
        step = writer.lanes
        return Buffer(room.offset, *y.lengths, (area * step, y.positions * step, step))


def _blocks(y: Buffer) -> int:
    """Blocks of four random words for all units of a sample."""
    return -(-math.prod(y.lengths) // 4)
