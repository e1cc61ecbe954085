# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""What register tiles are emitted with: functions of LLVM code, loops over pointers, accumulators.

A tile keeps its accumulators (vectors) in registers while it walks loops whose lengths and strides are
read from a record, so that one compiled tile serves every layer of every shape; only its own size is fixed.
A row's records are written once for a program, by plain Python (`plan` in `contract.py` and its like). Each
tile is a function of its own, compiled by LLVM alone in some hundredths of a second when a program first
needs it. Addresses are counted in bytes and moved by adding, which needs the fewest registers.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types

from unstuck.nn.kernels import native
from unstuck.nn.kernels.jit import cache_folder
from unstuck.nn.kernels.vectors import BYTES, INT, VECTORS, load_vector, spread

REGISTERS = 32 if BYTES == 64 else 16
"""Vector registers of the machine."""

BYTE = ir.IntType(8)
POINTER = BYTE.as_pointer()


LENGTH = 1
"""Every record begins with the address of its tile and its own length."""

Emit = Callable[[Any, Any, Any, Any, Any, Any], None]
"""Writes a tile: builder, type of its vectors; pointers to parameters, gradients, memory, and the record."""


class Tile:
    """A function of LLVM code: sums of products that stay in registers, of rows x columns vectors."""

    def __init__(self, name: str, emit: Emit) -> None:
        """A tile that is not compiled yet; the name is known to no other."""
        self.name = name
        self._emit = emit
        self._engines = dict[int, Any]()
        self._lock = threading.Lock()

    def address(self, itemsize: int) -> int:
        """Where the code for numbers of so many bytes stands; compiled on first use and kept on disk."""
        with self._lock:
            name = f"{self.name}_{8 * itemsize}"
            if itemsize not in self._engines:
                folder = cache_folder()
                path = None if folder is None else folder / f"{name}.o"
                self._engines[itemsize] = native.loaded(path, lambda: self._text(name, itemsize))
            return int(self._engines[itemsize].get_function_address(name))

    def _text(self, name: str, itemsize: int) -> str:
        kind = VECTORS[types.float32 if itemsize == 4 else types.float64].llvm
        module = ir.Module(name)
        made = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER] * 3 + [INT.as_pointer()]), name)
        made.attributes.add("nounwind")
        builder = ir.IRBuilder(made.append_basic_block("entry"))
        self._emit(builder, kind, *made.args)
        builder.ret_void()
        return str(module)


def record(tile: Tile, itemsize: int, numbers: Sequence[int]) -> list[int]:
    """What a tile is called with, as whole numbers."""
    return [tile.address(itemsize), 2 + len(numbers), *numbers]


def size_of(kind: Any) -> int:
    """Bytes of one number of a vector."""
    return 4 if isinstance(kind.element, ir.FloatType) else 8


def fields(builder: Any, record: Any, count: int) -> list[Any]:
    """The first numbers of a record, behind its address and length."""
    return [builder.load(builder.gep(record, [INT(2 + i)])) for i in range(count)]


def places(builder: Any, kind: Any, starts: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Pointers to numbers: of each a pointer to the first of all and how many lie before."""
    return [moved(builder, start, builder.mul(offset, INT(size_of(kind)))) for start, offset in starts]


def in_bytes(builder: Any, kind: Any, strides: Sequence[Any]) -> list[Any]:
    """Strides counted in bytes instead of numbers."""
    return [builder.mul(stride, INT(size_of(kind))) for stride in strides]


def multiples(builder: Any, stride: Any, count: int) -> list[Any]:
    """0, 1, ..., count - 1 times a stride, of which addressing modes make many from few registers.

    x86 multiplies by 1, 2, 4 and 8 in an address. The odd multiples are hidden from the optimiser, which
    would otherwise add up all of them one by one, each waiting for the one before.
    """
    odd = dict[int, Any]()
    found = list[Any]()
    for i in range(count):
        shift = 0 if i == 0 else (i & -i).bit_length() - 1
        factor = i >> shift
        if factor > 1 and factor not in odd:
            odd[factor] = _hidden(builder, builder.mul(stride, INT(factor)))
        base = INT(0) if i == 0 else odd.get(factor, stride)
        found.append(builder.shl(base, INT(shift)) if shift else base)
    return found


def _hidden(builder: Any, value: Any) -> Any:
    """The same number or pointer, of which the optimiser knows nothing: an empty piece of assembly."""
    kind = value.type
    return builder.asm(ir.FunctionType(kind, [kind]), "", "=r,0", [value], side_effect=False)


def moved(builder: Any, pointer: Any, distance: Any) -> Any:
    """A pointer so many bytes further."""
    return builder.gep(pointer, [distance])


def number(builder: Any, kind: Any, pointer: Any) -> Any:
    """A vector with the number at `pointer` in every lane."""
    return spread(builder, kind, builder.load(builder.bitcast(pointer, kind.element.as_pointer())))


def numbers(builder: Any, kind: Any, pointer: Any) -> Any:
    """The vector that begins at `pointer`."""
    return load_vector(builder, kind, pointer)


def walk(
    builder: Any,
    lengths: Sequence[Any],
    pointers: Sequence[Any],
    strides: Sequence[Sequence[Any]],
    body: Callable[..., None],
) -> list[Any]:
    """Emit nested loops that move pointers; returns the pointers after them.

    `strides[i]` belong to `pointers[i]`, one for each loop. Every length must be at least 1. There is one
    running pointer for all loops, not one for each, since registers are scarce: at the end of an inner loop
    it is moved by what is missing to the outer loop's stride. Inside it is hidden from the optimiser, which
    would keep a pointer of its own for each thing that is read at some distance from it.
    """
    before = builder.block
    loop = builder.append_basic_block("loop")
    if len(lengths) > 1:
        steps = [builder.sub(own[0], builder.mul(lengths[1], own[1])) for own in strides]
    else:
        steps = [own[0] for own in strides]
    builder.branch(loop)
    builder.position_at_end(loop)
    left = builder.phi(INT)
    left.add_incoming(lengths[0], before)
    here = [builder.phi(POINTER) for _ in pointers]
    for phi, pointer in zip(here, pointers, strict=True):
        phi.add_incoming(pointer, before)
    if len(lengths) > 1:
        inside = walk(builder, lengths[1:], here, [own[1:] for own in strides], body)
    else:
        inside = [_hidden(builder, phi) for phi in here]
        body(*inside)
    after = [moved(builder, pointer, step) for pointer, step in zip(inside, steps, strict=True)]
    for phi, pointer in zip(here, after, strict=True):
        phi.add_incoming(pointer, builder.block)
    less = builder.sub(left, INT(1))
    left.add_incoming(less, builder.block)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("!=", less, INT(0)), loop, done)
    builder.position_at_end(done)
    return after
