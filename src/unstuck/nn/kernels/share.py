# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""How threads share one training inside compiled code: tasks that whoever is free takes in their order.

Every step is a number of tasks: first one for each part of the batch, then one for each share of the
update. A task of an update may begin when all parts of its step are done, a part when all of the step
before is done. Nobody waits for a thread that has no task, so a thread that the system does not let run
holds up nothing unless it stopped in the middle of one; the others do its work. What a task computes does
not depend on who does it.

Whoever finds nothing to do looks again for some microseconds and then lets others have the processor in
between.
"""

import llvmlite.binding
from llvmlite import ir
from numba import types

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.vectors import FEATURES, INT, address, intrinsic

# numbers that the threads share
NEXT, DONE, STEPS, STOP = 0, 8, 16, 24
"""The next task that nobody has taken; tasks that are done; steps to be made; whether someone outside wants
an end. Each in a cache line of its own."""
SHARED = 32

_LOOKS = 200
_YIELD = "sched_yield" if llvmlite.binding.address_of_symbol("sched_yield") else None


@intrinsic
def look(typingctx, shared, index):
    """A number as it is now, whoever wrote it."""

    def emit(context, builder, signature, args):
        return builder.load_atomic(address(context, builder, signature.args[0], *args), "seq_cst", 8)

    return types.int64(shared, types.int64), emit


@intrinsic
def _add_one(typingctx, shared, index):
    """Add 1, seen by all threads together with all that was written before."""

    def emit(context, builder, signature, args):
        place = address(context, builder, signature.args[0], *args)
        builder.atomic_rmw("add", place, INT(1), "seq_cst")
        return context.get_dummy_value()

    return types.void(shared, types.int64), emit


@intrinsic
def _advance(typingctx, shared, index, found):
    """Add 1 if the number is still what was found; whether it was."""

    def emit(context, builder, signature, args):
        place = address(context, builder, signature.args[0], args[0], args[1])
        result = builder.cmpxchg(place, args[2], builder.add(args[2], INT(1)), "seq_cst", "seq_cst")
        return builder.extract_value(result, 1)

    return types.boolean(shared, types.int64, types.int64), emit


def _call(name):
    @intrinsic
    def call(typingctx):
        def emit(context, builder, signature, args):
            if name is not None:
                result = ir.VoidType() if name.startswith("llvm") else ir.IntType(32)
                kind = ir.FunctionType(result, [])
                builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [])
            return context.get_dummy_value()

        return types.void(), emit

    return call


_pause = _call("llvm.x86.sse2.pause" if FEATURES.get("sse2") else None)
_give_way = _call(_YIELD)


@kernel
def take(shared, parts, updates):
    """The number of a task that may begin, or -1 when all steps are made."""
    each = parts + updates
    looks = 0
    while True:
        task = look(shared, NEXT)
        step = task // each
        needed = step * each + (parts if task - step * each >= parts else 0)
        if look(shared, DONE) >= needed:
            if step >= look(shared, STEPS):
                return -1
            if _advance(shared, NEXT, task):
                return task
        looks += 1
        if looks < _LOOKS:
            _pause()
        else:
            _give_way()


@kernel
def finish(shared):
    """A task is done."""
    _add_one(shared, DONE)
