# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Training many members, block by block: who enters a lane, when it is tested, when it leaves.

Compiled once for all networks: the network's own functions (`program.py`) are called by their addresses.
A lane whose member is done takes the next one in line at once.
"""

import numpy as np
from llvmlite import ir
from numba import types

from unstuck.nn.kernels.jit import entry, inlined, kernel
from unstuck.nn.kernels.shuffle import shuffle
from unstuck.nn.kernels.vectors import flush_denormals, intrinsic, restore_denormals
from unstuck.nn.members.program import DEAD, LOSS, RIGHT, SQUARES

# fields of `job`
(
    STEPS_AT,  # address of the network's function `steps`
    TEST_AT,  # address of `test`
    SIZE,  # numbers in one member's parameters
    FIRST,  # members of the queue to train: from this one
    LAST,  # to before this one
    EPOCHS,  # at most
    STEPS_PER_EPOCH,
    SAMPLES,
    OUTPUTS,  # numbers that the loss's mean runs over, per sample
    SCORES,  # numbers that the squared error's mean runs over, per sample
    TEST_EVERY,  # epochs between tests of success; 0: never
    STRIDE,  # epochs between two losses in the history
    STATES,  # what the optimiser keeps for each number
) = range(13)
JOB_FIELDS = 13

# fields of `bounds`: a member succeeds when all hold
MOST_LOSS, MOST_SQUARES, LEAST_RIGHT = range(3)

# fields of `signal`
STOP, DONE = range(2)
"""What the caller sets to end early, and epochs of members done so far."""

# columns of `result`
FINAL_LOSS, ACCURACY, EPOCH, ENDED = range(4)
RESULT_FIELDS = 4
# values of ENDED
UNFINISHED, LIMIT, SUCCESS, LOST, INACTIVE = range(5)


@intrinsic
def call(typingctx, address, pointers, numbers):
    """Call machine code at an address with the data of some arrays and some int64."""

    def emit(context, builder, signature, args):
        kinds = signature.args
        values = []
        for i, kind in enumerate(kinds[1].types):
            array = builder.extract_value(args[1], i)
            data = context.make_array(kind)(context, builder, array).data
            values.append(builder.bitcast(data, ir.IntType(8).as_pointer()))
        values += [builder.extract_value(args[2], i) for i in range(len(kinds[2]))]
        shape = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(args[0], shape.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(address, pointers, numbers), emit


@inlined
def enter(lane, member, width, size, states, block, keys, rows, places, numbers, seeds):
    """Put a member into a lane: its parameters, the optimiser's zeros, its numbers, its seed."""
    for i in range(size):
        block[i * width + lane] = rows[member, places[i]]
    end = (1 + states) * size
    for i in range(size, end):
        block[i * width + lane] = 0
    block[end * width + lane] = -numbers[member, 0]
    block[(end + 1) * width + lane] = numbers[member, 1]
    block[(end + 2) * width + lane] = numbers[member, 2]
    block[(end + 3) * width + lane] = 0
    keys[lane] = np.int64(seeds[member] & np.uint64(0xFFFFFFFF))
    keys[width + lane] = np.int64(seeds[member] >> np.uint64(32))


@kernel
def first_lost(sums, lane, width, epochs):
    """The first epoch of a slice in which a lane's loss is not finite."""
    for epoch in range(epochs):
        loss = sums[epoch * width + lane]
        if loss - loss != 0.0:
            return epoch
    return epochs - 1  # each is finite, their sum is not


