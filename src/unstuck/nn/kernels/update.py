# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Optimisers: one pass over the parameters after the gradients of a batch are complete."""

from unstuck.nn.kernels.jit import kernel
from unstuck.nn.kernels.vectors import BYTES, fma, load, splat, store


@kernel
def sgd(params, velocity, gradients, segments, rate, momentum):
    """V = m v + g;  w = w - lr v   (torch's SGD; Sutskever et al. 2013 up to the place of lr).

    `segments`: (tensors, 3) of offset, length (a multiple of the vector width) and whether it is trained.
    """
    lanes = BYTES // params.itemsize
    keep, step = splat(params, momentum), splat(params, -rate)
    for s in range(segments.shape[0]):
        if segments[s, 2] == 0:
            continue
        for i in range(segments[s, 0], segments[s, 0] + segments[s, 1], lanes):
            v = load(gradients, i)
            if momentum != 0.0:
                v = fma(keep, load(velocity, i), v)
                store(velocity, i, v)
            store(params, i, fma(step, v, load(params, i)))
