# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""What the rows of a program, the losses and the optimisers run: one operation for each.

An operation of a row gets the parameters, the gradients, the chunk's memory, the row, its two constants, the
numbers that the interpreter knows (`job.py`) and the order of the samples.
"""

from typing import Any

import numpy as np

from unstuck.nn.kernels import elementwise, losses, pooling, table, update
from unstuck.nn.kernels.dropout import drop
from unstuck.nn.kernels.job import (
    COUNT,
    DELTAS,
    EVALUATE,
    FIRST,
    MASKING,
    OUTPUTS,
    SCORES,
    SEED,
    SIZE,
    STATISTICS,
    STEP,
    TARGETS,
    TASK,
    TRAIN,
    VALID,
)
from unstuck.nn.kernels.normalise import (
    join_moments,
    join_slopes,
    moments,
    normalise,
    normalise_back,
    slope_sums,
)
from unstuck.nn.kernels.operation import Operation, caller, flat, operation
from unstuck.nn.kernels.outer import transpose
from unstuck.nn.kernels.softmax import softmax, softmax_back
from unstuck.nn.kernels.tiles import LENGTH
from unstuck.nn.kernels.vectors import at

_ROW = "vnnniFFii"
_LOSS = "FniIF"
_UPDATE = "vnnnIiIfFIII"
_TILE = "vnnni"
call_row, call_loss, call_update, call_tile = (caller(shape) for shape in (_ROW, _LOSS, _UPDATE, _TILE))


@operation(_ROW)
def tiles_row(params, gradients, memory, row, a, b, job, order):
    """CONTRACT, CORRELATE, BIAS and OUTER: a number of records (`tiles.py`), and the records."""
    records = flat(row)
    place = 1
    for _ in range(at(records, 0)):
        call_tile(at(records, place), (flat(params), 0, flat(gradients), 0, flat(memory), 0, records, place))
        place += at(records, place + LENGTH)


@operation(_ROW)
def softmax_row(params, gradients, memory, row, a, b, job, order):
    """SOFTMAX."""
    softmax(flat(memory), flat(row), 0)


@operation(_ROW)
def softmax_back_row(params, gradients, memory, row, a, b, job, order):
    """SOFTMAX_BACK."""
    softmax_back(flat(memory), flat(row), 0)


@operation(_ROW)
def clear_row(params, gradients, memory, row, a, b, job, order):
    """CLEAR."""
    row = flat(row)
    elementwise.clear(flat(memory), at(row, 1), at(row, 2))


@operation(_ROW)
def transpose_row(params, gradients, memory, row, a, b, job, order):
    """TRANSPOSE."""
    transpose(flat(memory), flat(row), 0)


@operation(_ROW)
def moments_row(params, gradients, memory, row, a, b, job, order):
    """MOMENTS."""
    known = flat(job)
    moments(flat(params), flat(memory), flat(row), 0, a, at(known, VALID), at(known, STATISTICS))


@operation(_ROW)
def join_moments_row(params, gradients, memory, row, a, b, job, order):
    """JOIN_MOMENTS."""
    known = flat(job)
    size, count, follow = at(known, SIZE), at(known, COUNT), at(known, TASK) == TRAIN
    join_moments(flat(params), flat(memory), flat(row), 0, a, b, size, count, at(known, STATISTICS), follow)


@operation(_ROW)
def normalise_row(params, gradients, memory, row, a, b, job, order):
    """NORMALISE."""
    normalise(flat(params), flat(memory), flat(row), 0)


@operation(_ROW)
def slope_sums_row(params, gradients, memory, row, a, b, job, order):
    """SLOPE_SUMS."""
    slope_sums(flat(memory), flat(row), 0, at(flat(job), VALID))


@operation(_ROW)
def join_slopes_row(params, gradients, memory, row, a, b, job, order):
    """JOIN_SLOPES."""
    known = flat(job)
    join_slopes(flat(gradients), flat(memory), flat(row), 0, at(known, SIZE), at(known, COUNT))


@operation(_ROW)
def normalise_back_row(params, gradients, memory, row, a, b, job, order):
    """NORMALISE_BACK."""
    normalise_back(flat(params), flat(memory), flat(row), 0, at(flat(job), VALID))


@operation(_ROW)
def drop_row(params, gradients, memory, row, a, b, job, order):
    """DROP."""
    known = flat(job)
    seed, step, first = np.uint64(at(known, SEED)), at(known, STEP), at(known, FIRST)
    drop(
        flat(memory), flat(row), 0, a, b, seed, step, flat(order), first, at(known, VALID), at(known, MASKING)
    )


def _named(function: Any, name: str, shape: str) -> Operation:
    """An operation whose code is made for a formula: its name tells it from the others on disk."""
    function.__name__ = function.__qualname__ = name
    return operation(shape)(function)


def _forward(value: Any) -> Operation:
    def row_of(params, gradients, memory, row, a, b, job, order):
        elementwise.forward(value, flat(memory), flat(row), 0, a, b)

    return _named(row_of, f"forward_{value.__name__}", _ROW)


def _pool(run: Any) -> Operation:
    def row_of(params, gradients, memory, row, a, b, job, order):
        run(flat(memory), flat(row), 0)

    return _named(row_of, f"pool_{run.__name__}", _ROW)


def _backward(slope: Any) -> Operation:
    def row_of(params, gradients, memory, row, a, b, job, order):
        elementwise.backward(slope, flat(memory), flat(row), 0, a, b)

    return _named(row_of, f"backward_{slope.__name__}", _ROW)


def _rule(rule: Any) -> Operation:
    def update_by(params, state, gradients, size, segments, tensors, numbers, rate, step, begin, end):
        params, state, gradients = flat(params), flat(state), flat(gradients)
        segments, numbers = flat(segments), flat(numbers)
        update.update(
            rule, params, state, gradients, size, segments, tensors, numbers, rate, step, begin, end
        )

    return _named(update_by, f"update_{rule.__name__}", _UPDATE)


def _summed(term: Any, slope: Any) -> Operation:
    def loss_of(memory, job, valid, scale):
        memory, known = flat(memory), flat(job)
        scores, targets, outputs = at(known, SCORES), at(known, TARGETS), at(known, OUTPUTS)
        lanes = elementwise.memory_lanes(memory)
        total = losses.summed_value(term, memory, scores, targets, outputs, lanes, valid)
        if at(known, TASK) != EVALUATE:
            deltas = at(known, DELTAS)
            losses.summed_gradient(slope, memory, scores, targets, deltas, outputs, lanes, valid, scale)
        return total

    return _named(loss_of, f"loss_{term.__name__}", _LOSS)


@operation(_LOSS)
def cross_entropy(memory, job, valid, scale):
    """CROSS_ENTROPY."""
    memory, known = flat(memory), flat(job)
    scores, targets, outputs = at(known, SCORES), at(known, TARGETS), at(known, OUTPUTS)
    lanes = elementwise.memory_lanes(memory)
    total = losses.cross_entropy_value(memory, scores, targets, outputs, lanes, valid)
    if at(known, TASK) != EVALUATE:
        deltas = at(known, DELTAS)
        losses.cross_entropy_gradient(memory, scores, targets, deltas, outputs, lanes, valid, scale)
    return total


@operation(_LOSS)
def likelihood(memory, job, valid, scale):
    """LIKELIHOOD."""
    memory, known = flat(memory), flat(job)
    scores, targets, outputs = at(known, SCORES), at(known, TARGETS), at(known, OUTPUTS)
    lanes = elementwise.memory_lanes(memory)
    total = losses.likelihood_value(memory, scores, targets, lanes, valid)
    if at(known, TASK) != EVALUATE:
        losses.likelihood_gradient(memory, targets, at(known, DELTAS), outputs, lanes, valid, scale)
    return total


LOSSES = {kind: _summed(term, losses.SLOPES[kind]) for kind, term in losses.TERMS.items()} | {
    table.CROSS_ENTROPY: cross_entropy,
    table.LIKELIHOOD: likelihood,
}
"""By the loss's kind."""
UPDATES = {kind: _rule(rule) for kind, rule in update.RULES.items()}
"""By the optimiser's kind."""
_ROWS = {
    table.SOFTMAX: softmax_row,
    table.SOFTMAX_BACK: softmax_back_row,
    table.CLEAR: clear_row,
    table.TRANSPOSE: transpose_row,
    table.MOMENTS: moments_row,
    table.JOIN_MOMENTS: join_moments_row,
    table.NORMALISE: normalise_row,
    table.SLOPE_SUMS: slope_sums_row,
    table.JOIN_SLOPES: join_slopes_row,
    table.NORMALISE_BACK: normalise_back_row,
    table.DROP: drop_row,
}
_KINDS = {
    table.FORWARD: {kind: _forward(value) for kind, value in elementwise.VALUES.items()},
    table.BACKWARD: {kind: _backward(slope) for kind, slope in elementwise.SLOPES.items()},
    table.POOL: {
        table.MAXIMUM: _pool(pooling.maximum),
        table.AVERAGE: _pool(pooling.average),
        table.QUARTERS: _pool(pooling.quarters),
    },
    table.POOL_BACK: {
        table.MAXIMUM: _pool(pooling.maximum_back),
        table.AVERAGE: _pool(pooling.average_back),
        table.QUARTERS: _pool(pooling.quarters_back),
    },
}


def row_operation(code: int, kind: int) -> Operation:
    """What runs a row that is not made of tiles: by its code, and its kind if it has one."""
    return _KINDS[code][kind] if code in _KINDS else _ROWS[code]
