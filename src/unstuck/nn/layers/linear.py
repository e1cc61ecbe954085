"""Linear: every output is a weighted sum of all inputs."""

from dataclasses import dataclass
from typing import ClassVar

from unstuck.errors import ShapeError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places, gate, positive
from unstuck.nn.program import Buffer, Shape, Writer


def _one_position(features: int, relu: int) -> tuple[int, ...]:
    """Fields of a CONTRACT row from LINES to OUT_COLUMN: one position, a kernel as wide as the features."""
    return (1, 1, 0, 0, *(1, 0, 1), *(1, 0, features), *(relu, 0, 0))


@dataclass(frozen=True)
class Linear(Layer):
    """y = W x + b.

    Args:
        in_features: numbers in one sample of the input.
        out_features: units.
        bias: whether there is a b.

    Shapes: input (N, in_features), output (N, out_features), weight (out_features, in_features),
    bias (out_features,).

    Raises:
        UnstuckError: a size is not a whole number of at least 1.
    """

    rectifies: ClassVar[bool] = True
    gates: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False

    in_features: int
    out_features: int
    bias: bool = True

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            object.__setattr__(self, name, positive("Linear", name, getattr(self, name)))

    @property
    def overwrites(self) -> bool:
        return True

    def parameters(self) -> dict[str, Shape]:
        weight: dict[str, Shape] = {"weight": (self.out_features, self.in_features)}
        return weight | {"bias": (self.out_features,)} if self.bias else weight

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.in_features,):
            hint = " (put a Flatten before it)" if len(shape) == 3 else ""
            msg = f"Linear needs samples of shape ({self.in_features},), got {shape}{hint}"
            raise ShapeError(msg)
        return (self.out_features,)

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        lanes = writer.lanes
        writer.row(
            codes.CONTRACT,
            *(places["weight"], places.get("bias", 0), x.offset, y.offset),
            *(self.out_features, *_one_position(self.in_features, codes.RECTIFY if y.rectified else 0)),
            *(1, 1, self.in_features),
            *(0, 0, 1),
            *(0, 0, lanes),
            *(self.in_features, int(self.bias), lanes),
        )

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del y
        lanes, d = writer.lanes, dy.view
        across = writer.allocate_rows(lanes, self.in_features)
        row = across.strides[0]
        writer.row(codes.TRANSPOSE, x.offset, across.offset, self.in_features, row)
        writer.row(
            codes.OUTER, d.offset, across.offset, places["weight"], self.out_features, self.in_features, row
        )
        if self.bias:
            writer.row(codes.BIAS, d.offset, places["bias"], self.out_features, 1, 1, lanes, 0, 0)
        if dx is not None:
            writer.row(
                codes.CONTRACT,
                *(places["weight"], 0, d.offset, dx.view.offset),
                *(self.in_features, *_one_position(self.out_features, codes.GATE if x.rectified else 0)),
                *(1, 1, self.out_features),
                *(0, 0, self.in_features),
                *(0, 0, lanes),
                *(1, 0, lanes),
                gate(x, dx.view),
            )
