"""What every layer can do: say its parameters and output shape, and write its operations down."""

from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

from unstuck.errors import ShapeError, UnstuckError
from unstuck.nn.checks import whole
from unstuck.nn.program import Buffer, Shape, Writer


class Gradient(NamedTuple):
    """Memory for the gradient of a layer's output."""

    view: Buffer


Places = dict[str, int]
"""Where a layer's parameters and buffers start in the network's flat array, by short name ("weight")."""


@dataclass(frozen=True)
class Layer:
    """A layer is a value: its sizes and options. Its parameters belong to the network.

    A subclass gives `output_shape` and the two `write_*` methods, which stand next to each other so that
    forward and backward can be read together. The arithmetic itself is in `nn/kernels`.
    """

    rectifies: ClassVar[bool] = False
    """Whether `write_forward` can do a ReLU's work on a `rectified` output."""
    gates: ClassVar[bool] = False
    """Whether `write_backward` can do a ReLU's work, going back to a `rectified` input."""
    reads_output: ClassVar[bool] = True
    """Whether `write_backward` reads y."""

    @property
    def overwrites(self) -> bool:
        """Whether dx may take the place of x: nothing of x is read once the same part of dx is written."""
        return False

    @property
    def type(self) -> str:
        """Name of the layer's type, as in PyTorch."""
        return type(self).__name__

    def parameters(self) -> dict[str, Shape]:
        """Short name ("weight", "bias") to shape, in PyTorch's layout; empty for a layer without."""
        return {}

    def buffers(self) -> dict[str, tuple[Shape, float]]:
        """Short name to shape and first value of what is kept with the parameters but not trained."""
        return {}

    def options(self) -> dict[str, int | float | str | bool]:
        """The layer's arguments as plain numbers, for descriptions."""
        plain: dict[str, int | float | str | bool] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                plain |= {f"{item.name}_{axis}": int(part) for axis, part in zip("yx", value, strict=True)}
            elif value is not None:
                plain[item.name] = value
        return plain

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one sample of the output, for one sample of this input shape.

        Raises:
            ShapeError: the shape does not fit; the message says what was found and what is needed.
        """
        raise NotImplementedError

    def gradient(self, writer: Writer, out: Shape, into: Shape | None) -> Gradient:
        """Memory for the gradient of the output; `into` is the input's shape if its gradient is wanted."""
        del into
        buffer = writer.allocate(out)
        return Gradient(buffer)

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        """Write the operations that make y from x."""
        raise NotImplementedError

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        """Write the operations that make dx (unless None) and add to the parameters' gradients."""
        raise NotImplementedError


def gate(x: Buffer, dx: Buffer) -> int:
    """Field GATE_AT of a CONTRACT row that makes dx: where x, a ReLU's output, lies as seen from dx."""
    if x.rectified and x.strides != dx.strides:
        msg = (
            f"a rectified value and its gradient must lie alike in memory, found {x.strides} and {dx.strides}"
        )
        raise AssertionError(msg)
    return x.offset - dx.offset if x.rectified else 0


def positive(layer: str, name: str, value: object) -> int:
    """A whole number of at least 1.

    Raises:
        UnstuckError: it is something else.
    """
    return whole(f"{layer}: {name}", value, 1)


def pair(layer: str, name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    """(vertical, horizontal) from one number or two, each at least `least`.

    Raises:
        UnstuckError: it is something else.
    """
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)  # pyright: ignore[reportUnnecessaryIsInstance]  callers may pass anything
    if len(both) != 2:
        msg = f"{layer}: {name} must be one or two whole numbers of at least {least}, found {value!r}"
        raise UnstuckError(msg)
    return whole(f"{layer}: {name}", both[0], least), whole(f"{layer}: {name}", both[1], least)


def image(layer: str, shape: Shape) -> tuple[int, int, int]:
    """(channels, height, width) of an image's shape.

    Raises:
        ShapeError: the shape has no three axes.
    """
    if len(shape) != 3:
        msg = f"{layer} needs images (N, C, H, W), got samples of shape {shape}"
        raise ShapeError(msg)
    return shape[0], shape[1], shape[2]
