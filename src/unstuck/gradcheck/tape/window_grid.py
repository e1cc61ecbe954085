"""Where the windows of a convolution lie: how far on is the next one, and the next entry in it."""

from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tree import Array

LARGEST = 300_000
MOST_AXES = 10


@dataclass(frozen=True)
class Grid:
    """Entries of windows, each at start + sum of index * step in the array that they are taken from."""

    base: int
    """Number of the array's first entry."""
    shape: tuple[int, ...]
    """Of the array."""
    sizes: tuple[int, ...]
    """Of the axes along which the windows' entries go on evenly."""
    steps: Array
    """(axes of the windows, axes of the array): by how much."""
    start: Array

    @property
    def spatial(self) -> list[int]:
        """Axes of the array along which windows lie beside each other."""
        return [axis for axis in range(len(self.shape)) if np.count_nonzero(self.steps[:, axis]) > 1]

    @property
    def strided(self) -> list[int]:
        """Axes along which windows of a single entry lie apart."""
        return [axis for axis in range(len(self.shape)) if np.abs(self.steps[:, axis]).max() > 1]

    def places(self, steps: Array | None = None, by: Array | None = None) -> Array:
        """(axes of the array, entries): with other steps, or moved; some may lie outside, in the padding."""
        indices = np.indices(self.sizes).reshape(len(self.sizes), -1)
        made = (self.steps if steps is None else steps).T @ indices + self.start[:, None]
        return made if by is None else made + by[:, None]

    def numbers(self, places: Array) -> Array:
        """Numbers of the entries at these places; 0 outside the array."""
        inside = np.ones(places.shape[1], dtype=bool)
        for row, size in zip(places, self.shape, strict=True):
            inside &= (row >= 0) & (row < size)
        kept = np.where(inside, places, 0)
        return np.where(inside, np.ravel_multi_index(tuple(kept), self.shape) + self.base, 0)

    @property
    def padding(self) -> Array:
        """How far the windows begin before the array."""
        return np.maximum(0, -self.places().min(axis=1))


def grid_of(graph: Graph, ids: Array) -> Grid | None:
    """The grid on which numbered entries lie; None: there is none, or nothing overlaps or is padded.

    Args:
        graph: the forward pass.
        ids: numbers of the windows' entries, 0 for padding.
    """
    flat = ids.reshape(-1)
    known = flat[flat > 0]
    if not 3 < flat.size <= LARGEST or known.size < 3:
        return None
    if known.size == flat.size and np.unique(known).size == known.size:
        return None
    base, shape = _source(graph, known)
    return grid_in(base, shape, ids)


def grid_in(base: int, shape: tuple[int, ...], ids: Array) -> Grid | None:
    """The grid on which entries of one array lie; None: there is none.

    Args:
        base: number of the array's first entry.
        shape: of the array.
        ids: numbers of the windows' entries, 0 for padding.
    """
    flat = ids.reshape(-1)
    if not shape or max(shape) < 2 or not 3 < flat.size <= LARGEST or not flat.any():
        return None
    mask = flat > 0
    places = np.array(np.unravel_index(np.where(mask, flat - base, 0), shape))
    sizes: list[int] = []
    steps: list[Array] = []
    rest = places.reshape(len(shape), *ids.shape), mask.reshape(ids.shape)
    for axis in range(ids.ndim):
        found = _evenly(rest[0], rest[1], axis)
        if found is None:
            return None
        sizes += [size for size, _ in found]
        steps += [step for _, step in found]
        if len(sizes) > MOST_AXES:
            return None
    if not sizes:
        return None
    first = int(np.flatnonzero(mask)[0])
    index = np.array(np.unravel_index(first, sizes))
    matrix = np.array(steps)
    grid = Grid(base, shape, tuple(sizes), matrix, places[:, first] - index @ matrix)
    return grid if np.array_equal(grid.places()[:, mask], places[:, mask]) else None


def _source(graph: Graph, known: Array) -> tuple[int, tuple[int, ...]]:
    """The array that all entries are of: the number of its first, and its shape; empty: of several."""
    low, high = int(known.min()), int(known.max())
    maker = int(graph.maker[low])
    if maker >= 0:
        record = graph.records[maker]
        inside = high < record.first + record.value.size
        return (record.first, record.value.shape) if inside else (0, ())
    owner = graph.tape.owner(known)
    if not owner:
        return 0, ()
    own = graph.tape.leaves[owner]
    return int(own.flat[0]), own.shape


def _evenly(places: Array, mask: Array, axis: int) -> list[tuple[int, Array]] | None:
    """One axis as several, along each of which entries go on by the same step: their sizes and steps."""
    found: list[tuple[int, Array]] = []
    moved = np.moveaxis(places, axis + 1, 1)
    kept = np.moveaxis(mask, axis, 0)
    count = kept.shape[0]
    rows = moved.reshape(moved.shape[0], count, 1, -1)
    known = kept.reshape(count, 1, -1)
    while count > 1:
        best: tuple[int, Array] | None = None
        for size in range(count, 1, -1):
            if count % size == 0:
                step = _step(rows, known, size)
                if step is not None:
                    best = size, step
                    break
        if best is None:
            return None
        found.insert(0, best)
        size = best[0]
        count //= size
        rows = rows.reshape(rows.shape[0], count, 1, -1)
        known = known.reshape(count, 1, -1)
    return found


def _step(rows: Array, known: Array, size: int) -> Array | None:
    """The step between neighbours in blocks of a size, if it is the same everywhere and ever seen."""
    count = known.shape[0] // size
    blocks = rows.reshape(rows.shape[0], count, size, -1)
    seen = known.reshape(count, size, -1)
    both = seen[:, 1:] & seen[:, :-1]
    if not both.any():
        return None
    gaps = (blocks[:, :, 1:] - blocks[:, :, :-1])[:, both]
    return gaps[:, 0] if (gaps == gaps[:, :1]).all() else None
