# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""The order of samples in an epoch: a shuffle that depends on (seed, epoch) and on nothing else."""

import numpy as np

from unstuck.nn.kernels.jit import kernel

SHUFFLE_STREAM = 1
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@kernel
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 (Salmon et al. 2011): the scalar twin of `nn.random.philox4x32`."""
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0 = (k0 + np.uint64(0x9E3779B9)) & _LOW
        k1 = (k1 + np.uint64(0xBB67AE85)) & _LOW
    return c0, c1, c2, c3


@kernel
def shuffle(order, seed, epoch):
    """Fill `order` with 0..n-1, shuffled by Fisher and Yates.

    Place i is exchanged with place floor(u (i+1) / 2**32), where u is word i mod 4 of the Philox block at
    position i // 4 of the stream (SHUFFLE_STREAM, epoch).
    """
    k0, k1 = seed & _LOW, seed >> _HALF
    for i in range(order.size):
        order[i] = i
    block = np.uint64(0)
    w0, w1, w2, w3 = philox(block, block, np.uint64(SHUFFLE_STREAM), np.uint64(epoch), k0, k1)
    current = 0
    for i in range(1, order.size):
        if i // 4 != current:
            current = i // 4
            block = np.uint64(current)
            w0, w1, w2, w3 = philox(
                block & _LOW, block >> _HALF, np.uint64(SHUFFLE_STREAM), np.uint64(epoch), k0, k1
            )
        rest = i % 4
        word = w0 if rest == 0 else w1 if rest == 1 else w2 if rest == 2 else w3
        j = np.int64((word * np.uint64(i + 1)) >> _HALF)
        order[i], order[j] = order[j], order[i]
