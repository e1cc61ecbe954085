"""Arrays of a backward pass that are read with indices exchanged, off by one, or in reverse."""

import itertools
from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.local import Named
from unstuck.gradcheck.tape.cuts import CLOSE, Cuts
from unstuck.gradcheck.tape.record import Record
from unstuck.gradcheck.tree import Array

MEANT = 0.1
MOST_AXES = 5
FEWEST = 4
"""Of fewer entries one order is like another by chance."""


def rearranged(looked: Cuts) -> tuple[Named, Record] | None:
    """An array that has to be read in another order, and the step that made its first entry."""
    tape = looked.back.tape
    values = np.zeros(tape.count)
    for record in tape.records:
        values[record.ids] = record.value
    weights: list[Array] = []
    for some in looked.weights:
        sums = np.zeros(tape.count)
        for number, signal in looked.adjoint(some, set()).items():
            sums[tape.records[number].ids] = signal
        weights.append(sums)
    for ids in _arrays(looked):
        pulls = [sums[ids] for sums in weights]
        if not pulls[0].any():
            continue
        held = values[ids]
        for kind, text, moved in _moves(held):
            change = moved - held
            if all(_is_sum(pull * change, gap) for pull, gap in zip(pulls, looked.gaps, strict=True)):
                made = looked.maker(int(ids.flat[0]))
                return None if made is None else ((kind, text), made)
    return None


def _is_sum(terms: Array, gap: float) -> bool:
    size = float(np.abs(terms).sum()) + abs(gap)
    return abs(float(terms.sum()) - gap) <= CLOSE * size < MEANT * abs(gap)


def _arrays(looked: Cuts) -> Iterator[Array]:
    """Numbers of the entries of arrays that were put together entry by entry, those of one line as one.

    Gradients of tensors are told of elsewhere: there it is known what their axes stand for.
    """
    given = np.concatenate([ids.reshape(-1) for _, ids in looked.back.gradients.values()])
    groups: dict[tuple[tuple[str, int], tuple[int, ...]], list[Array]] = {}
    for line, array in looked.back.tape.assembled.values():
        ids = np.array(array.ids)
        low = looked.back.tape.records[looked.back.first].first
        if ids.size < FEWEST or not 1 < ids.ndim < MOST_AXES or int(ids.min()) < low:
            continue
        if np.unique(ids).size == ids.size and not np.isin(ids, given).any():
            groups.setdefault((line, ids.shape), []).append(ids)
    for group in groups.values():
        yield np.stack(group)


def _moves(held: Array) -> Iterator[tuple[str, str, Array]]:
    """What they would hold; the first axis is that of several arrays."""
    axes = range(held.ndim)
    for order in itertools.permutations(range(1, held.ndim)):
        laid = held.transpose(0, *order)
        if laid.shape == held.shape and order != tuple(range(1, held.ndim)):
            if held.ndim == 3:
                yield "transposed", "what is made here is read transposed", laid
            else:
                yield "shifted", "what is made here is read with indices exchanged", laid
    for axis in axes[1:]:
        if held.shape[axis] > 1:
            for by in (-1, 1):
                yield (
                    "shifted",
                    f"what is made here is read off by one along axis {axis - 1}",
                    np.roll(held, by, axis),
                )
            yield (
                "shifted",
                f"what is made here is read in reverse along axis {axis - 1}",
                np.flip(held, axis),
            )
