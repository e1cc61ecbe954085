"""Typical mistakes in the gradients of losses of scores."""

from collections.abc import Callable, Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.reverse import Override, Reverse
from unstuck.gradcheck.tape.trial import FIRST, MOST_ALONE, SECOND, Trial, changed
from unstuck.gradcheck.tree import Array

CERTAIN = 1e-6
Slope = Callable[[Array, Array], Array]
"""(p, gradient by p) to the gradient by the scores."""


def of_losses(graph: Graph) -> Iterator[Trial]:
    """Losses of scores, however they are written: their derivative is p - t for a sigmoid or softmax p."""
    if graph.made.y.size != 1 or not graph.records:
        return
    signals = Reverse(graph.made, np.ones(graph.made.y.shape)).signals
    for group in _groups(graph):
        shape = group[0].value.shape
        if group[0].value.size < 2 or any(
            record.value.shape != shape or not signals[record.number].any() for record in group
        ):
            continue
        if group[0].value.size * len(group) >= MOST_ALONE // 2:
            yield from _of(graph, group, signals, None)
        for axis in range(len(shape)):
            if shape[axis] > 1:
                yield from _of(graph, group, signals, axis)


def _groups(graph: Graph) -> Iterator[list[Record]]:
    """One sample or step after the other; and each step alone, where a loop goes through layers."""
    for site in graph.sites.values():
        yield site
        if 1 < len(site) <= 2 * MOST_ALONE:
            yield from ([record] for record in site)


def _of(graph: Graph, site: list[Record], signals: list[Array], axis: int | None) -> Iterator[Trial]:
    """Mistakes with p - t, where p is the softmax along an axis, or the sigmoid for None."""
    ps = [_probabilities(record.value, axis) for record in site]
    found = _target(ps, [signals[record.number] for record in site])
    if found is None:
        return
    ts, count = found
    line = graph.said(site[0].place)
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
    word = "sigmoid" if axis is None else "softmax"
    text = f"p - t is the derivative of {word} and cross-entropy; the {word} is differentiated once more"

    def once(p: Array, dy: Array) -> Array:
        return p * (dy - (dy * p).sum(axis=axis, keepdims=True))

    def diagonal(p: Array, dy: Array) -> Array:
        return dy * p * (1 - p)

    for slope in (diagonal,) if axis is None else (once, diagonal):
        overrides = {r.number: _slope(slope, p) for r, p in zip(site, ps, strict=True)}
        yield Trial("softmax-twice", text + line, overrides, FIRST, tensors)
    if axis is None:
        return
    for by in (-1, 1):
        text = f"where p - t is made, the targets lie off by one{line}"
        others = [np.roll(t, by, axis) for t in ts]
        yield Trial("shifted", text, _retargeted(site, ts, others, count), SECOND, tensors)


def _retargeted(site: list[Record], ts: list[Array], others: list[Array], count: int) -> dict[int, Override]:
    """As if the targets were others."""

    def override(gap: Array) -> Override:
        return changed(lambda edge, dy: edge.pull(dy + gap, None))

    return {r.number: override((t - o) / count) for r, t, o in zip(site, ts, others, strict=True)}


def _slope(slope: Slope, p: Array) -> Override:
    def change(edge: Edge, dy: Array) -> Array:
        return edge.pull(slope(p, dy), None)

    return changed(change)


def _probabilities(z: Array, axis: int | None) -> Array:
    if axis is None:
        return 1 / (1 + np.exp(-np.clip(z, -500, 500)))
    shifted = np.exp(z - z.max(axis=axis, keepdims=True))
    return shifted / shifted.sum(axis=axis, keepdims=True)


def _target(ps: list[Array], gradients: list[Array]) -> tuple[list[Array], int] | None:
    """The t of zeros and ones, and the N, with which these are (p - t) / N; None: there is no such."""
    shape = ps[0].shape
    counts = {1, *shape, int(np.prod(shape))}
    for count in sorted(counts | {len(ps) * count for count in counts}):
        ts = [p - gradient * count for p, gradient in zip(ps, gradients, strict=True)]
        if all(np.abs(t - np.round(t)).max() < CERTAIN for t in ts):
            ts = [np.round(t) for t in ts]
            if all(set(np.unique(t)) <= {0.0, 1.0} for t in ts):
                return ts, count
    return None
