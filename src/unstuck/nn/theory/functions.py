"""Activations as plain functions with their slopes: what the theory needs to know of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.nn.layers.activations import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from unstuck.nn.layers.kinds import KINDS, make
from unstuck.nn.layers.layer import Layer
from unstuck.nn.theory.gauss import Curve, Floats


@dataclass(frozen=True)
class Function:
    """phi and phi', each of an array of numbers; smooth except at 0, where either may jump.

    Example:
        >>> sine = Function("sine", np.sin, np.cos)
        >>> float(sine.slope(np.zeros(1))[0])
        1.0
    """

    name: str
    value: Curve
    slope: Curve


Activation: TypeAlias = str | Layer | Function
"""A name of the engine's ("Tanh"), a layer with options (`nn.LeakyReLU(0.2)`), or a function of one's own."""


def function(activation: Activation) -> Function:
    """The function of an activation.

    Args:
        activation: a name ("Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", or
            "Identity" for none), such a layer, or a `Function`.

    Raises:
        UnstuckError: something else.

    Example:
        >>> function("ReLU").value(np.array([-2.0, 3.0])).tolist()
        [0.0, 3.0]
    """
    if isinstance(activation, Function):
        return activation
    if activation == "Identity":
        return Function("Identity", lambda z: z, np.ones_like)
    layer = activation
    if isinstance(activation, str) and activation in KINDS:
        layer = make(activation, {})
    maker = _MAKERS.get(type(layer))
    if maker is None:
        known = ", ".join([*(kind.__name__ for kind in _MAKERS), "Identity"])
        msg = f"theory: no activation {activation!r}, expected one of {known}, such a layer or a Function"
        raise UnstuckError(msg)
    return maker(layer)


def is_activation(layer: Layer) -> bool:
    """Whether `function` knows this layer."""
    return type(layer) in _MAKERS


def _sigmoid(z: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -z))  # its relative error is small at both ends


def _leaky(name: str, share: float) -> Function:
    return Function(
        name, lambda z: np.where(z > 0, z, share * z) + 0.0, lambda z: np.where(z > 0, 1.0, share)
    )


def _elu(layer: ELU) -> Function:
    alpha = layer.alpha
    return Function(
        "ELU",
        lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0))),
        lambda z: np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0.0))),
    )


def _silu_slope(z: Floats) -> Floats:
    s = _sigmoid(z)
    return s * (1 + z * (1 - s))


error_function: Final = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(layer: GELU) -> Function:
    if layer.approximate == "tanh":
        return _gelu_tanh()

    def below(z: Floats) -> Floats:
        return (1 + error_function(z / math.sqrt(2))) / 2

    return Function(
        "GELU",
        lambda z: z * below(z),
        lambda z: below(z) + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
    )


def _gelu_tanh() -> Function:
    root = math.sqrt(2 / math.pi)

    def bend(z: Floats) -> Floats:
        return np.tanh(root * (z + 0.044715 * z**3))

    return Function(
        "GELU",
        lambda z: z * (1 + bend(z)) / 2,
        lambda z: (1 + bend(z)) / 2 + z * (1 - bend(z) ** 2) * root * (1 + 3 * 0.044715 * z * z) / 2,
    )


def _softplus(layer: Softplus) -> Function:
    beta = layer.beta
    # the straight line beyond the layer's threshold differs by at most e^-threshold and is left out
    return Function("Softplus", lambda z: np.logaddexp(0.0, beta * z) / beta, lambda z: _sigmoid(beta * z))


_MAKERS: Final[dict[type, Callable[[Any], Function]]] = {
    Sigmoid: lambda _: Function("Sigmoid", _sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    Tanh: lambda _: Function("Tanh", np.tanh, lambda z: 4 * _sigmoid(2 * z) * _sigmoid(-2 * z)),
    ReLU: lambda _: _leaky("ReLU", 0.0),
    LeakyReLU: lambda layer: _leaky("LeakyReLU", layer.negative_slope),
    ELU: _elu,
    GELU: _gelu,
    SiLU: lambda _: Function("SiLU", lambda z: z * _sigmoid(z), _silu_slope),
    Softplus: _softplus,
}
