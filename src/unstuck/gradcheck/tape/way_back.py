"""Explains wrong gradients from the user's backward pass: its first array that is wrong."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from unstuck.gradcheck.compare import Compared
from unstuck.gradcheck.mistakes import Mistake
from unstuck.gradcheck.naming import MATCH, Explained
from unstuck.gradcheck.tape.contributions import nearest
from unstuck.gradcheck.tape.cut_naming import CutNamer
from unstuck.gradcheck.tape.cuts import Cut, Cuts
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.habits import slip_of_habit
from unstuck.gradcheck.tape.repairs import Repairs
from unstuck.gradcheck.tape.reverse import Reverse
from unstuck.gradcheck.tape.writing import Written, WrittenBack
from unstuck.gradcheck.tree import Array

MOST = 24
"""Things that a wrong array may be meant to be."""
FEW = 3
"""So many arrays are looked at: the first wrong one, and what is made of it."""


def explained(
    made: Written,
    back: WrittenBack,
    dy: Array,
    tensors: Mapping[str, Compared],
    sizes: dict[str, int],
    wrong: list[str],
    inputs: set[str],
) -> Explained | None:
    """One mistake that explains all gradients that are wrong; None: there is no such, or no name for it.

    Args:
        made: the forward pass.
        back: both passes.
        dy: as it was given to backward.
        tensors: what was measured.
        sizes: what a factor may be.
        wrong: tensors whose gradients are wrong.
        inputs: tensors that are no parameters.
    """
    if not _repeats(made, back, tensors):
        return None
    graph, reverse = Graph(made), Reverse(made, dy)
    kept = {name: _smooth(compared) for name, compared in tensors.items()}
    given = {name: compared.given for name, compared in tensors.items()}
    looked = Cuts(back, graph, reverse, given, kept)
    habit = slip_of_habit(looked)
    if habit is not None:
        (kind, text), record = habit
        first = nearest(graph, wrong, len(graph.records), inputs)
        rest = {first: [name for name in wrong if name != first]} if len(wrong) > 1 else {}
        text = f"{text}; in the backward pass look at{graph.told(*record.place.line)}"
        return Explained([Mistake(first, kind, text)], rest)
    namer = CutNamer(graph, back, reverse.signals, sizes)
    arrays = itertools.chain(_arrays(looked.run()), _arrays(looked.moved()))
    named = next((found for cuts in arrays if (found := namer.name(cuts)) is not None), None)
    if named is not None:
        (kind, text), cut = named
        step, place = max(record.number for record in cut.target.records), namer.line_back(cut)
    else:
        repair = Repairs(looked, inputs, sizes).run()
        if repair is None:
            return None
        kind, text = repair.named
        step = repair.step if repair.step >= 0 else len(graph.records)
        place = graph.told(*repair.records[0].place.line)
    first = nearest(graph, wrong, step, inputs)
    rest = {first: [name for name in wrong if name != first]} if len(wrong) > 1 else {}
    text = f"{text}; in the backward pass look at{place}"
    return Explained([Mistake(first, kind, text)], rest)


def _arrays(ways: Iterator[Cut]) -> Iterator[list[Cut]]:
    """The first wrong arrays, and all that each may be meant to be."""
    of_one = itertools.groupby(ways, key=lambda cut: cut.made[0].number)
    for _, cuts in itertools.islice(of_one, FEW):
        yield list(itertools.islice(cuts, MOST))


def _repeats(made: Written, back: WrittenBack, tensors: Mapping[str, Compared]) -> bool:
    """Whether both passes, written down, are the ones that were measured."""
    steps = made.tape.records
    if back.first != len(steps) or len(back.tape.records) == back.first:
        return False
    if any(a.value.shape != b.value.shape for a, b in zip(steps, back.tape.records, strict=False)):
        return False
    size = max((float(np.abs(compared.given).max(initial=0.0)) for compared in tensors.values()), default=0.0)
    for name, compared in tensors.items():
        found = back.gradients.get(name)
        if found is None or found[0].size != compared.given.size:
            return False
        gap = np.abs(found[0].reshape(-1) - compared.given.reshape(-1)).max(initial=0.0)
        if not gap <= MATCH * size:
            return False
    return True


def _smooth(compared: Compared) -> Array:
    kept = np.ones(compared.given.size)
    kept[compared.index[~compared.smooth]] = 0.0
    return kept.reshape(compared.given.shape)
