# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""The interpreter: runs a network's table over chunks of samples, and the whole training loop around it.

There is one compiled function for each number type, for all networks and all tasks (`execute`); it calls the
operations of the rows by their addresses (`operations.py`). A chunk is as many samples as a vector has lanes;
a batch is cut into chunks from its start, and their gradients are added in that order.

A program is a list of stages: rows that each chunk runs by itself, and then perhaps one row that joins all
chunks of the batch (batch normalisation). Without such a row a chunk goes through all stages before the next
one begins, in the same memory; with one, all chunks go through a stage, each in its own memory, before the
next stage begins.
"""

import math

import numpy as np

from unstuck.nn.kernels.elementwise import memory_lanes
from unstuck.nn.kernels.jit import entry, inlined
from unstuck.nn.kernels.job import (
    BATCH,
    CLOSE,
    COUNT,
    DIVISOR,
    EVALUATE,
    FIRST,
    FIRST_STEP,
    FORWARD_STAGES,
    LOOK,
    LOOKED_AT,
    LOSS,
    OPEN,
    PART,
    PARTS,
    RULE,
    SEED,
    SHUFFLE,
    SIZE,
    STAGES,
    STEP,
    TASK,
    TRAIN,
    VALID,
    WEIGH,
    WHOLE,
)
from unstuck.nn.kernels.operations import call_loss, call_row, call_update
from unstuck.nn.kernels.samples import gather, scatter
from unstuck.nn.kernels.share import STEPS, STOP, finish, look, take
from unstuck.nn.kernels.shuffle import shuffle
from unstuck.nn.kernels.update import CLIP_NORM, SCALE, add_parts
from unstuck.nn.kernels.vectors import flush_denormals, restore_denormals
from unstuck.nn.kernels.watching import (
    BLOCK,
    EVERY,
    OUTPUTS,
    SUMS,
    TURNS,
    UNITS,
    call_close,
    call_look,
    call_open,
    call_weigh,
)

# fields of a stage
FIRST_ROW, END_ROW, JOIN_ROW = range(3)
"""Rows that each chunk runs, and the row that then joins the chunks, or -1."""


@inlined
def run_row(row, begin, job, params, gradients, memory, table, constants, addresses, starts, order):
    """Run one row of the table on the chunk, or the chunks, whose memory begins at `begin`."""
    call_row(
        addresses[row],
        (
            *(params, 0, gradients, 0, memory, begin, table, starts[row]),
            *(constants[row, 0], constants[row, 1], job, 0, order, 0),
        ),
    )


@inlined
def sweep(
    job,
    scale,
    params,
    gradients,
    memory,
    table,
    constants,
    addresses,
    starts,
    stages,
    places,
    inputs,
    targets,
    order,
    first,
    count,
    out,
    plan,
    sums,
    centres,
):
    """Forward, loss and (unless the task is EVALUATE) backward over `count` samples; the sum of their losses.

    `places`: (3, 7) of the input, the target and the exported output buffer (see `samples`); `out` receives
    the exported outputs of sample `first + i` in row `first + i`, unless it is empty. `plan`, `sums` and
    `centres`: see `watching.py`.
    """
    lanes = memory_lanes(memory)
    together = count if job[WHOLE] else lanes
    total = 0.0
    for start in range(first, first + count, together):
        end = min(start + together, first + count)
        job[COUNT] = end - start
        for stage in range(job[STAGES]):
            for chunk in range(start, end, lanes):
                valid = min(lanes, end - chunk)
                job[FIRST], job[VALID] = chunk, valid
                begin = (chunk - start) // lanes * job[SIZE]
                if stage == 0:
                    own = memory[begin : begin + job[SIZE]]
                    gather(own, places[0], inputs, order, chunk, valid, lanes)
                    if job[LOSS] != 0:
                        gather(own, places[1], targets, order, chunk, valid, lanes)
                for row in range(stages[stage, FIRST_ROW], stages[stage, END_ROW]):
                    run_row(
                        row, begin, job, params, gradients, memory, table, constants, addresses, starts, order
                    )
                if stage == job[FORWARD_STAGES] - 1:
                    if job[LOOKED_AT] == chunk // lanes % 2:
                        place = job[PART] * (plan[UNITS] + SUMS * plan[OUTPUTS]) * lanes
                        call_look(job[LOOK], (memory, begin, plan, 0, sums, place, centres, 0, valid))
                    if job[LOSS] != 0:
                        total += call_loss(job[LOSS], (memory, begin, job, 0, valid, scale))
                    if out.size > 0:
                        scatter(memory[begin : begin + job[SIZE]], places[2], out, chunk, valid)
            row = stages[stage, JOIN_ROW]
            if row >= 0:
                run_row(row, 0, job, params, gradients, memory, table, constants, addresses, starts, order)
    return total


@entry
def execute(
    job,
    numbers,
    rates,
    segments,
    params,
    state,
    gradients,
    memory,
    table,
    constants,
    addresses,
    starts,
    stages,
    places,
    inputs,
    targets,
    order,
    losses,
    out,
    shared,
    part_losses,
    plan,
    held,
    sums,
    centres,
    found,
):
    """Evaluate, accumulate a gradient, or train from step FIRST_STEP to before LAST_STEP.

    `table`, `addresses`, `starts`: see `build.Code`. `numbers`: the optimiser's (see `update.py`).
    `rates`: the learning rate of each step that is made here. EVALUATE and ACCUMULATE are one step whose
    batch is all samples of `order`, without an update of anything. losses[i] receives the sum of the losses
    of the i-th step's batch. One that is not finite ends the training.
    Returns the number of steps made.

    When training, a batch is cut into PARTS of whole chunks. Each has its own gradients (in `gradients`,
    one after another) and its own loss (in `part_losses`), and they are added in their order. Several
    threads may call this function with the same arguments except for `job`, `memory` and `order`, which are
    their own, and share the parts and the update (see `share.py`); that changes no bit.

    Unless job[LOOK] is 0, every so many steps (as `plan` says) are watched: what is found of each is written
    into a row of `found` (see `watching.py`, also for `held`, `sums` and `centres`).
    """
    denormals = flush_denormals()
    training = job[TASK] == TRAIN
    samples = order.size
    batch = job[BATCH] if training else samples
    steps_per_epoch = (samples + batch - 1) // batch
    shuffled = -1
    size, lanes = params.size, memory_lanes(memory)
    parts, tensors = job[PARTS], segments.size // 3
    # a bound on the norm of all gradients needs all of them, and so does what is found of them
    watching, width = job[LOOK] != 0, (plan[UNITS] + SUMS * plan[OUTPUTS]) * memory_lanes(memory)
    clipping = numbers[CLIP_NORM] < math.inf
    updates = 0 if not training else 1 if clipping or watching else parts
    length = (size // lanes + max(updates, 1) - 1) // max(updates, 1) * lanes
    while True:
        task = take(shared, parts, updates)
        if task < 0:
            break
        done = task // (parts + updates)
        part = task - done * (parts + updates)
        step = job[FIRST_STEP] + done
        job[STEP] = step
        epoch = step // steps_per_epoch
        if training and job[SHUFFLE] and epoch != shuffled:
            shuffle(order, np.uint64(job[SEED]), epoch)
            shuffled = epoch
        first = (step - epoch * steps_per_epoch) * batch
        count = min(batch, samples - first)
        seen = watching and step % plan[EVERY] == 0
        job[PART], job[LOOKED_AT] = part, -1
        if seen:  # a batch of one chunk always, of more every other one in turn
            job[LOOKED_AT] = (first // lanes + (step if count > lanes else 0)) % 2
        if part < parts:
            if seen:
                for i in range(part * width, (part + 1) * width):
                    sums[i] = 0.0
            own = gradients[part * size : (part + 1) * size]
            if job[TASK] != EVALUATE:
                for s in range(0, 3 * tensors, 3):
                    for i in range(segments[s], segments[s] + segments[s + 1]):
                        own[i] = 0
            chunks = (count + lanes - 1) // lanes
            skipped = chunks * part // parts * lanes
            part_losses[part] = sweep(
                job,
                numbers[SCALE] / (count * float(job[DIVISOR])),
                params,
                own,
                memory,
                table,
                constants,
                addresses,
                starts,
                stages,
                places,
                inputs,
                targets,
                order,
                first + skipped,
                min(count, chunks * (part + 1) // parts * lanes) - skipped,
                out,
                plan,
                sums,
                centres,
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
                stretch = max(end - begin, 1)
                row, turn = 0, 0
                if seen:
                    seen_before = (job[FIRST_STEP] - 1) // plan[EVERY] + 1
                    row = (step // plan[EVERY] - seen_before) * found.shape[1]
                    turn = step // plan[EVERY] % TURNS
                    call_close(
                        job[CLOSE], (plan, 0, sums, 0, centres, 0, parts, turn, found.reshape(-1), row)
                    )
                    if not clipping:
                        stretch = BLOCK
                for start in range(begin, end, stretch):
                    stop = min(start + stretch, end)
                    if seen:
                        call_open(job[OPEN], (params, 0, held, 0, size, start, stop))
                    call_update(
                        job[RULE],
                        (
                            *(params, 0, state, 0, gradients, 0, size, segments, 0, tensors, numbers, 0),
                            *(rates[done], step, start, stop),
                        ),
                    )
                    if seen:
                        call_weigh(
                            job[WEIGH],
                            (
                                *(params, 0, gradients, 0, held, 0, size, plan, 0, turn, start, stop),
                                *(found.reshape(-1), row),
                            ),
                        )
        finish(shared)
    restore_denormals(denormals)
    return look(shared, STEPS)
