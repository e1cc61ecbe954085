"""Conv2d: the same small weighted sum at every position of an image."""

from dataclasses import dataclass
from typing import ClassVar

from unstuck.errors import ShapeError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places, gate, image, pair, positive
from unstuck.nn.program import Buffer, Shape, Writer


@dataclass(frozen=True)
class Conv2d(Layer):
    """y[o, p] = b[o] + sum over i, k of w[o, i, k] x[i, stride p + k - padding]  (a cross-correlation).

    Args:
        in_channels: channels of the input.
        out_channels: units, each with one kernel for every input channel.
        kernel_size: height and width of a kernel; one number for both.
        stride: distance between positions.
        padding: lines and columns of zeros around the input.
        bias: whether there is a b.

    Shapes: input (N, in_channels, H, W), output (N, out_channels, H', W') with
    H' = (H + 2 padding - kernel_size) // stride + 1, weight (out_channels, in_channels, kh, kw).

    Raises:
        UnstuckError: a size is not a whole number in range.
    """

    rectifies: ClassVar[bool] = True
    gates: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False

    in_channels: int
    out_channels: int
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] = 0
    bias: bool = True

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels"):
            object.__setattr__(self, name, positive("Conv2d", name, getattr(self, name)))
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            object.__setattr__(self, name, pair("Conv2d", name, getattr(self, name), least))

    @property
    def kernel(self) -> tuple[int, int]:
        """Kernel height and width."""
        return pair("Conv2d", "kernel_size", self.kernel_size, 1)

    @property
    def step(self) -> tuple[int, int]:
        """Vertical and horizontal stride."""
        return pair("Conv2d", "stride", self.stride, 1)

    @property
    def zeros(self) -> tuple[int, int]:
        """Vertical and horizontal padding."""
        return pair("Conv2d", "padding", self.padding, 0)

    @property
    def overwrites(self) -> bool:
        return True

    def parameters(self) -> dict[str, Shape]:
        weight: dict[str, Shape] = {"weight": (self.out_channels, self.in_channels, *self.kernel)}
        return weight | {"bias": (self.out_channels,)} if self.bias else weight

    def output_shape(self, shape: Shape) -> Shape:
        channels, *extent = image("Conv2d", shape)
        if channels != self.in_channels:
            msg = f"Conv2d needs {self.in_channels} input channels, got {channels} (samples of shape {shape})"
            raise ShapeError(msg)
        out = [
            (n + 2 * p - k) // s + 1
            for n, p, k, s in zip(extent, self.zeros, self.kernel, self.step, strict=True)
        ]
        if min(out) < 1:
            msg = (
                f"Conv2d: a kernel of {self.kernel} with padding {self.zeros} does not fit "
                f"into samples of shape {shape}"
            )
            raise ShapeError(msg)
        return (self.out_channels, *out)

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        (kh, kw), (sy, sx), (py, px) = self.kernel, self.step, self.zeros
        area = kh * kw
        writer.row(
            codes.CONTRACT,
            *(places["weight"], places.get("bias", 0)),
            *(x.offset - py * x.strides[1] - px * x.strides[2], y.offset),
            *(self.out_channels, y.lines, y.positions, sy * x.strides[1], y.strides[1]),
            *(sy, py, x.lines, sx, px, x.positions),
            *(codes.RECTIFY if y.rectified else 0, sx * x.strides[2], y.strides[2]),
            *(self.in_channels, kh, kw),
            *(area, kw, 1),
            *x.strides,
            *(self.in_channels * area, int(self.bias), y.strides[0]),
        )

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del y
        d = dy.view
        writer.row(
            codes.CORRELATE,
            *(d.offset, x.offset, places["weight"]),
            *(self.out_channels, self.in_channels, *self.kernel, d.lines, d.positions),
            *(self.step[0], self.zeros[0], x.lines, self.step[1], self.zeros[1], x.positions),
            *(*d.strides, *x.strides),
        )
        if self.bias:
            writer.row(
                codes.BIAS, d.offset, places["bias"], self.out_channels, d.lines, d.positions, *d.strides
            )
        if dx is not None:
            for first_y in range(self.step[0]):
                for first_x in range(self.step[1]):
                    self._write_input_gradient(writer, places, x, d, dx.view, (first_y, first_x))

    def _write_input_gradient(
        self, writer: Writer, places: Places, x: Buffer, d: Buffer, dx: Buffer, first: tuple[int, int]
    ) -> None:
        """The input gradient at every `step`-th line and column from `first` on."""
        (kh, kw), (sy, sx) = self.kernel, self.step
        axes = [
            _Remainder(*numbers)
            for numbers in zip(
                first, (dx.lines, dx.positions), self.kernel, self.step, self.zeros, strict=True
            )
        ]
        vertical, horizontal = axes
        if vertical.positions == 0 or horizontal.positions == 0:
            return
        area = kh * kw
        writer.row(
            codes.CONTRACT,
            *(places["weight"] + vertical.last_tap * kw + horizontal.last_tap, 0),
            *(d.offset - vertical.before * d.strides[1] - horizontal.before * d.strides[2],),
            *(dx.offset + first[0] * dx.strides[1] + first[1] * dx.strides[2],),
            *(self.in_channels, vertical.positions, horizontal.positions, d.strides[1], sy * dx.strides[1]),
            *(1, vertical.before, d.lines, 1, horizontal.before, d.positions),
            *(codes.GATE if x.rectified else 0, d.strides[2], sx * dx.strides[2]),
            *(self.out_channels, vertical.taps, horizontal.taps),
            *(self.in_channels * area, -sy * kw, -sx),
            *d.strides,
            *(area, 0, dx.strides[0]),
            gate(x, dx),
        )


@dataclass(frozen=True)
class _Remainder:
    """One axis of the input gradient at places q = first, first + step, ...: q = step j + first.

    Of q = step p + k - padding there are solutions for the taps k that leave the same remainder as
    first + padding: k = k0 + step m with m = 0 .. taps - 1, at p = j + (first + padding - k0) / step - m.
    Read from the last tap to the first, they are a plain convolution of step 1 over p.
    """

    first: int
    extent: int
    kernel: int
    step: int
    padding: int

    @property
    def positions(self) -> int:
        """How many places there are."""
        return max(0, -(-(self.extent - self.first) // self.step))

    @property
    def _first_tap(self) -> int:
        return (self.first + self.padding) % self.step

    @property
    def taps(self) -> int:
        """How many taps reach them."""
        return max(0, -(-(self.kernel - self._first_tap) // self.step))

    @property
    def last_tap(self) -> int:
        """The last of them; 0 where there is none."""
        return max(0, self._first_tap + self.step * (self.taps - 1))

    @property
    def before(self) -> int:
        """Positions before p = 0 that the first place's taps would reach."""
        return self.taps - 1 - (self.first + self.padding - self._first_tap) // self.step
