# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""The interpreter: runs a network's table over chunks of samples, and the whole training loop around it.

There is one compiled function for each number type, for all networks and all tasks (`execute`). A chunk is
as many samples as a vector has lanes; a batch is cut into chunks from its start, and their gradients are
added in that order.

A program is a list of stages: rows that each chunk runs by itself, and then perhaps one row that joins all
chunks of the batch (batch normalisation). Without such a row a chunk goes through all stages before the next
one begins, in the same memory; with one, all chunks go through a stage, each in its own memory, before the
next stage begins.
"""

import math

from unstuck.nn.kernels.contract import contract
from unstuck.nn.kernels.correlate import correlate, sum_biases
from unstuck.nn.kernels.dropout import drop
from unstuck.nn.kernels.elementwise import backward, clear, forward, memory_lanes
from unstuck.nn.kernels.jit import entry, inlined
from unstuck.nn.kernels.losses import loss_gradient, loss_value
from unstuck.nn.kernels.normalise import (
    join_moments,
    join_slopes,
    moments,
    normalise,
    normalise_back,
    slope_sums,
)
from unstuck.nn.kernels.outer import outer, transpose
from unstuck.nn.kernels.pooling import pool, pool_back
from unstuck.nn.kernels.samples import gather, scatter
from unstuck.nn.kernels.share import STEPS, STOP, finish, look, take
from unstuck.nn.kernels.shuffle import shuffle
from unstuck.nn.kernels.softmax import softmax, softmax_back
from unstuck.nn.kernels.table import (
    BACKWARD,
    BIAS,
    CLEAR,
    CONTRACT,
    CORRELATE,
    CROSS_ENTROPY,
    DROP,
    FORWARD,
    JOIN_MOMENTS,
    JOIN_SLOPES,
    LIKELIHOOD,
    MOMENTS,
    NO_LOSS,
    NORMALISE,
    NORMALISE_BACK,
    OUTER,
    POOL,
    POOL_BACK,
    SLOPE_SUMS,
    SOFTMAX,
    SOFTMAX_BACK,
    TRANSPOSE,
    WIDTH,
)
from unstuck.nn.kernels.update import CLIP_NORM, SCALE, add_parts, update
from unstuck.nn.kernels.vectors import at, flush_denormals, restore_denormals

# fields of `job`
(
    FORWARD_STAGES,  # stages of the forward pass
    STAGES,  # stages that are run
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
    SIZE,  # numbers in the memory of a chunk
    WHOLE,  # 1: all chunks of a batch are in memory together
    STATISTICS,  # 1: batch normalisation by the batch; 0: by the running statistics
    MASKING,  # 1: dropout draws masks; 0: it passes everything
    PARTS,  # parts of a batch, each with gradients of its own
) = range(18)
JOB_FIELDS = 18

EVALUATE, ACCUMULATE, TRAIN = range(3)


# fields of a stage
FIRST_ROW, END_ROW, JOIN_ROW = range(3)
"""Rows that each chunk runs, and the row that then joins the chunks, or -1."""


@inlined
def operate(params, gradients, memory, table, constants, row, job, seed, step, order, first, valid):
    """Run one row of the table on a chunk: `valid` samples, from `order[first]` on."""
    t = row * WIDTH
    a, b = constants[row, 0], constants[row, 1]
    code = at(table, t)
    if code == CONTRACT:
        contract(params, memory, table, t)
    elif code == CORRELATE:
        correlate(memory, gradients, table, t)
    elif code == BIAS:
        sum_biases(memory, gradients, table, t)
    elif code == FORWARD:
        forward(memory, table, t, a, b)
    elif code == BACKWARD:
        backward(memory, table, t, a, b)
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
    elif code == MOMENTS:
        moments(params, memory, table, t, a, valid, job[STATISTICS])
    elif code == NORMALISE:
        normalise(params, memory, table, t)
    elif code == SLOPE_SUMS:
        slope_sums(memory, table, t, valid)
    elif code == NORMALISE_BACK:
        normalise_back(params, memory, table, t, valid)
    elif code == DROP:
        drop(memory, table, t, a, b, seed, step, order, first, valid, job[MASKING])


@inlined
def join(params, gradients, memory, table, constants, row, job, count):
    """Run one row of the table on all chunks of a batch of `count` samples."""
    t = row * WIDTH
    code = at(table, t)
    if code == JOIN_MOMENTS:
        eps, momentum, training = constants[row, 0], constants[row, 1], job[TASK] == TRAIN
        join_moments(params, memory, table, t, eps, momentum, job[SIZE], count, job[STATISTICS], training)
    elif code == JOIN_SLOPES:
        join_slopes(gradients, memory, table, t, job[SIZE], count)


@inlined
def sweep(
    job,
    scale,
    seed,
    step,
    params,
    gradients,
    memory,
    table,
    constants,
    stages,
    places,
    inputs,
    targets,
    order,
    first,
    count,
    out,
):
    """Forward, loss and (unless the task is EVALUATE) backward over `count` samples; the sum of their losses.

    `places`: (3, 7) of the input, the target and the exported output buffer (see `samples`); `out` receives
    the exported outputs of sample `first + i` in row `first + i`, unless it is empty.
    """
    lanes = memory_lanes(memory)
    together = count if job[WHOLE] else lanes
    total = 0.0
    for start in range(first, first + count, together):
        end = min(start + together, first + count)
        for stage in range(job[STAGES]):
            for chunk in range(start, end, lanes):
                valid = min(lanes, end - chunk)
                begin = (chunk - start) // lanes * job[SIZE]
                own = memory[begin : begin + job[SIZE]]
                if stage == 0:
                    gather(own, places[0], inputs, order, chunk, valid, lanes)
                    if job[LOSS] != NO_LOSS:
                        gather(own, places[1], targets, order, chunk, valid, lanes)
                for row in range(stages[stage, FIRST_ROW], stages[stage, END_ROW]):
                    operate(
                        params, gradients, own, table, constants, row, job, seed, step, order, chunk, valid
                    )
                if stage == job[FORWARD_STAGES] - 1:
                    if job[LOSS] != NO_LOSS:
                        total += loss_value(
                            job[LOSS], own, job[SCORES], job[TARGETS], job[OUTPUTS], lanes, valid
                        )
                        if job[TASK] != EVALUATE:
                            loss_gradient(
                                job[LOSS],
                                own,
                                job[SCORES],
                                job[TARGETS],
                                job[DELTAS],
                                job[OUTPUTS],
                                lanes,
                                valid,
                                scale,
                            )
                    if out.size > 0:
                        scatter(own, places[2], out, chunk, valid)
            if stages[stage, JOIN_ROW] >= 0:
                join(params, gradients, memory, table, constants, stages[stage, JOIN_ROW], job, end - start)
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
    stages,
    places,
    inputs,
    targets,
    order,
    losses,
    out,
    shared,
    part_losses,
):
    """Evaluate, accumulate a gradient, or train from step FIRST_STEP to before LAST_STEP.

    `numbers`: the optimiser's (see `update.py`); `rates`: the learning rate of each step that is made here.
    EVALUATE and ACCUMULATE are one step whose batch is all samples of `order`, without an update of anything.
    losses[i] receives the sum of the losses of the i-th step's batch. One that is not
    finite ends the training.
    Returns the number of steps made.

    When training, a batch is cut into PARTS of whole chunks. Each has its own gradients (in `gradients`,
    one after another) and its own loss (in `part_losses`), and they are added in their order. Several
    threads may call this function with the same arguments except for `memory` and `order`, which are their
    own, and share the parts and the update (see `share.py`); that changes no bit.
    """
    denormals = flush_denormals()
    training = job[TASK] == TRAIN
    samples = order.size
    batch = job[BATCH] if training else samples
    per_sample = job[LOSS] == CROSS_ENTROPY or job[LOSS] == LIKELIHOOD
    per_output = 1.0 if per_sample else float(job[OUTPUTS])
    steps_per_epoch = (samples + batch - 1) // batch
    shuffled = -1
    size, lanes = params.size, memory_lanes(memory)
    parts = job[PARTS]
    # a bound on the norm of all gradients needs all of them
    updates = 0 if not training else 1 if numbers[CLIP_NORM] < math.inf else parts
    length = (size // lanes + max(updates, 1) - 1) // max(updates, 1) * lanes
    while True:
        task = take(shared, parts, updates)
        if task < 0:
            break
        done = task // (parts + updates)
        part = task - done * (parts + updates)
        step = job[FIRST_STEP] + done
        epoch = step // steps_per_epoch
        if training and job[SHUFFLE] and epoch != shuffled:
            shuffle(order, seed, epoch)
            shuffled = epoch
        first = (step - epoch * steps_per_epoch) * batch
        count = min(batch, samples - first)
        if part < parts:
            own = gradients[part * size : (part + 1) * size]
            if job[TASK] != EVALUATE:
                for s in range(segments.shape[0]):
                    for i in range(segments[s, 0], segments[s, 0] + segments[s, 1]):
                        own[i] = 0
            chunks = (count + lanes - 1) // lanes
            skipped = chunks * part // parts * lanes
            part_losses[part] = sweep(
                job,
                numbers[SCALE] / (count * per_output),
                seed,
                step,
                params,
                own,
                memory,
                table,
                constants,
                stages,
                places,
                inputs,
                targets,
                order,
                first + skipped,
                min(count, chunks * (part + 1) // parts * lanes) - skipped,
                out,
            )
            if not training:
                losses[done] = part_losses[0]
        else:
            loss = 0.0
            for i in range(parts):
                loss += part_losses[i]
            losses[done] = loss
            if loss - loss != 0.0 or look(shared, STOP) != 0:  # NaN or infinite
                shared[STEPS] = done + 1
            if loss - loss == 0.0:
                begin, end = (part - parts) * length, min((part - parts + 1) * length, size)
                if parts > 1:
                    add_parts(gradients, size, parts, begin, end)
                update(job[RULE], params, state, gradients, segments, numbers, rates[done], step, begin, end)
        finish(shared)
    restore_denormals(denormals)
    return look(shared, STEPS)
