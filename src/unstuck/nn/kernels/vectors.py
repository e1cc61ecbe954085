# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""Explicit SIMD inside Numba: a vector type <W x float> and the few operations that the kernels need.

A vector holds one number for each of W *lanes*. Lanes are samples (mini-batches); weights are scalars that
are spread over all lanes. W is 16 for float32 and 8 for float64 with AVX-512, half of it with AVX2, and a
quarter elsewhere. Operations have no fast-math flags: a lane's result does not depend on its neighbours,
and sums are made in the order in which they are written.
"""

import operator
import os
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, overload, register_model

FEATURES = llvmlite.binding.get_host_cpu_features()
BYTES = 64 if FEATURES.get("avx512f") else 32 if FEATURES.get("avx2") else 16
if "UNSTUCK_VECTOR_BYTES" in os.environ:  # pin a study to the narrowest width of its machines
    BYTES = min(BYTES, max(16, int(os.environ["UNSTUCK_VECTOR_BYTES"])))

intrinsic: Any = extending.intrinsic  # calls of intrinsics lack the context that Numba adds

INT = ir.IntType(64)


def lanes(itemsize: int) -> int:
    """Numbers in a vector: 16 float32 or 8 float64 with AVX-512."""
    return BYTES // itemsize


class Vector(types.Type):
    """Numba's type of a vector of floats; of as many as the processor has lanes, unless told otherwise."""

    def __init__(self, scalar, width=None):
        self.scalar = scalar
        self.width = lanes(scalar.bitwidth // 8) if width is None else width
        super().__init__(name=f"Vector({scalar} x {self.width})")

    @property
    def llvm(self):
        """LLVM's type."""
        return ir.VectorType(ir.FloatType() if self.scalar is types.float32 else ir.DoubleType(), self.width)

    @property
    def integers(self):
        """LLVM's type of as many integers of the same size."""
        return ir.VectorType(ir.IntType(self.scalar.bitwidth), self.width)


class Mask(types.Type):
    """Numba's type of one truth value a lane."""

    def __init__(self, width):
        self.width = width
        super().__init__(name=f"Mask({width})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, fe_type.llvm)


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, ir.VectorType(ir.IntType(1), fe_type.width))


VECTORS = {types.float32: Vector(types.float32), types.float64: Vector(types.float64)}


def spread(builder, kind, number):
    """Emit the vector that holds `number` in every lane."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None)  # all 0
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), order)


def address(context, builder, array_type, array, index):
    """Emit the address of `array[index]` of a flat contiguous array, without wrap-around of negatives."""
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def load_vector(builder, kind, pointer):
    """Emit an unaligned load."""
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4)


def store_vector(builder, kind, value, pointer):
    """Emit an unaligned store."""
    builder.store(value, builder.bitcast(pointer, kind.as_pointer()), align=4)


def fused(builder, kind, x, y, z):
    """Emit x*y + z with one rounding."""
    name = f"llvm.fma.v{kind.count}f{32 if isinstance(kind.element, ir.FloatType) else 64}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, [x, y, z])


@intrinsic
def load(typingctx, array, index):
    """W consecutive numbers of a flat array from `index` on."""
    vector = VECTORS[array.dtype]

    def emit(context, builder, signature, args):
        return load_vector(builder, vector.llvm, address(context, builder, signature.args[0], *args))

    return vector(array, types.int64), emit


@intrinsic
def store(typingctx, array, index, value):
    """Write W consecutive numbers."""

    def emit(context, builder, signature, args):
        pointer = address(context, builder, signature.args[0], args[0], args[1])
        store_vector(builder, value.llvm, args[2], pointer)
        return context.get_dummy_value()

    return types.void(array, types.int64, value), emit


@intrinsic
def at(typingctx, array, index):
    """`array[index]` without the test for negative indices."""

    def emit(context, builder, signature, args):
        return builder.load(address(context, builder, signature.args[0], *args))

    return array.dtype(array, types.int64), emit


@intrinsic
def put(typingctx, array, index, value):
    """`array[index] = value` without the test for negative indices."""

    def emit(context, builder, signature, args):
        builder.store(args[2], address(context, builder, signature.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), emit


@intrinsic
def splat(typingctx, array, number):
    """The vector of the array's type with `number` in every lane (a float64, rounded to the type)."""
    vector = VECTORS[array.dtype]

    def emit(context, builder, signature, args):
        value = args[1]
        if vector.scalar is types.float32:
            value = builder.fptrunc(value, ir.FloatType())
        return spread(builder, vector.llvm, value)

    return vector(array, types.float64), emit


@intrinsic
def lane_numbers(typingctx, array):
    """The vector 0, 1, 2, ... of the array's type."""
    vector = VECTORS[array.dtype]

    def emit(context, builder, signature, args):
        return ir.Constant(vector.llvm, [float(lane) for lane in range(vector.width)])

    return vector(array), emit


@intrinsic
def like(typingctx, vector, number):
    """A vector of the same type as `vector` with the float64 `number` in every lane."""

    def emit(context, builder, signature, args):
        value = args[1] if vector.scalar is types.float64 else builder.fptrunc(args[1], ir.FloatType())
        return spread(builder, vector.llvm, value)

    return vector(vector, types.float64), emit


@intrinsic
def fma(typingctx, x, y, z):
    """x*y + z, rounded once."""

    def emit(context, builder, signature, args):
        return fused(builder, x.llvm, *args)

    return x(x, x, x), emit


@intrinsic
def square_root(typingctx, x):
    """The square root of every lane, rounded correctly; NaN below 0."""

    def emit(context, builder, signature, args):
        kind = x.llvm
        name = f"llvm.sqrt.v{kind.count}f{x.scalar.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
        return builder.call(function, [args[0]])

    return x(x), emit


@intrinsic
def negative(typingctx, x):
    """-x; a fused multiplication takes it in at no cost."""

    def emit(context, builder, signature, args):
        return builder.fneg(args[0])

    return x(x), emit


@intrinsic
def power_of_two(typingctx, x, magic):
    """2**n, where `magic` = n + bias of the exponent + 1.5 * 2**(mantissa bits); n in the normal range."""

    def emit(context, builder, signature, args):
        bits = 23 if x.scalar is types.float32 else 52
        whole = builder.bitcast(args[1], x.integers)
        moved = builder.shl(whole, ir.Constant(x.integers, [bits] * x.width))
        return builder.bitcast(moved, x.llvm)

    return x(x, x), emit


def _binary(emitter):
    @intrinsic
    def operation(typingctx, x, y):
        def emit(context, builder, signature, args):
            return getattr(builder, emitter)(*args)

        return x(x, x), emit

    return operation


def _comparison(relation, *, ordered=True):
    @intrinsic
    def operation(typingctx, x, y):
        def emit(context, builder, signature, args):
            compare = builder.fcmp_ordered if ordered else builder.fcmp_unordered
            return compare(relation, *args)

        return Mask(x.width)(x, x), emit

    return operation


_add, _sub, _mul, _div = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv"))
greater, less, equal = (_comparison(relation) for relation in (">", "<", "=="))
less_or_greater = _comparison("!=")
"""False where either side is NaN."""
different = _comparison("!=", ordered=False)
"""True also where either side is NaN, as in IEEE 754."""


def _operator(symbol, function):
    @overload(symbol)
    def implementation(a, b):
        if isinstance(a, Vector) and isinstance(b, Vector):
            return lambda a, b: function(a, b)  # noqa: PLW0108  Numba wants an implementation of its own
        return None


for _symbol, _function in (
    (operator.add, _add),
    (operator.sub, _sub),
    (operator.mul, _mul),
    (operator.truediv, _div),
):
    _operator(_symbol, _function)


@intrinsic
def select(typingctx, mask, x, y):
    """X where the mask is true, else y."""

    def emit(context, builder, signature, args):
        return builder.select(*args)

    return x(mask, x, x), emit


@intrinsic
def either(typingctx, first, second):
    """Lane-wise `or` of two masks."""

    def emit(context, builder, signature, args):
        return builder.or_(*args)

    return first(first, first), emit


@intrinsic
def scale_by_power(typingctx, x, magic):
    """X * 2**n, where `magic` = n + 1.5 * 2**(mantissa bits): the integer n stands in its lowest bits."""

    def emit(context, builder, signature, args):
        integers = x.integers
        shift = ir.Constant(integers, [23 if x.scalar is types.float32 else 52] * x.width)
        moved = builder.shl(builder.bitcast(args[1], integers), shift)
        return builder.bitcast(builder.add(builder.bitcast(args[0], integers), moved), x.llvm)

    return x(x, x), emit


def _split(builder, x, value):
    """Emit n and f with value = f * 2**n and f from the root of 1/2 to that of 2, both as integers."""
    single = x.scalar is types.float32
    bits, half = (23, 0x3F3504F3) if single else (52, 0x3FE6A09E667F3BCD)
    whole = builder.bitcast(value, x.integers)
    moved = builder.sub(whole, ir.Constant(x.integers, [half] * x.width))
    n = builder.ashr(moved, ir.Constant(x.integers, [bits] * x.width))
    return n, builder.sub(whole, builder.shl(n, ir.Constant(x.integers, [bits] * x.width)))


@intrinsic
def power_part(typingctx, x):
    """The whole number n of x = f * 2**n, f from the root of 1/2 to that of 2; x positive and normal."""

    def emit(context, builder, signature, args):
        return builder.sitofp(_split(builder, x, args[0])[0], x.llvm)

    return x(x), emit


@intrinsic
def fraction_part(typingctx, x):
    """The f of x = f * 2**n, see `power_part`."""

    def emit(context, builder, signature, args):
        return builder.bitcast(_split(builder, x, args[0])[1], x.llvm)

    return x(x), emit


@intrinsic
def rough_reciprocal(typingctx, x):
    """1 / x within 5.1 %, from the bits of x alone; x positive and normal.

    The bits of a number are nearly its logarithm, so a constant less them is nearly that of its reciprocal.
    Whole-number arithmetic: the same bits on every machine, unlike the processors' own estimates.
    """

    def emit(context, builder, signature, args):
        constant = 0x7EF311C7 if x.scalar is types.float32 else 0x7FDE6238DA3C2118
        whole = builder.bitcast(args[0], x.integers)
        return builder.bitcast(builder.sub(ir.Constant(x.integers, [constant] * x.width), whole), x.llvm)

    return x(x), emit


def lane_sums(builder, vectors):
    """Emit the vector whose lane i is the sum over the lanes of vectors[i] (up to W), in a fixed order.

    Two vectors become one: in every other lane it holds a sum of two lanes of the first, between them a sum
    of two lanes of the second. Two of those become one in the same way, with lanes two apart, and so on. That
    takes about two instructions for each vector.
    """
    pile = list(vectors)
    width = pile[0].type.count
    apart = 1
    while apart < width:
        if len(pile) % 2 and len(pile) > 1:
            pile.append(pile[-1])
        pairs = [(pile[i], pile[min(i + 1, len(pile) - 1)]) for i in range(0, len(pile), 2)]
        pile = [_fold(builder, x, y, apart) for x, y in pairs]
        apart *= 2
    return pile[0]


def _fold(builder, x, y, apart):
    """Sums of lanes that are `apart`: of x where that bit of the lane's number is 0, of y where it is 1."""
    width = x.type.count
    order = ir.VectorType(ir.IntType(32), width)
    own = [i + (width if i & apart else 0) for i in range(width)]
    kept = builder.shuffle_vector(x, y, ir.Constant(order, own))
    moved = builder.shuffle_vector(x, y, ir.Constant(order, [i ^ apart for i in own]))
    return builder.fadd(kept, moved)


@intrinsic
def lane_sum(typingctx, x):
    """Sum over the lanes of one vector, in a fixed order."""

    def emit(context, builder, signature, args):
        return builder.extract_element(lane_sums(builder, [args[0]]), ir.Constant(ir.IntType(32), 0))

    return x.scalar(x), emit


@intrinsic
def lane_sums_at(typingctx, array, index):
    """The vector whose lane i is the sum over the lanes of the i-th vector that stands from a place on."""
    vector = VECTORS[array.dtype]

    def emit(context, builder, signature, args):
        places = [builder.add(args[1], INT(i * vector.width)) for i in range(vector.width)]
        pointers = [address(context, builder, signature.args[0], args[0], place) for place in places]
        return lane_sums(builder, [load_vector(builder, vector.llvm, pointer) for pointer in pointers])

    return vector(array, types.int64), emit


@intrinsic
def flush_denormals(typingctx):
    """Set flush-to-zero for this thread and return the state before (x86; elsewhere nothing happens)."""

    def emit(context, builder, signature, args):
        slot = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
        if FEATURES.get("sse2"):
            pointer = builder.bitcast(slot, ir.IntType(8).as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            read = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr")
            write = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
            builder.call(read, [pointer])
            before = builder.load(slot)
            builder.store(builder.or_(before, ir.Constant(ir.IntType(32), 0x8040)), slot)
            builder.call(write, [pointer])
            return before
        return builder.load(slot)

    return types.uint32(), emit


@intrinsic
def restore_denormals(typingctx, state):
    """Put back what `flush_denormals` returned."""

    def emit(context, builder, signature, args):
        if FEATURES.get("sse2"):
            slot = cgutils.alloca_once_value(builder, args[0])
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            write = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
            builder.call(write, [builder.bitcast(slot, ir.IntType(8).as_pointer())])
        return context.get_dummy_value()

    return types.void(types.uint32), emit
