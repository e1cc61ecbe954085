"""Derivatives of the element-wise functions of NumPy."""

from collections.abc import Callable, Sequence

import numpy as np

from unstuck.gradcheck.tree import Array

One = Callable[[Array, Array], Array | float]
"""(operand, result) to the derivative."""
Two = Callable[[Array, Array, Array], tuple[Array | float, Array | float]]
"""(operand, operand, result) to the derivative by each."""


def _power(a: Array, b: Array, y: Array) -> tuple[Array | float, Array | float]:
    with np.errstate(all="ignore"):
        by_exponent = np.where(a > 0, y * np.log(np.where(a > 0, a, 1.0)), 0.0)
        return b * np.power(a, b - 1), by_exponent


def _normal(z: Array) -> Array:
    return 2 / np.sqrt(np.pi) * np.exp(-(z**2))


ONE: dict[str, One] = {
    "negative": lambda _a, _y: -1.0,
    "positive": lambda _a, _y: 1.0,
    "square": lambda a, _y: 2 * a,
    "reciprocal": lambda _a, y: -y * y,
    "sqrt": lambda _a, y: 0.5 / y,
    "cbrt": lambda _a, y: 1 / (3 * y * y),
    "exp": lambda _a, y: y,
    "exp2": lambda _a, y: y * np.log(2.0),
    "expm1": lambda _a, y: y + 1,
    "log": lambda a, _y: 1 / a,
    "log2": lambda a, _y: 1 / (a * np.log(2.0)),
    "log10": lambda a, _y: 1 / (a * np.log(10.0)),
    "log1p": lambda a, _y: 1 / (1 + a),
    "tanh": lambda _a, y: 1 - y * y,
    "sinh": lambda a, _y: np.cosh(a),
    "cosh": lambda a, _y: np.sinh(a),
    "sin": lambda a, _y: np.cos(a),
    "cos": lambda a, _y: -np.sin(a),
    "arctan": lambda a, _y: 1 / (1 + a * a),
    "absolute": lambda a, _y: np.sign(a),
    "fabs": lambda a, _y: np.sign(a),
    "expit": lambda _a, y: y * (1 - y),
    "erf": lambda a, _y: _normal(a),
}
TWO: dict[str, Two] = {
    "add": lambda _a, _b, _y: (1.0, 1.0),
    "subtract": lambda _a, _b, _y: (1.0, -1.0),
    "multiply": lambda a, b, _y: (b, a),
    "divide": lambda a, b, _y: (1 / b, -a / (b * b)),
    "power": _power,
    "float_power": _power,
    "maximum": lambda a, b, _y: (_first(a, b), 1 - _first(a, b)),
    "fmax": lambda a, b, _y: (_first(a, b), 1 - _first(a, b)),
    "minimum": lambda a, b, _y: (_first(b, a), 1 - _first(b, a)),
    "fmin": lambda a, b, _y: (_first(b, a), 1 - _first(b, a)),
    "logaddexp": lambda a, b, y: (np.exp(a - y), np.exp(b - y)),
    "hypot": lambda a, b, y: (a / y, b / y),
}
PARTIALS = frozenset((*ONE, *TWO))


def partials(name: str, values: Sequence[Array], result: Array) -> tuple[Array | float, ...]:
    """The derivative by each operand.

    Args:
        name: of NumPy's function.
        values: its operands.
        result: what it made of them.
    """
    with np.errstate(all="ignore"):
        if len(values) == 1:
            return (ONE[name](values[0], result),)
        return TWO[name](values[0], values[1], result)


def _first(a: Array, b: Array) -> Array:
    """Where the first is the larger."""
    return (np.asarray(a) > b).astype(np.float64)


def is_of_sign(mask: Array, a: Array) -> bool:
    """Whether a mask is 0 on one side of an array's zero, as that of a ReLU, and not drawn at random."""
    kept = mask != 0
    if kept.all() or not kept.any():
        return False  # a factor, as 1 / N, of numbers that all have one sign
    return any(np.array_equal(kept, side) for side in (a > 0, a >= 0, a < 0, a <= 0))
