"""Laws from which weights and biases are drawn, and the parameters they are drawn for.

References:
    X. Glorot, Y. Bengio (2010), Understanding the difficulty of training deep feedforward neural networks.
    K. He, X. Zhang, S. Ren, J. Sun (2015), arXiv 1502.01852.
    Y. LeCun, L. Bottou, G. Orr, K.-R. Müller (1998), Efficient BackProp.
    A. Saxe, J. McClelland, S. Ganguli (2014), arXiv 1312.6120 (orthogonal).
    D. Mishkin, J. Matas (2016), arXiv 1511.06422 (lsuv).
    L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. Schoenholz, J. Pennington (2018), arXiv 1806.05393 (delta).
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.orthogonal import orthogonal

Floats: TypeAlias = NDArray[np.float64]
Base: TypeAlias = Literal["nothing", "uniform", "normal"]

# scheme -> the standard numbers it is made from, one a value; those of "nothing" consume no position
DRAWS: Final[dict[str, Base]] = {
    "default": "uniform",
    "zeros": "nothing",
    "ones": "nothing",
    "constant": "nothing",
    "identity": "nothing",
    "dirac": "nothing",
    "uniform": "uniform",
    "normal": "normal",
    "glorot_uniform": "uniform",
    "glorot_normal": "normal",
    "he_uniform": "uniform",
    "he_normal": "normal",
    "lecun_uniform": "uniform",
    "lecun_normal": "normal",
    "orthogonal": "normal",
    "delta_orthogonal": "normal",
    "lsuv": "normal",
}
ALIASES: Final = {"glorot": "glorot_uniform", "he": "he_normal", "lecun": "lecun_normal", "unit": "ones"}
# what only makes sense for a weight with inputs and outputs
_MATRIX: Final = ("identity", "dirac", "orthogonal", "delta_orthogonal", "lsuv")
_REQUIRED: Final = {"constant": ("value",), "uniform": ("low", "high"), "normal": ("std",)}
_OPTIONAL: Final = {"normal": ("mean",)}
_NUMBERS: Final = ("low", "high", "mean", "std", "value")


class ParameterSpec(msgspec.Struct, frozen=True):
    """One weight or bias of a network: what an initialisation needs to know of it.

    A bias carries the fans of its layer, as the bounds of PyTorch's biases follow from them.

    Example:
        >>> ParameterSpec.weight("conv1", (8, 3, 5, 5)).fan_in
        75
    """

    name: str
    layer: str
    kind: Literal["weight", "bias", "scale", "shift"]
    """Scale and shift are weight and bias of a normalisation: one number for each feature or channel."""
    shape: tuple[int, ...]  # PyTorch's layout: Linear (out, in), Conv2d (out, in, height, width), bias (out,)
    fan_in: int
    fan_out: int

    def __post_init__(self) -> None:
        """Refuse what has no values."""
        if not self.shape or min(self.shape) < 1 or self.fan_in < 1 or self.fan_out < 1:
            raise UnstuckError(
                f"{self.name}: found shape {self.shape}, fan_in {self.fan_in}, fan_out {self.fan_out}; "
                "expected positive numbers"
            )

    @classmethod
    def weight(cls, layer: str, shape: Sequence[int]) -> "ParameterSpec":
        """Describe a layer's weight; fans as in PyTorch: units times the size of a kernel."""
        kind = "scale" if len(shape) == 1 else "weight"
        return cls(_name(layer, "weight"), layer, kind, tuple(shape), *_fans(shape))

    @classmethod
    def bias(cls, layer: str, weight_shape: Sequence[int]) -> "ParameterSpec":
        """Describe the bias of the layer whose weight has `weight_shape`."""
        kind = "shift" if len(weight_shape) == 1 else "bias"
        return cls(_name(layer, "bias"), layer, kind, (weight_shape[0],), *_fans(weight_shape))


