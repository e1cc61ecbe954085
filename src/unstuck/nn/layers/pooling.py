"""MaxPool2d and AvgPool2d: one number for each window of an image."""

from dataclasses import dataclass
from typing import ClassVar

from unstuck.errors import ShapeError, UnstuckError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places, image, pair
from unstuck.nn.program import Buffer, Shape, Writer


@dataclass(frozen=True)
class _Pool2d(Layer):
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, "stride", self.kernel_size)
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            object.__setattr__(self, name, pair(self.type, name, getattr(self, name), least))
        if any(2 * p > k for p, k in zip(self._window[2], self._window[0], strict=True)):
            msg = (
                f"{self.type}: padding {self.padding} must be at most half of kernel_size {self.kernel_size}"
            )
            raise UnstuckError(msg)

    @property
    def _window(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        name = self.type
        stride = self.kernel_size if self.stride is None else self.stride
        return (
            pair(name, "kernel_size", self.kernel_size, 1),
            pair(name, "stride", stride, 1),
            pair(name, "padding", self.padding, 0),
        )

    def output_shape(self, shape: Shape) -> Shape:
        channels, *extent = image(self.type, shape)
        kernel, stride, padding = self._window
        out = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(extent, padding, kernel, stride, strict=True)]
        if min(out) < 1:
            msg = f"{self.type}: a window of {kernel} does not fit into samples of shape {shape}"
            raise ShapeError(msg)
        return (channels, *out)

    def _geometry(self, kind: int, x: Buffer, y: Buffer) -> tuple[int, ...]:
        kernel, stride, padding = self._window
        return (kind, *y.lengths, *kernel, *stride, *padding, x.lines, x.positions)

    def _forward(self, kind: int, writer: Writer, x: Buffer, y: Buffer) -> None:
        writer.row(codes.POOL, *self._geometry(kind, x, y), x.offset, *x.strides, y.offset, *y.strides)

    def _backward(self, kind: int, writer: Writer, x: Buffer, y: Buffer, dy: Buffer, dx: Gradient) -> None:
        writer.row(
            codes.POOL_BACK,
            *self._geometry(kind, x, y),
            *(x.offset, *x.strides, y.offset, *y.strides),
            *(dy.offset, *dy.strides, dx.view.offset, *dx.view.strides),
            int(x.rectified),
        )


@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """The largest value of each window; ties give the gradient to the first, row by row.

    Args:
        kernel_size: height and width of the window.
        stride: distance between windows; default: kernel_size.
        padding: how far windows hang over the edge (at most half of kernel_size); nothing there ever wins.

    Shapes: input (N, C, H, W), output (N, C, H', W') with H' = (H + 2 padding - kernel_size) // stride + 1.

    Raises:
        UnstuckError: a size is not a whole number in range.
    """

    gates: ClassVar[bool] = True

    @property
    def overwrites(self) -> bool:
        """Windows of 2 x 2 side by side: each value is read when its own gradient is written."""
        return self._kind == codes.QUARTERS

    @property
    def _kind(self) -> int:
        return codes.QUARTERS if self._window == ((2, 2), (2, 2), (0, 0)) else codes.MAXIMUM

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        del places
        self._forward(self._kind, writer, x, y)

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del places
        if dx is not None:
            self._backward(self._kind, writer, x, y, dy.view, dx)


@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """The mean of each window; what lies outside the image counts as 0 (as in PyTorch).

    Args:
        kernel_size: height and width of the window.
        stride: distance between windows; default: kernel_size.
        padding: how far windows hang over the edge (at most half of kernel_size).

    Shapes: input (N, C, H, W), output (N, C, H', W') with H' = (H + 2 padding - kernel_size) // stride + 1.

    Raises:
        UnstuckError: a size is not a whole number in range.
    """

    reads_output: ClassVar[bool] = False

    @property
    def overwrites(self) -> bool:
        return True

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        del places
        self._forward(codes.AVERAGE, writer, x, y)

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del places
        if dx is not None:
            self._backward(codes.AVERAGE, writer, x, y, dy.view, dx)
