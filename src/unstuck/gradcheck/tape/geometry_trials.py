"""Convolutions and poolings whose padding, stride or dilation the backward pass does not know of."""

from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import CONVOLVED, Edge, Place, Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.trial import SECOND, Trial, changed
from unstuck.gradcheck.tape.window_grid import Grid, grid_of
from unstuck.gradcheck.tree import Array

NAMES = {"product", "multiply", "max", "sum"}
KERNEL = 1
"""The operand that is the kernel, where a function of NumPy or SciPy convolves."""


def of_geometry(graph: Graph) -> Iterator[Trial]:
    """Windows that lie elsewhere going back: for what is passed on, the kernel's gradient, or both."""
    held = _held(graph)
    for site in graph.sites.values():
        if site[0].name not in NAMES:
            continue
        yield from _turned(graph, site)
        for slot in range(2):
            edges = [edge for record in site for edge in record.edges if edge.slot == slot]
            if len(edges) != len(site) or any(edge.ids.shape != edges[0].ids.shape for edge in edges):
                continue
            grid = grid_of(graph, np.stack([edge.ids for edge in edges]))
            if grid is not None:
                yield from _of_grid(graph, site, slot, grid, held)


def by_place(graph: Graph, trials: list[Trial]) -> list[tuple[str, list[Trial]]]:
    """What is tried at each place, with its line."""
    found: dict[Place, list[Trial]] = {}
    for trial in trials:
        found.setdefault(graph.records[max(trial.overrides)].place, []).append(trial)
    return [(graph.said(place), made) for place, made in found.items()]


def _held(graph: Graph) -> Array:
    """The value of each entry; 0 for padding."""
    held = np.zeros(graph.tape.count)
    for record in graph.records:
        for edge in record.edges:
            held[edge.ids] = edge.value
        held[record.ids] = record.value
    held[0] = 0.0
    return held


def _of_grid(graph: Graph, site: list[Record], slot: int, grid: Grid, held: Array) -> Iterator[Trial]:
    line = graph.said(site[0].place)
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
    for kind, text, places in elsewhere(grid):
        numbers = grid.numbers(places).reshape(len(site), -1)
        values = _values(held, numbers, site, slot)
        for passed_on, of_kernel in ((True, False), (False, True), (True, True)):
            if of_kernel and values is None:
                continue
            where = (
                "" if passed_on == of_kernel else (" in what is passed on" if passed_on else " in the kernel")
            )
            overrides = {
                record.number: _override(slot, row if passed_on else None, value if of_kernel else None)
                for record, row, value in zip(site, numbers, values or [None] * len(site), strict=True)
            }
            yield Trial(kind, f"{text}{where}{line}", overrides, SECOND, tensors)


def elsewhere(grid: Grid) -> Iterator[tuple[str, str, Array]]:
    """Kind, text, and where the windows' entries would lie."""
    spatial = grid.spatial or grid.strided
    large = [np.flatnonzero(np.abs(grid.steps[:, axis]) > 1) for axis in spatial]
    large = [rows for rows in large if rows.size]
    # that of the windows is the stride, that inside them the dilation; where there are both, it may be either
    for pick in (slice(None), slice(1), slice(-1, None)) if large else ():
        chosen = np.concatenate([rows[pick] for rows in large])
        if pick != slice(None) and chosen.size == sum(rows.size for rows in large):
            break
        steps = grid.steps.copy()
        steps[chosen] = np.sign(steps[chosen])
        yield "stride-ignored", "the stride, or the dilation, is ignored going back", grid.places(steps)
    padding = np.array([p if axis in spatial else 0 for axis, p in enumerate(grid.padding)])
    if padding.any():
        for by in (padding, -padding):
            yield "padding-ignored", "the padding is ignored going back", grid.places(by=by)


def _turned(graph: Graph, site: list[Record]) -> Iterator[Trial]:
    """A kernel's gradient made by turning the gradient by the output round, which nothing turns back."""
    if CONVOLVED not in site[0].place.step or len(site[0].edges) < KERNEL + 1:
        return
    text = "the kernel's gradient is a convolution where a correlation belongs, or the reverse"
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in site))
    turned = changed(lambda edge, dy: edge.pull(np.flip(dy), None), KERNEL)
    overrides = dict.fromkeys((record.number for record in site), turned)
    yield Trial("kernel-not-flipped", text + graph.said(site[0].place), overrides, SECOND, tensors)


def _values(held: Array, numbers: Array, site: list[Record], slot: int) -> list[Array] | None:
    """What the windows would hold there."""
    edges = [edge for record in site for edge in record.edges if edge.slot == slot]
    if len(site[0].edges) < 2:
        return None
    return [held[row].reshape(edge.ids.shape) for row, edge in zip(numbers, edges, strict=True)]


def _override(slot: int, numbers: Array | None, value: Array | None) -> Override:
    def gradient(edge: Edge, dy: Array) -> Array:
        return edge.pull(dy, value if edge.slot != slot else None)

    def override(record: Record, dy: Array) -> Passed:
        return [
            (
                numbers.reshape(edge.ids.shape) if numbers is not None and edge.slot == slot else edge.ids,
                gradient(edge, dy),
            )
            for edge in record.edges
        ]

    return override
