# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""The interpreter: runs a network's table over chunks of samples, and the whole training loop around it.

There is one compiled function for each number type, for all networks and all tasks (`execute`). A chunk is
as many samples as a vector has lanes; a batch is cut into chunks from its start, and their gradients are
added in that order.
"""

from unstuck.nn.kernels.contract import contract
from unstuck.nn.kernels.correlate import correlate, sum_biases
from unstuck.nn.kernels.elementwise import backward, clear, forward, memory_lanes
from unstuck.nn.kernels.jit import entry, inlined
from unstuck.nn.kernels.losses import loss_gradient, loss_value
from unstuck.nn.kernels.outer import outer, transpose
from unstuck.nn.kernels.pooling import pool, pool_back
from unstuck.nn.kernels.samples import gather, scatter
from unstuck.nn.kernels.shuffle import shuffle
from unstuck.nn.kernels.softmax import softmax, softmax_back
from unstuck.nn.kernels.table import (
    BACKWARD,
    BIAS,
    CLEAR,
    CONTRACT,
    CORRELATE,
    CROSS_ENTROPY,
    FORWARD,
    LIKELIHOOD,
    NO_LOSS,
    OUTER,
    POOL,
    POOL_BACK,
    SOFTMAX,
    SOFTMAX_BACK,
    TRANSPOSE,
    WIDTH,
)
from unstuck.nn.kernels.update import SCALE, update
from unstuck.nn.kernels.vectors import at, flush_denormals, restore_denormals

# fields of `job`
(
    FORWARD_ROWS,  # rows of the table that make the forward pass
    ROWS,  # all rows
    LOSS,  # kind of loss, or NO_LOSS
    OUTPUTS,  # numbers that the loss takes from one sample
    SCORES,  # where in memory they stand
    DELTAS,  # where their gradient goes
    TARGETS,  # where the targets go
    TASK,  # EVALUATE, ACCUMULATE or TRAIN
    BATCH,  # samples in a batch
    FIRST_STEP,
    LAST_STEP,
    SHUFFLE,  # 1: another order every epoch; 0: the order given
    RULE,  # kind of optimiser
) = range(13)
JOB_FIELDS = 13

EVALUATE, ACCUMULATE, TRAIN = range(3)


@inlined
def operate(params, gradients, memory, table, constants, row):
    """Run one row of the table."""
    t = row * WIDTH
    code = at(table, t)
    if code == CONTRACT:
        contract(params, memory, table, t)
    elif code == CORRELATE:
        correlate(memory, gradients, table, t)
    elif code == BIAS:
        sum_biases(memory, gradients, table, t)
    elif code == FORWARD:
        forward(memory, table, t, constants[row, 0], constants[row, 1])
    elif code == BACKWARD:
        backward(memory, table, t, constants[row, 0], constants[row, 1])
    elif code == POOL:
        pool(memory, table, t)
    elif code == POOL_BACK:
        pool_back(memory, table, t)
    elif code == SOFTMAX:
        softmax(memory, table, t)
    elif code == SOFTMAX_BACK:
        softmax_back(memory, table, t)
    elif code == TRANSPOSE:
        transpose(memory, table, t)
    elif code == OUTER:
        outer(memory, gradients, table, t)
    elif code == CLEAR:
        clear(memory, at(table, t + 1), at(table, t + 2))


@inlined
def sweep(
    job, scale, params, gradients, memory, table, constants, places, inputs, targets, order, first, count, out
):
    """Forward, loss and (unless the task is EVALUATE) backward over `count` samples; the sum of their losses.

    `places`: (3, 7) of the input, the target and the exported output buffer (see `samples`); `out` receives
    the exported outputs of sample `first + i` in row `first + i`, unless it is empty.
    """
    lanes = memory_lanes(memory)
    total = 0.0
    for start in range(first, first + count, lanes):
        valid = min(lanes, first + count - start)
        gather(memory, places[0], inputs, order, start, valid, lanes)
        if job[LOSS] != NO_LOSS:
            gather(memory, places[1], targets, order, start, valid, lanes)
        for row in range(job[FORWARD_ROWS]):
            operate(params, gradients, memory, table, constants, row)
        if job[LOSS] != NO_LOSS:
            total += loss_value(job[LOSS], memory, job[SCORES], job[TARGETS], job[OUTPUTS], lanes, valid)
            if job[TASK] != EVALUATE:
                loss_gradient(
                    job[LOSS],
                    memory,
                    job[SCORES],
                    job[TARGETS],
                    job[DELTAS],
                    job[OUTPUTS],
                    lanes,
                    valid,
                    scale,
                )
                for row in range(job[FORWARD_ROWS], job[ROWS]):
                    operate(params, gradients, memory, table, constants, row)
        if out.size > 0:
            scatter(memory, places[2], out, start, valid)
    return total


@entry
def execute(
    job,
    numbers,
    rates,
    seed,
    segments,
    params,
    state,
    gradients,
    memory,
    table,
    constants,
    places,
    inputs,
    targets,
    order,
    losses,
    out,
):
    """Evaluate, accumulate a gradient, or train from step FIRST_STEP to before LAST_STEP.

    `numbers`: the optimiser's (see `update.py`); `rates`: the learning rate of each step that is made here.
    EVALUATE and ACCUMULATE are one step whose batch is all samples of `order`, without an update.
    losses[i] receives the sum of the losses of the i-th step's batch. One that is not
    finite ends the training.
    Returns the number of steps made.
    """
    denormals = flush_denormals()
    training = job[TASK] == TRAIN
    samples = order.size
    batch = job[BATCH] if training else samples
    per_sample = job[LOSS] == CROSS_ENTROPY or job[LOSS] == LIKELIHOOD
    per_output = 1.0 if per_sample else float(job[OUTPUTS])
    steps_per_epoch = (samples + batch - 1) // batch
    shuffled = -1
    step = job[FIRST_STEP]
    while step < job[LAST_STEP]:
        epoch = step // steps_per_epoch
        if training and job[SHUFFLE] and epoch != shuffled:
            shuffle(order, seed, epoch)
            shuffled = epoch
        if job[TASK] != EVALUATE:
            for s in range(segments.shape[0]):
                for i in range(segments[s, 0], segments[s, 0] + segments[s, 1]):
                    gradients[i] = 0
        first = (step - epoch * steps_per_epoch) * batch
        count = min(batch, samples - first)
        scale = numbers[SCALE] / (count * per_output)
        loss = sweep(
            job,
            scale,
            params,
            gradients,
            memory,
            table,
            constants,
            places,
            inputs,
            targets,
            order,
            first,
            count,
            out,
        )
        done = step - job[FIRST_STEP]
        losses[done] = loss
        step += 1
        if training:
            if loss - loss != 0.0:  # NaN or infinite
                break
            update(job[RULE], params, state, gradients, segments, numbers, rates[done], step - 1)
    restore_denormals(denormals)
    return step - job[FIRST_STEP]
