"""Softmax: numbers that are positive and sum to one; LogSoftmax: their logarithms."""

from dataclasses import dataclass
from typing import ClassVar

from unstuck.errors import UnstuckError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places
from unstuck.nn.program import Buffer, Shape, Writer


@dataclass(frozen=True)
class _Softmax(Layer):
    kind: ClassVar[int]
    dim: int = 1

    def __post_init__(self) -> None:
        if self.dim != 1:
            msg = f"{self.type}: dim must be 1 (features or channels), found {self.dim!r}"
            raise UnstuckError(msg)

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        del places
        writer.row(
            codes.SOFTMAX, x.offset, y.offset, 0, 0, *x.lengths, *x.strides, *y.strides, *[0] * 6, self.kind
        )

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del places, x
        if dx is not None:
            offsets = (0, y.offset, dy.view.offset, dx.view.offset)
            strides = (*dx.view.strides, *y.strides, *dy.view.strides, *dx.view.strides)
            writer.row(codes.SOFTMAX_BACK, *offsets, *y.lengths, *strides, self.kind)


@dataclass(frozen=True)
class Softmax(_Softmax):
    """y_i = e^x_i / sum_j e^x_j over axis 1: features, or the channels of an image at each position.

    Args:
        dim: the axis; 1 is the only one supported.

    Raises:
        UnstuckError: another axis.
    """

    kind: ClassVar[int] = codes.PLAIN


@dataclass(frozen=True)
class LogSoftmax(_Softmax):
    """y_i = x_i - log sum_j e^x_j over axis 1: the logarithm of `Softmax`, exact where that is nearly 0.

    Args:
        dim: the axis; 1 is the only one supported.

    Raises:
        UnstuckError: another axis.
    """

    kind: ClassVar[int] = codes.LOGARITHM
