# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""What register tiles are emitted with: functions of LLVM code, loops over pointers, accumulators.

A tile keeps its accumulators (vectors) in registers while it walks loops whose lengths and strides are
runtime arguments, so that one compiled tile serves every layer of every shape; only its own size is fixed.
Each tile is a function of its own in LLVM's code: that keeps the registers of one from being mixed with
another's, and compiles fast. Addresses are counted in bytes and moved by adding, which needs the fewest
registers.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from unstuck.nn.kernels.vectors import BYTES, INT, load_vector, spread

REGISTERS = 32 if BYTES == 64 else 16
"""Vector registers of the machine."""

BYTE = ir.IntType(8)
POINTER = BYTE.as_pointer()


def function(module: Any, name: str, arguments: Sequence[Any], emit: Callable[..., None]) -> Any:
    """The LLVM function of this name in the module, emitted when it is not there yet."""
    if name in module.globals:
        return module.globals[name]
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    made.linkage = "internal"
    made.attributes.add("noinline")
    made.attributes.add("nounwind")
    builder = ir.IRBuilder(made.append_basic_block("entry"))
    emit(builder, *made.args)
    builder.ret_void()
    return made


def size_of(kind: Any) -> int:
    """Bytes of one number of a vector."""
    return 4 if isinstance(kind.element, ir.FloatType) else 8


def fields(builder: Any, table: Any, count: int) -> list[Any]:
    """Consecutive numbers of the program table."""
    return [builder.load(builder.gep(table, [INT(i)])) for i in range(count)]


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


def count(builder: Any, length: Any, body: Callable[[Any], None]) -> None:
    """Emit a loop that counts from 0; the length must be at least 1."""
    before = builder.block
    loop = builder.append_basic_block("count")
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(INT)
    index.add_incoming(INT(0), before)
    body(index)
    more = builder.add(index, INT(1))
    index.add_incoming(more, builder.block)
    done = builder.append_basic_block("counted")
    builder.cbranch(builder.icmp_signed("<", more, length), loop, done)
    builder.position_at_end(done)


def dispatch(
    builder: Any,
    name: str,
    sizes: Sequence[tuple[int, int]],
    rows: Any,
    columns: Any,
    kind: Any,
    arguments: Sequence[Any],
    given: Sequence[Any],
    emit_tile: Callable[[int, int, Any], Callable[..., None]],
) -> None:
    """Emit a call of the tile of rows x columns, of a size that is known when the kernel runs."""
    end = builder.append_basic_block("tiled")
    switch = builder.switch(builder.add(builder.mul(rows, INT(16)), columns), end)
    for r, c in sizes:
        block = builder.append_basic_block(f"tile_{r}_{c}")
        switch.add_case(INT(r * 16 + c), block)
        builder.position_at_end(block)
        full_name = f"{name}_{r}_{c}_{kind.element.intrinsic_name}"
        builder.call(function(builder.module, full_name, arguments, emit_tile(r, c, kind)), given)
        builder.branch(end)
    builder.position_at_end(end)


def on_stack(builder: Any, values: Any, count: int) -> Any:
    """A tuple of whole numbers as an array of them."""
    with builder.goto_entry_block():
        place = builder.alloca(INT, count)
    for i in range(count):
        builder.store(builder.extract_value(values, i), builder.gep(place, [INT(i)]))
    return place
