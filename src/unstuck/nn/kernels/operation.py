# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Kernels that the interpreter calls by their addresses, each compiled when a program first needs it.

A network needs a dozen of them, the library has sixty: what is not used is never compiled, and a new kernel
costs nothing to those who do not use it.
"""

import threading
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.ccallback import CFunc
from numba.np import arrayobj

from unstuck.nn.kernels.jit import COMMON, cache_folder, private_cache
from unstuck.nn.kernels.vectors import INT, intrinsic

KINDS = {4: types.float32, 8: types.float64}
"""Numba's type of numbers of so many bytes."""
_FAR = 1 << 40


class Operation:
    """A kernel for each number type, compiled on first use and kept on disk."""

    def __init__(self, function: Any, shape: str) -> None:
        """An operation that is not compiled yet.

        Args:
            function: the kernel.
            shape: types of the result and the arguments, one letter each: n pointer to numbers of the
                program's type, i pointer to whole numbers, f pointer to float64, I whole number, F float64,
                v nothing.
        """
        self._shape = shape
        self._function = function
        self._compiled = dict[int, Any]()
        self._lock = threading.Lock()

    def address(self, itemsize: int) -> int:
        """Where the machine code for numbers of so many bytes stands; compiles it if need be."""
        with self._lock:
            if itemsize not in self._compiled:
                made: Any = CFunc(self._function, _signature(self._shape, itemsize), {}, dict(COMMON))
                if cache_folder() is not None:
                    made._cache = private_cache(self._function)
                made.compile()
                self._compiled[itemsize] = made
            return int(self._compiled[itemsize].address)


def operation(shape: str) -> Any:
    """Decorates a kernel that is called by its address; `shape`: see `Operation`."""
    return lambda function: Operation(function, shape)


def _signature(shape: str, itemsize: int) -> tuple[tuple[Any, ...], Any]:
    kinds = {
        "n": types.CPointer(KINDS[itemsize]),
        "i": types.CPointer(types.int64),
        "f": types.CPointer(types.float64),
        "I": types.int64,
        "F": types.float64,
        "v": types.void,
    }
    result, *arguments = (kinds[letter] for letter in shape)
    return tuple(arguments), result


@intrinsic
def flat(typingctx, pointer):
    """The numbers behind a pointer as an array, of which nobody knows where it ends."""
    kind = types.Array(pointer.dtype, 1, "C")

    def emit(context, builder, signature, args):
        array = context.make_array(kind)(context, builder)
        size = pointer.dtype.bitwidth // 8
        arrayobj.populate_array(
            array,
            data=args[0],
            shape=[INT(_FAR)],
            strides=[INT(size)],
            itemsize=INT(size),
            meminfo=None,
        )
        return array._getvalue()

    return kind(pointer), emit


def caller(shape: str) -> Any:
    """Emits the call of an operation by its address. Pointers are given as a flat array and a place in it.

    Called with the address, then for each argument its value, for a pointer two: array and place.
    """
    result, letters = shape[0], shape[1:]

    @intrinsic
    def call(typingctx, where, given):
        returned = types.float64 if result == "F" else types.void

        def emit(context, builder, signature, args):
            kinds = list(signature.args[1])
            values = [builder.extract_value(args[1], i) for i in range(len(kinds))]
            passed = list[Any]()
            for letter in letters:
                kind, value = kinds.pop(0), values.pop(0)
                if letter.islower():
                    place = values.pop(0)
                    kinds.pop(0)
                    value = builder.gep(context.make_array(kind)(context, builder, value).data, [place])
                passed.append(value)
            answer = ir.DoubleType() if result == "F" else ir.VoidType()
            kind = ir.FunctionType(answer, [value.type for value in passed])
            found = builder.call(builder.inttoptr(args[0], kind.as_pointer()), passed)
            return found if result == "F" else context.get_dummy_value()

        return returned(types.int64, given), emit

    return call
