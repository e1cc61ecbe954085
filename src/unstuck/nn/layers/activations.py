"""Sigmoid, Tanh, ReLU, LeakyReLU: functions of each number by itself (kernels: `kernels/elementwise.py`)."""

from dataclasses import dataclass

from unstuck.errors import UnstuckError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places
from unstuck.nn.program import Buffer, Shape, Writer


@dataclass(frozen=True)
class _Elementwise(Layer):
    def output_shape(self, shape: Shape) -> Shape:
        return shape

    @property
    def _kind(self) -> tuple[int, float]:
        """Code of the function and its one constant."""
        raise NotImplementedError

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        del places
        writer.elementwise(self._kind[0], x, y, self._kind[1])

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del places, x
        if dx is not None:
            writer.elementwise_back(self._kind[0], y, dy.view, dx.view, self._kind[1])


@dataclass(frozen=True)
class Sigmoid(_Elementwise):
    """y = 1 / (1 + e^-x), between 0 and 1; slope y (1 - y), at most 1/4. Any shape."""

    @property
    def _kind(self) -> tuple[int, float]:
        return codes.SIGMOID, 0.0


@dataclass(frozen=True)
class Tanh(_Elementwise):
    """y = tanh x, between -1 and 1; slope 1 - y^2. Any shape."""

    @property
    def _kind(self) -> tuple[int, float]:
        return codes.TANH, 0.0


@dataclass(frozen=True)
class ReLU(_Elementwise):
    """y = max(0, x); slope 1 where y > 0, else 0. Any shape."""

    @property
    def _kind(self) -> tuple[int, float]:
        return codes.RELU, 0.0


@dataclass(frozen=True)
class LeakyReLU(_Elementwise):
    """y = x where x > 0, else negative_slope * x. Any shape.

    Raises:
        UnstuckError: negative_slope is below 0 (the gradient is taken from the sign of the output).
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        if not self.negative_slope >= 0:
            msg = f"LeakyReLU: negative_slope must be at least 0, found {self.negative_slope!r}"
            raise UnstuckError(msg)

    @property
    def _kind(self) -> tuple[int, float]:
        return codes.LEAKY, float(self.negative_slope)
