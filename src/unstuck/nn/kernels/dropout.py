# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Dropout: a mask of 0 and 1 / (1 - p), drawn anew for each sample at each step.

y_i = m_i x_i,   dx_i = m_i d_i,   m_i = 0 with probability p, else 1 / (1 - p)

Unit i of sample s is kept where word i mod 4 of a Philox block is at least p 2**32. The block is that of
`nn.random.words(seed, DROPOUT + 256 layer, i // 4 + 2**32 s, step)`: a bit depends on the member's seed, the
layer, the unit, the sample and the step, and on nothing else.

References:
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov (2014), Dropout.
    J. Salmon, M. Moraes, R. Dror, D. Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.
"""

import math

import numpy as np

from unstuck.nn.kernels.elementwise import memory_lanes
from unstuck.nn.kernels.jit import inlined
from unstuck.nn.kernels.shuffle import philox
from unstuck.nn.kernels.vectors import at, put, splat, store

DROPOUT_STREAM = 2
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

# fields of a DROP row
MASK, BLOCKS, LAYER = range(1, 4)
"""The mask has room for 4 BLOCKS units: one block of Philox has four words."""


@inlined
def drop(memory, table, t, p, kept, seed, step, order, first, valid, masking):
    """Run a DROP row: the mask of this chunk, all ones unless `masking`; `kept` is 1 / (1 - p)."""
    lanes = memory_lanes(memory)
    mask, blocks, layer = at(table, t + MASK), at(table, t + BLOCKS), at(table, t + LAYER)
    for i in range(4 * blocks):
        store(memory, mask + i * lanes, splat(memory, 0.0 if masking else 1.0))
    if not masking:
        return
    k0, k1 = seed & _LOW, seed >> _HALF
    stream, limit = np.uint64(DROPOUT_STREAM + 256 * layer), np.uint64(math.ceil(p * 4294967296.0))
    size, nothing = memory.dtype.type(kept), memory.dtype.type(0)
    for block in range(blocks):
        place = mask + 4 * block * lanes
        for lane in range(valid):  # no branches and no calls: the compiler makes vectors of it
            sample = np.uint64(at(order, first + lane))
            w0, w1, w2, w3 = philox(np.uint64(block), sample, stream, np.uint64(step), k0, k1)
            put(memory, place + lane, size if w0 >= limit else nothing)
            put(memory, place + lanes + lane, size if w1 >= limit else nothing)
            put(memory, place + 2 * lanes + lane, size if w2 >= limit else nothing)
            put(memory, place + 3 * lanes + lane, size if w3 >= limit else nothing)
