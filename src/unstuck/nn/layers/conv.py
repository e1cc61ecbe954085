"""Conv2d: the same small weighted sum at every position of an image."""

from dataclasses import dataclass

from unstuck.errors import ShapeError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places, image, pair, positive
from unstuck.nn.program import Buffer, Shape, Writer

MANY = 4
"""From this many input channels on, weight gradients are tiled over channels, below over kernel columns."""


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
    def border(self) -> tuple[int, int]:
        return pair("Conv2d", "padding", self.padding, 0)

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
            for n, p, k, s in zip(extent, self.border, self.kernel, self.step, strict=True)
        ]
        if min(out) < 1:
            msg = (
                f"Conv2d: a kernel of {self.kernel} with padding {self.border} does not fit "
                f"into samples of shape {shape}"
            )
            raise ShapeError(msg)
        return (self.out_channels, *out)

    def gradient(self, writer: Writer, out: Shape, into: Shape | None) -> Gradient:
        if into is None:
            return super().gradient(writer, out, into)
        before, extent = list[int](), list[int]()
        for n_in, n_out, k, s, p in zip(into[1:], out[1:], self.kernel, self.step, self.border, strict=True):
            low, high = min(0, p - k + 1), max(s * (n_out - 1), n_in - 1 + p)
            before.append(-low)
            extent.append(high - low + 1)
        return Gradient(
            *writer.allocate_spread(out, self.step, (before[0], before[1]), (extent[0], extent[1]))
        )

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        (kh, kw), (sy, sx), (py, px) = self.kernel, self.step, self.border
        area = kh * kw
        start = x.offset - py * x.strides[1] - px * x.strides[2]
        writer.row(
            codes.CONTRACT,
            *(places["weight"], places.get("bias", 0), start, y.offset),
            *(self.out_channels, y.lines, y.positions, sy * x.strides[1], y.strides[1]),
            *(sy, py, x.lines),
            *(self.in_channels, kh, kw),
            *(area, kw, 1),
            *x.strides,
            *(self.in_channels * area, int(self.bias), sx * x.strides[2]),
            *(y.strides[0], y.strides[2]),
        )

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del y
        (kh, kw), (sy, sx), (py, px) = self.kernel, self.step, self.border
        area, d = kh * kw, dy.view
        unit = self.in_channels * area
        # the tile's columns are input channels (loops outside: kernel rows, kernel columns) or kernel columns
        over_channels = self.in_channels >= MANY
        columns, outer, middle = (self.in_channels, kh, kw) if over_channels else (kw, self.in_channels, kh)
        value = (x.strides[1], x.strides[2], x.strides[0]) if over_channels else x.strides
        weight = (kw, 1, area) if over_channels else (area, kw, 1)
        writer.row(
            codes.CORRELATE,
            *(
                d.offset,
                x.offset - py * x.strides[1] - px * x.strides[2],
                places["weight"],
                self.out_channels,
                columns,
            ),
            *(outer, middle),
            *(value[0], value[1], weight[0], weight[1]),
            *(d.lines, d.positions, d.strides[1], d.strides[2], sy * x.strides[1], sx * x.strides[2]),
            *(d.strides[0], value[2], unit, weight[2]),
        )
        if self.bias:
            writer.row(
                codes.BIAS, d.offset, places["bias"], self.out_channels, d.lines, d.positions, *d.strides
            )
        if dx is not None:
            whole, into = dy.whole, dx.view
            # first gradient that reaches line 0 of the input: place padding - (kernel - 1), from line 0
            # of the spread gradient, which lies `before` lines inside its buffer
            skip_y, skip_x = max(0, py - kh + 1), max(0, px - kw + 1)
            start = whole.offset + skip_y * whole.strides[1] + skip_x * whole.strides[2]
            writer.row(
                codes.CONTRACT,
                *(places["weight"] + area - 1, 0, start, into.offset),
                *(self.in_channels, into.lines, into.positions, whole.strides[1], into.strides[1]),
                *(1, max(0, kh - 1 - py) - max(0, py - kh + 1), sy * (d.lines - 1) + 1),
                *(self.out_channels, kh, kw),
                *(unit, -kw, -1),
                *whole.strides,
                *(area, 0, whole.strides[2]),
                *(into.strides[0], into.strides[2]),
            )
