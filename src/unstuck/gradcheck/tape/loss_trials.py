"""Typical mistakes in the gradients of losses of scores."""

from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Edge
from unstuck.gradcheck.tape.reverse import Override, Reverse
from unstuck.gradcheck.tape.trial import FIRST, MOST_ALONE, Trial, changed
from unstuck.gradcheck.tree import Array


def of_losses(graph: Graph) -> Iterator[Trial]:
    """Losses of scores, however they are written: their derivative is p - t for a sigmoid or softmax p."""
    if graph.made.y.size != 1 or not graph.records:
        return
    signals = Reverse(graph.made, np.ones(graph.made.y.shape)).signals
    twice = "p - t is the derivative of {} and cross-entropy; the {} is differentiated once more"
    for record in graph.records:
        z, by_z = record.value, signals[record.number]
        if z.size < MOST_ALONE // 2 or not by_z.any():
            continue
        p = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
        text = twice.format("sigmoid", "sigmoid") + graph.said(record.place)
        if _is_difference(p, by_z, z.shape):
            override = changed(lambda e, dy, p=p: e.pull(dy * p * (1 - p), None))
            yield Trial("softmax-twice", text, {record.number: override}, FIRST, graph.tensors[record.number])
        for axis in range(z.ndim if z.ndim > 1 else 0):
            shifted = np.exp(z - z.max(axis=axis, keepdims=True))
            q = shifted / shifted.sum(axis=axis, keepdims=True)
            if z.shape[axis] < MOST_ALONE // 3 or not _is_difference(q, by_z, z.shape):
                continue
            text = twice.format("softmax", "softmax") + graph.said(record.place)
            for override in (_jacobian(q, axis), changed(lambda e, dy, q=q: e.pull(dy * q * (1 - q), None))):
                overrides = {record.number: override}
                yield Trial("softmax-twice", text, overrides, FIRST, graph.tensors[record.number])


def _jacobian(q: Array, axis: int) -> Override:
    def change(edge: Edge, dy: Array) -> Array:
        return edge.pull(q * (dy - (dy * q).sum(axis=axis, keepdims=True)), None)

    return changed(change)


def _is_difference(p: Array, gradient: Array, shape: tuple[int, ...]) -> bool:
    """Whether a gradient is p - t, with t of zeros and ones, but for a mean over something."""
    for count in {1, *shape, int(np.prod(shape))}:
        t = p - gradient * count
        if np.abs(t - np.round(t)).max() < 1e-6 and set(np.unique(np.round(t))) <= {0.0, 1.0}:
            return True
    return False
