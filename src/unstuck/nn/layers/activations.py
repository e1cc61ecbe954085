"""Activations: functions of each number by itself (kernels: `kernels/elementwise.py`)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places
from unstuck.nn.program import Buffer, Constants, Shape, Writer


@dataclass(frozen=True)
class Elementwise(Layer):
    """What all functions of single numbers share. Any shape."""

    slope_from_input: ClassVar[bool] = False
    """Whether the derivative is computed from the input; else from the output."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    @property
    def overwrites(self) -> bool:
        return True

    @property
    def kind(self) -> int:
        """Code of the function."""
        raise NotImplementedError

    @property
    def constants(self) -> Constants:
        """The function's numbers, as far as it has any."""
        return 0.0, 0.0

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        del places
        writer.elementwise(self.kind, x, y, self.constants)

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        del places
        if dx is not None:
            source = x if self.slope_from_input else y
            writer.elementwise_back(self.kind, source, dy.view, dx.view, self.constants)


@dataclass(frozen=True)
class Sigmoid(Elementwise):
    """y = 1 / (1 + e^-x), between 0 and 1; slope y (1 - y), at most 1/4. Any shape."""

    @property
    def kind(self) -> int:
        return codes.SIGMOID


@dataclass(frozen=True)
class Tanh(Elementwise):
    """y = tanh x, between -1 and 1; slope 1 - y^2. Any shape."""

    @property
    def kind(self) -> int:
        return codes.TANH


@dataclass(frozen=True)
class ReLU(Elementwise):
    """y = max(0, x); slope 1 where y > 0, else 0. Any shape."""

    @property
    def kind(self) -> int:
        return codes.RELU


@dataclass(frozen=True)
class LeakyReLU(Elementwise):
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
    def kind(self) -> int:
        return codes.LEAKY

    @property
    def constants(self) -> Constants:
        return float(self.negative_slope), 0.0


@dataclass(frozen=True)
class ELU(Elementwise):
    """y = x where x > 0, else alpha (e^x - 1); slope 1 where x > 0, else y + alpha. Any shape.

    Args:
        alpha: what it tends to far to the left, times -1.

    Raises:
        UnstuckError: alpha is below 0 (the gradient is taken from the sign of the output).

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ELU()).load({"0.weight": [[1.0]]})
        >>> net.forward([[-1.0], [2.0]]).round(3).tolist() == np.float32([[-0.632], [2.0]]).tolist()
        True

    References:
        Clevert, Unterthiner & Hochreiter (2016), "Fast and accurate deep network learning by exponential
        linear units", arXiv:1511.07289.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if real("ELU: alpha", self.alpha) < 0:
            msg = f"ELU: alpha must be at least 0, found {self.alpha!r}"
            raise UnstuckError(msg)

    @property
    def kind(self) -> int:
        return codes.ELU

    @property
    def constants(self) -> Constants:
        return float(self.alpha), 0.0


@dataclass(frozen=True)
class GELU(Elementwise):
    """y = x P(x), P(x) the probability that a standard normal number is below x. Any shape.

    Args:
        approximate: "none" for the formula above, "tanh" for
            y = x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, which differs by less than 0.0005.

    Raises:
        UnstuckError: approximate is something else.

    References:
        Hendrycks & Gimpel (2016), "Gaussian error linear units", arXiv:1606.08415.
    """

    slope_from_input: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False
    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        if self.approximate not in {"none", "tanh"}:
            msg = f"GELU: approximate must be 'none' or 'tanh', found {self.approximate!r}"
            raise UnstuckError(msg)

    @property
    def kind(self) -> int:
        return codes.GELU if self.approximate == "none" else codes.GELU_TANH


@dataclass(frozen=True)
class SiLU(Elementwise):
    """y = x sigmoid(x), also called swish; lowest value -0.278 at x = -1.278. Any shape.

    References:
        Elfwing, Uchibe & Doya (2018), "Sigmoid-weighted linear units for neural network function
        approximation in reinforcement learning", arXiv:1702.03118.
    """

    slope_from_input: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False

    @property
    def kind(self) -> int:
        return codes.SILU


@dataclass(frozen=True)
class Softplus(Elementwise):
    """y = log(1 + e^(beta x)) / beta, slope sigmoid(beta x); x itself where beta x > threshold. Any shape.

    Args:
        beta: the larger, the nearer to ReLU.
        threshold: from where on it is a straight line.

    Raises:
        UnstuckError: beta is not above 0, or a number is not finite.
    """

    slope_from_input: ClassVar[bool] = True
    reads_output: ClassVar[bool] = False
    beta: float = 1.0
    threshold: float = 20.0

    def __post_init__(self) -> None:
        real("Softplus: threshold", self.threshold)
        if real("Softplus: beta", self.beta) <= 0:
            msg = f"Softplus: beta must be above 0, found {self.beta!r}"
            raise UnstuckError(msg)

    @property
    def kind(self) -> int:
        return codes.SOFTPLUS

    @property
    def constants(self) -> Constants:
        return float(self.beta), float(self.threshold)
