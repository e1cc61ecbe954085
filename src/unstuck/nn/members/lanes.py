# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Vectors while code is written: one number for each member, and the formulas of `nn/kernels` on them.

The kernels' formulas (activations, slopes, optimisers, the random generator) are Python functions of vectors.
Numba compiles them for the interpreter; here the same functions are *called*, on values that write down one
instruction for each operation. So a formula stands once, and both ways of training use its very bits.
"""

import builtins
import functools
import types
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types as numba_types
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

from unstuck.nn.kernels import functions
from unstuck.nn.kernels.vectors import Vector, like

DOUBLE = ir.DoubleType()
_OVERLOADS = {
    functions.exp: functions._exp,
    functions.tanh: functions._tanh,
    functions.log: functions._log,
    functions.sigmoid: functions._sigmoid,
    functions.reciprocal: functions._reciprocal,
    functions.normal_below: functions._normal_below,
}
"""Functions that exist only inside kernels, and what gives their formula for a type of vector."""


class Whole:
    """Numba-like type of a vector of unsigned 64-bit whole numbers: what the random generator works on."""

    def __init__(self, width):
        self.width = width
        self.llvm = ir.VectorType(ir.IntType(64), width)


class Lanes:
    """A vector in the code that is being written: an LLVM value and its type (Vector, Mask or Whole)."""

    __array_ufunc__ = None  # a NumPy number times this is this's business

    def __init__(self, builder, value, kind):
        self.builder, self.value, self.kind = builder, value, kind

    def _with(self, value):
        return Lanes(self.builder, value, self.kind)

    def _operand(self, other) -> Any:
        if isinstance(other, Lanes):
            return other.value
        return number(self.builder, self.kind, other).value

    def _operate(self, floats, wholes, other):
        name = wholes if isinstance(self.kind, Whole) else floats
        return self._with(getattr(self.builder, name)(self.value, self._operand(other)))

    def __add__(self, other):
        return self._operate("fadd", "add", other)

    def __sub__(self, other):
        return self._operate("fsub", "sub", other)

    def __mul__(self, other):
        return self._operate("fmul", "mul", other)

    def __truediv__(self, other):
        return self._operate("fdiv", "udiv", other)

    def __xor__(self, other):
        return self._operate("xor", "xor", other)

    def __and__(self, other):
        return self._operate("and_", "and_", other)

    def __rshift__(self, other):
        return self._operate("lshr", "lshr", other)

    __radd__, __rmul__, __rxor__, __rand__ = __add__, __mul__, __xor__, __and__


def formula(function, builder, kind):
    """Make a kernel's formula a function on `Lanes` that writes its instructions at the builder's place.

    Args:
        function: a kernel, an intrinsic of `vectors.py`, or a function that exists only inside kernels.
        builder: where the instructions go.
        kind: the type of vector that the formula is for.
    """
    if function is like:  # a constant, written down as one
        return lambda x, value: number(builder, x.kind, value)
    if isinstance(function, _Intrinsic):
        return _instruction(function, builder)
    if function in _OVERLOADS:
        return formula(_OVERLOADS[function](kind), builder, kind)
    plain = function.py_func if isinstance(function, Dispatcher) else function
    names: dict[str, Any] = {
        name: formula(value, builder, kind) if _is_formula(value) else value
        for name, value in plain.__globals__.items()
        if name in plain.__code__.co_names
    }
    names["__builtins__"] = builtins
    return types.FunctionType(plain.__code__, names, plain.__name__, plain.__defaults__, plain.__closure__)


def _is_formula(value):
    return isinstance(value, _Intrinsic | Dispatcher) or (callable(value) and value in _OVERLOADS)


def _instruction(intrinsic, builder):
    """One intrinsic as a function on `Lanes` and Python numbers."""

    def write(*operands):
        kinds = [x.kind if isinstance(x, Lanes) else numba_types.float64 for x in operands]
        values = [x.value if isinstance(x, Lanes) else ir.Constant(DOUBLE, float(x)) for x in operands]
        signature, emit = intrinsic._defn(None, *kinds)
        return Lanes(builder, emit(None, builder, signature, values), signature.return_type)

    return write


def number(builder, kind, value):
    """The same number in every lane."""
    if isinstance(kind, Whole):
        return Lanes(builder, _constant(kind.llvm, int(value)), kind)
    exact = float(np.float32(value)) if kind.scalar is numba_types.float32 else float(value)
    return Lanes(builder, _constant(kind.llvm, exact), kind)


@functools.lru_cache(maxsize=4096)
def _constant(kind, value):
    """A constant vector: llvmlite keeps the text of the object, and would write that of another one anew."""
    return ir.Constant(kind, [value] * kind.count)


def widened(x):
    """The same numbers as float64."""
    if x.kind.scalar is numba_types.float64:
        return x
    kind = Vector(numba_types.float64, x.kind.width)
    return Lanes(x.builder, x.builder.fpext(x.value, kind.llvm), kind)


def chosen(mask, x, y):
    """The one x where the mask is true, else y."""
    return x._with(x.builder.select(mask.value, x.value, y.value))
