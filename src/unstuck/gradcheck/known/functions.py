"""Element-wise functions: value, derivative by the input, and the derivative as a formula of the output."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.tree import Array

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
"""Klambauer et al., 2017, arXiv 1706.02515."""
Function = Callable[[Array], Array]


@dataclass(frozen=True)
class Activation:
    """One element-wise function."""

    name: str
    value: Function
    slope: Function
    """f'(z)."""
    slope_of_output: Function | None = None
    """g with f'(z) = g(f(z)), where people write it so."""


def _sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))


def _leaky(alpha: float) -> Activation:
    return Activation(
        f"leaky ReLU ({alpha:g})",
        lambda z: np.where(z > 0, z, alpha * z),
        lambda z: np.where(z > 0, 1.0, alpha),
        lambda a: np.where(a > 0, 1.0, alpha),
    )


def _erf_cdf(z: Array) -> Array:
    from scipy.special import erf

    return 0.5 * (1.0 + erf(z / np.sqrt(2.0)))


def _gelu_tanh(z: Array) -> Array:
    return 0.5 * z * (1.0 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def _gelu_tanh_slope(z: Array) -> Array:
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * c * (1 + 3 * 0.044715 * z**2)


def _density(z: Array) -> Array:
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


ACTIVATIONS: tuple[Activation, ...] = (
    Activation("sigmoid", _sigmoid, lambda z: _sigmoid(z) * (1 - _sigmoid(z)), lambda a: a * (1 - a)),
    Activation("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda a: 1 - a**2),
    Activation(
        "ReLU",
        lambda z: np.maximum(z, 0.0),
        lambda z: (z > 0).astype(np.float64),
        lambda a: (a > 0).astype(np.float64),
    ),
    _leaky(0.01),
    _leaky(0.1),
    _leaky(0.2),
    _leaky(0.3),
    _leaky(0.05),
    Activation(
        "ELU",
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))),
        lambda a: np.where(a > 0, 1.0, a + 1),
    ),
    Activation(
        "softplus", lambda z: np.logaddexp(0.0, z), _sigmoid, lambda a: -np.expm1(-np.maximum(a, 0.0))
    ),
    Activation("GELU", lambda z: z * _erf_cdf(z), lambda z: _erf_cdf(z) + z * _density(z)),
    Activation("GELU (tanh)", _gelu_tanh, _gelu_tanh_slope),
    Activation(
        "SiLU",
        lambda z: z * _sigmoid(z),
        lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z))),
    ),
    Activation("square", lambda z: z**2, lambda z: 2 * z),
    Activation(
        "exp", lambda z: np.exp(np.minimum(z, 500)), lambda z: np.exp(np.minimum(z, 500)), lambda a: a
    ),
    Activation("sin", np.sin, np.cos),
    Activation("ReLU6", lambda z: np.clip(z, 0, 6), lambda z: ((z > 0) & (z < 6)).astype(np.float64)),
    Activation(
        "SELU",
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * np.exp(np.minimum(z, 0))),
        lambda a: np.where(a > 0, SELU_SCALE, a + SELU_SCALE * SELU_ALPHA),
    ),
    Activation(
        "Mish",
        lambda z: z * np.tanh(np.logaddexp(0.0, z)),
        lambda z: np.tanh(np.logaddexp(0.0, z)) + z * _sigmoid(z) * (1 - np.tanh(np.logaddexp(0.0, z)) ** 2),
    ),
    Activation("arctan", np.arctan, lambda z: 1 / (1 + z**2), lambda a: np.cos(a) ** 2),
    Activation(
        "softsign",
        lambda z: z / (1 + np.abs(z)),
        lambda z: 1 / (1 + np.abs(z)) ** 2,
        lambda a: (1 - np.abs(a)) ** 2,
    ),
)


def derivative_slips(f: Activation, z: Array, a: Array) -> dict[str, tuple[str, str, Array]]:
    """Typical wrong derivatives of one activation: id to kind, text, and what dy is multiplied with.

    Args:
        f: the activation.
        z: its input.
        a: its output.
    """
    found: dict[str, tuple[str, str, Array]] = {
        "missing": (
            "activation-derivative-missing",
            f"the derivative of {f.name} is missing",
            np.ones_like(z),
        ),
        "at-output": (
            "activation-derivative-at-output",
            f"the derivative of {f.name} is taken at its output instead of its input",
            f.slope(a),
        ),
    }
    if f.slope_of_output is not None:
        found["at-input"] = (
            "activation-derivative-at-input",
            f"the derivative of {f.name} is taken at its input with the formula for its output",
            f.slope_of_output(z),
        )
        found["output-twice"] = (
            "activation-derivative-at-output",
            f"the derivative of {f.name} is a formula of its output, but the function was applied once more",
            f.slope_of_output(f.value(a)),
        )
    wrong = "activation-derivative-wrong"
    found["twice"] = (wrong, f"the derivative of {f.name} is multiplied in twice", f.slope(z) ** 2)
    found["inverse"] = (wrong, f"the mask of {f.name} is inverted", (z <= 0).astype(np.float64))
    found["value"] = (wrong, f"the gradient is multiplied with the output of {f.name}, not its derivative", a)
    found["value-in"] = (
        wrong,
        f"the gradient is multiplied with the input of {f.name}, not its derivative",
        z,
    )
    found["negative"] = (
        wrong,
        f"the negative side's slope of {f.name} is forgotten",
        np.where(z > 0, f.slope(z), 0.0),
    )
    found["negative-one"] = (
        wrong,
        f"the negative side's slope of {f.name} is one",
        np.where(z > 0, f.slope(z), 1.0),
    )
    for other in ACTIVATIONS[:3]:
        if other.name != f.name:
            found[f"as-{other.name}"] = (
                wrong,
                f"the derivative of {other.name} stands for that of {f.name}",
                other.slope(z),
            )
            if other.slope_of_output is not None:
                found[f"as-{other.name}-output"] = (
                    wrong,
                    f"the derivative of {other.name} stands for that of {f.name}",
                    other.slope_of_output(a),
                )
    return found
