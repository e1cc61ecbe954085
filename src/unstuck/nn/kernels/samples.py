# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Between arrays of samples (sample by sample in memory) and chunks (lanes are samples)."""

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.vectors import at, put


@kernel
def gather(memory, place, inputs, order, first, valid, lanes):
    """Write `valid` samples into the lanes of an input buffer; the other lanes become 0.

    `place`: offset, channels, lines, positions, and the strides of the three, in the buffer.
    """
    offset, channels, lines, positions = place[0], place[1], place[2], place[3]
    sc, sy, sx = place[4], place[5], place[6]
    size = channels * lines * positions
    zero = memory.dtype.type(0)
    for lane in range(lanes):
        start = order[first + lane] * size if lane < valid else 0
        for c in range(channels):
            for y in range(lines):
                to = offset + c * sc + y * sy + lane
                source = start + (c * lines + y) * positions
                for x in range(positions):
                    put(memory, to + x * sx, at(inputs, source + x) if lane < valid else zero)


@kernel
def scatter(memory, place, outputs, first, valid):
    """Write the lanes of a buffer to consecutive samples of an array, from sample `first` on."""
    offset, channels, lines, positions = place[0], place[1], place[2], place[3]
    sc, sy, sx = place[4], place[5], place[6]
    size = channels * lines * positions
    for lane in range(valid):
        start = (first + lane) * size
        for c in range(channels):
            for y in range(lines):
                source = offset + c * sc + y * sy + lane
                to = start + (c * lines + y) * positions
                for x in range(positions):
                    put(outputs, to + x, at(memory, source + x * sx))
