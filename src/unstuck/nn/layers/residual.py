"""Residual: a chain of layers whose input is added to its output."""

from collections.abc import Mapping
from dataclasses import dataclass

from unstuck.errors import ShapeError, UnstuckError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.chain import Chain, unfold
from unstuck.nn.layers.layer import Gradient, Layer, Places
from unstuck.nn.program import Buffer, Shape, Writer


class Residual(Chain):
    """y = x + f(x), where f is a chain of layers whose output has the shape of its input.

    Its layers stand in the network under the block's name, as in a PyTorch module that holds them in order:
    "3.0", "3.1", ...; the addition itself is the layer "3", behind them, whose output is the block's.

    Args:
        layers: the layers of f in order, named "0", "1", ...; or one mapping from names to layers. A
            Sequential or a further Residual may stand among them.

    Raises:
        UnstuckError: something that is not a layer, or no layer at all.
        ShapeError: (when the network meets its input) f changes the shape; names both.

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Residual(nn.Tanh(), nn.Linear(3, 3))).init(0, "zeros")
        >>> list(net.parameters)
        ['0.weight', '0.bias', '1.1.weight', '1.1.bias']
        >>> list(net.activations(np.zeros((4, 2))))
        ['0', '1.0', '1.1', '1']

    References:
        He, Zhang, Ren & Sun (2016), "Deep residual learning for image recognition", arXiv:1512.03385.
    """

    def __init__(self, *layers: Layer | Chain | Mapping[str, Layer | Chain]) -> None:
        self.layers = unfold(layers, "a residual block")

    def unfolded(self, name: str) -> dict[str, Layer]:
        return super().unfolded(name) | {name: Addition()}

    def __repr__(self) -> str:
        """As it was called."""
        return f"Residual({', '.join(f'{name}={layer!r}' for name, layer in self.layers.items())})"


@dataclass(frozen=True)
class Addition(Layer):
    """The end of a residual block: what comes in plus what came into the block's first layer."""

    @property
    def type(self) -> str:
        return "Residual"

    def __repr__(self) -> str:
        """As the block's type: its layers are listed before it."""
        return "Residual()"

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def check(self, into: Shape, out: Shape) -> None:
        """Refuse a block that changes the shape.

        Raises:
            ShapeError: names both shapes.
        """
        if into != out:
            msg = f"Residual needs layers that keep the shape of their input {into}, got {out}"
            raise ShapeError(msg)

    def write_sum(self, writer: Writer, first: Buffer, second: Buffer, out: Buffer) -> None:
        """Write out = first + second."""
        writer.elementwise_back(codes.SUM, first, second, out)

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        """Hand the gradient on to the block's last layer."""
        del places, x, y
        if dx is not None:
            writer.elementwise(codes.COPY, dy.view, dx.view)


def block_start(layers: Mapping[str, Layer], name: str) -> int:
    """Number of the first layer of the block that ends with the addition `name`.

    Raises:
        UnstuckError: no layer of the block stands before it.
    """
    names = list(layers)
    end = start = names.index(name)
    while start > 0 and names[start - 1].startswith(f"{name}."):
        start -= 1
    if start == end:
        msg = f"layer {name!r}: expected the layers of its block, {name}.0 and so on, right before it"
        raise UnstuckError(msg)
    return start