@entry
def campaign(
    job,
    bounds,
    block,
    orders,
    keys,
    lanes,
    losses,
    sums,
    tested,
    inputs,
    targets,
    labels,
    rows,
    places,
    numbers,
    seeds,
    result,
    history,
    signal,
):  # fmt: skip  one line a group: code and memory, data, members
    """Train the members FIRST to LAST.

    Args:
        job: int64, the fields above.
        bounds: float64, the criterion of success.
        block: a block's memory, flat.
        orders: room for its order of samples, int64, flat.
        keys: room for its seeds, int64, flat.
        lanes: room for what stands in each lane: member, its epoch, when it was lost; int64, flat.
        losses: room for a vector of losses for each step of a slice, flat; at least an epoch's.
        sums: float64, room for a vector for each epoch of a slice and one more, flat.
        tested: float64, room for what `test` writes, flat.
        inputs: flat.
        targets: flat.
        labels: (samples,), -1 where targets are no classes.
        rows: (members, ...) parameters, replaced by the trained ones.
        places: (SIZE,) where in a row each number of the block stands.
        numbers: (members, 3) learning rate, momentum, weight decay.
        seeds: (members,) uint64.
        result: (members, RESULT_FIELDS) float64.
        history: (members, columns): mean loss of epoch 0, STRIDE, 2 STRIDE, ...; columns may be 0.
        signal: int64, see above.
    """
    denormals = flush_denormals()
    size, limit, per_epoch = job[SIZE], job[EPOCHS], job[STEPS_PER_EPOCH]
    width = keys.size // 3
    slice_epochs = max(1, losses.size // (width * per_epoch))
    loss_divisor, square_divisor = job[SAMPLES] * job[OUTPUTS], job[SAMPLES] * job[SCORES]
    member_of, epoch_of, lost_at = 0, width, 2 * width  # rows of `lanes`
    waiting, active = job[FIRST], 0
    for lane in range(width):
        lanes[member_of + lane], lanes[epoch_of + lane], lanes[lost_at + lane] = -1, 0, -1
    while (active > 0 or waiting < job[LAST]) and signal[STOP] == 0:
        epochs = slice_epochs
        for lane in range(width):
            if lanes[member_of + lane] < 0 and waiting < job[LAST]:
                enter(lane, waiting, width, size, job[STATES], block, keys, rows, places, numbers, seeds)
                lanes[member_of + lane], lanes[epoch_of + lane] = waiting, 0
                waiting += 1
                active += 1
            if lanes[member_of + lane] >= 0:
                epochs = min(epochs, limit - lanes[epoch_of + lane])
                if job[TEST_EVERY] > 0:
                    epochs = min(epochs, job[TEST_EVERY] - lanes[epoch_of + lane] % job[TEST_EVERY])
            keys[2 * width + lane] = lanes[epoch_of + lane]
        call(job[STEPS_AT], (block, inputs, targets, orders, keys, losses, sums), (0, epochs * per_epoch))
        due = False
        for lane in range(width):
            member = lanes[member_of + lane]
            if member < 0:
                continue
            first = -lanes[epoch_of + lane] % job[STRIDE]  # of the slice, whose loss is due
            for epoch in range(first, epochs, job[STRIDE]):
                column = (lanes[epoch_of + lane] + epoch) // job[STRIDE]
                if column < history.shape[1]:
                    history[member, column] = sums[epoch * width + lane] / loss_divisor
            whole = sums[epochs * width + lane]
            if whole - whole != 0.0:  # NaN or infinite
                due = True
                lanes[lost_at + lane] = lanes[epoch_of + lane] + first_lost(sums, lane, width, epochs)
                for column in range(lanes[lost_at + lane] // job[STRIDE] + 1, history.shape[1]):
                    history[member, column] = np.nan
        for lane in range(width):
            lanes[epoch_of + lane] += epochs
            if lanes[member_of + lane] >= 0:
                test_due = job[TEST_EVERY] > 0 and lanes[epoch_of + lane] % job[TEST_EVERY] == 0
                due = due or test_due or lanes[epoch_of + lane] == limit
        signal[DONE] += epochs * active
        if not due:
            continue
        call(job[TEST_AT], (block, inputs, targets, labels, tested), ())
        for lane in range(width):
            member = lanes[member_of + lane]
            if member < 0:
                continue
            loss = tested[LOSS * width + lane] / loss_divisor
            squares = tested[SQUARES * width + lane] / square_divisor
            right = tested[RIGHT * width + lane] / job[SAMPLES]
            ended = UNFINISHED
            if lanes[lost_at + lane] >= 0:
                ended = LOST
            elif (
                job[TEST_EVERY] > 0
                and (lanes[epoch_of + lane] % job[TEST_EVERY] == 0 or lanes[epoch_of + lane] == limit)
                and loss <= bounds[MOST_LOSS]
                and squares <= bounds[MOST_SQUARES]
                and right >= bounds[LEAST_RIGHT]
            ):
                ended = SUCCESS
            elif lanes[epoch_of + lane] == limit:
                ended = INACTIVE if tested[DEAD * width + lane] > 0.0 else LIMIT
            if ended == UNFINISHED:
                continue
            result[member, FINAL_LOSS], result[member, ACCURACY] = loss, right
            result[member, EPOCH] = lanes[lost_at + lane] + 1 if ended == LOST else lanes[epoch_of + lane]
            result[member, ENDED] = ended
            for i in range(size):
                rows[member, places[i]] = block[i * width + lane]
            lanes[member_of + lane], lanes[lost_at + lane] = -1, -1
            active -= 1
    restore_denormals(denormals)


@entry
def advance(address, block, inputs, targets, orders, keys, losses, sums, place, count):
    """Run the network's `steps` once, with denormals flushed in this thread."""
    denormals = flush_denormals()
    call(address, (block, inputs, targets, orders, keys, losses, sums), (place, count))
    restore_denormals(denormals)


@entry
def order_of(order, seed, epoch):
    """Fill `order` for an epoch: `shuffle` as Python calls it."""
    shuffle(order, seed, epoch)