class Scheme(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A law of weights or biases: its name and its numbers. `gain` multiplies the values.

    With fan_in n and fan_out m, half-width a of a uniform law, standard deviation s of a normal one:

    - default (PyTorch's): a = 1/√n, for weights and biases
    - glorot_uniform ("glorot"): a = √(6/(n+m)); glorot_normal: s = √(2/(n+m))
    - he_uniform: a = √(6/n); he_normal ("he"): s = √(2/n)
    - lecun_uniform: a = √(3/n); lecun_normal ("lecun"): s = √(1/n)
    - uniform(low, high), normal(mean = 0, std), constant(value), zeros, ones ("unit")
    - identity: every kernel slice [o, i] is an identity matrix; for Linear the whole weight is
    - dirac: passes channels (features) through unchanged, as far as there are as many outputs as inputs
    - orthogonal: rows or columns orthonormal, whichever are fewer; uniformly distributed
    - delta_orthogonal: an orthogonal matrix at the centre of the kernel, zeros around it; needs out >= in
    - lsuv: orthogonal, and then scaled on data so that the layer's output has variance 1 (see `nn.lsuv`)

    Example:
        >>> Scheme("glorot", gain=4.0)
        Scheme(scheme='glorot_uniform', gain=4.0, low=None, high=None, mean=None, std=None, value=None)

    Raises:
        UnstuckError: an unknown scheme, a number it does not take, one it lacks, or one that cannot be.
    """

    scheme: str = "default"
    gain: float = 1.0
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        """Replace an alias and check the numbers."""
        name = ALIASES.get(str(self.scheme), self.scheme)
        if name not in list(DRAWS):  # a list: whatever was given need not be hashable
            known = ", ".join([*DRAWS, *ALIASES])
            raise UnstuckError(f"unknown initialisation scheme {self.scheme!r}; known: {known}")
        msgspec.structs.force_setattr(self, "scheme", name)
        required, optional = _REQUIRED.get(name, ()), _OPTIONAL.get(name, ())
        takes = ", ".join([*required, *optional, "gain"])
        for key in _NUMBERS:
            given = getattr(self, key)
            if given is None and key in required:
                raise UnstuckError(f"scheme {name!r} lacks {key!r}; it takes: {takes}")
            if given is not None and key not in (*required, *optional):
                raise UnstuckError(f"scheme {name!r} has no {key!r} (found {given!r}); it takes: {takes}")
        for key in (*required, *optional, "gain"):
            given = getattr(self, key)
            if given is not None and not _is_finite(given):
                raise UnstuckError(f"scheme {name!r}: {key} is {given!r}, expected a finite number")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise UnstuckError(f"scheme {name!r}: low {self.low!r} is above high {self.high!r}")
        if self.std is not None and self.std < 0:
            raise UnstuckError(f"scheme {name!r}: std is {self.std!r}, expected a number not below 0")

    @property
    def draws(self) -> Base:
        """Which standard numbers a value is made from; "nothing" consumes no position of the stream."""
        return DRAWS[self.scheme]

    @property
    def ties_units(self) -> bool:
        """Whether a unit's values depend on the numbers drawn for the layer's other units."""
        return self.scheme in {"orthogonal", "delta_orthogonal", "lsuv"}

    def check(self, spec: ParameterSpec) -> None:
        """Raise UnstuckError where this scheme cannot fill that parameter."""
        name, shape = self.scheme, spec.shape
        if name in _MATRIX and len(shape) not in {2, 4}:
            raise UnstuckError(
                f"{spec.name}: scheme {name!r} needs the weight of a Linear or Conv2d, found shape {shape}"
            )
        if name == "delta_orthogonal" and shape[0] < shape[1]:
            raise UnstuckError(
                f"{spec.name}: scheme {name!r} needs as many outputs as inputs, found shape {shape}"
            )

    def fill(self, spec: ParameterSpec, base: Floats) -> Floats:
        """Turn standard numbers into values of the parameter, for many networks at once.

        Args:
            spec: the parameter, of shape S.
            base: (members, *S), the numbers that `draws` names; not read where it names nothing.

        Returns:
            (members, *S), float64.
        """
        match self.scheme:
            case "zeros" | "ones" | "constant":
                values = np.full(base.shape, {"zeros": 0.0, "ones": 1.0}.get(self.scheme, self.value or 0.0))
            case "identity":
                values = np.broadcast_to(_eye(spec.shape[-2:]), base.shape)
            case "dirac":
                values = np.broadcast_to(_at_centre(_eye(spec.shape[:2]), spec.shape), base.shape)
            case "orthogonal" | "lsuv":
                flat = base.reshape(len(base), spec.shape[0], -1)
                values = orthogonal(flat).reshape(base.shape)
            case "delta_orthogonal":
                values = _at_centre(orthogonal(_centre(base)), base.shape)
            case _:
                shift, scale = self._line(spec)
                values = shift + scale * base
        return values * self.gain

    def _line(self, spec: ParameterSpec) -> tuple[float, float]:
        """Shift and scale that turn a standard uniform or normal number into a value."""
        n, m = spec.fan_in, spec.fan_out
        match self.scheme:
            case "uniform":
                low, high = self.low or 0.0, self.high or 0.0
                return low, high - low
            case "normal":
                return self.mean or 0.0, self.std or 0.0
            case "glorot_uniform":
                width = math.sqrt(6.0 / (n + m))
            case "he_uniform":
                width = math.sqrt(6.0 / n)
            case "lecun_uniform":
                width = math.sqrt(3.0 / n)
            case "glorot_normal":
                return 0.0, math.sqrt(2.0 / (n + m))
            case "he_normal":
                return 0.0, math.sqrt(2.0 / n)
            case "lecun_normal":
                return 0.0, math.sqrt(1.0 / n)
            case _:
                width = 1.0 / math.sqrt(n)
        return -width, 2.0 * width


def _name(layer: str, kind: str) -> str:
    return f"{layer}.{kind}" if layer else kind


def _fans(shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) < 2:
        return 1, 1  # a scale per unit, as in a normalisation layer: one number in, one out
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


def _is_finite(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _eye(shape: tuple[int, ...]) -> Floats:
    return np.eye(shape[0], shape[1])


def _centre(base: Floats) -> Floats:
    """Return (members, out, in): the middle of each kernel, or the whole of a Linear weight."""
    return base if base.ndim == 3 else base[..., base.shape[-2] // 2, base.shape[-1] // 2]


def _at_centre(matrix: Floats, shape: tuple[int, ...]) -> Floats:
    """Zeros of `shape` with a matrix (..., out, in) in the middle of the kernels."""
    if matrix.ndim == len(shape):
        return matrix
    values = np.zeros(shape)
    values[..., shape[-2] // 2, shape[-1] // 2] = matrix
    return values
