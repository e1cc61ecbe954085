"""Explains wrong gradients from the user's backward pass: its first array that is wrong."""

import collections
import itertools
import time
from collections.abc import Iterator, Mapping

import numpy as np

from unstuck.gradcheck.compare import Compared
from unstuck.gradcheck.local import Named
from unstuck.gradcheck.mistakes import Mistake
from unstuck.gradcheck.naming import MATCH, Explained
from unstuck.gradcheck.tape.contributions import nearest, uses
from unstuck.gradcheck.tape.cut_naming import CutNamer
from unstuck.gradcheck.tape.cuts import Cut, Cuts
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.habits import slip_of_habit
from unstuck.gradcheck.tape.record import Place, Record
from unstuck.gradcheck.tape.repairs import Repairs
from unstuck.gradcheck.tape.replay_trials import replayed
from unstuck.gradcheck.tape.reverse import Reverse
from unstuck.gradcheck.tape.writing import Written, WrittenBack
from unstuck.gradcheck.tree import Array

MOST = 24
"""Things that a wrong array may be meant to be."""
SECONDS = 3.0
"""After a longer search there is no second one."""
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
    started = time.process_time()
    habit = slip_of_habit(looked)
    found = _found(looked, inputs, sizes) if habit is None else (*habit, -1)
    if found is None and len(wrong) > 1 and time.process_time() - started < SECONDS:
        # a slip in what is called often spoils the layers before twice: the last layer alone tells it
        last = _last(graph, [name for name in wrong if name not in inputs])
        kept = {name: own * (name in last or name not in wrong) for name, own in kept.items()}
        found = _found(Cuts(back, graph, reverse, given, kept), inputs, sizes, _called_often(looked))
    if found is None:
        found = replayed(looked, wrong, sizes)
    if found is None:
        return None
    (kind, text), record, step = found
    text = f"{text}; in the backward pass look at{graph.told(*record.place.line)}"
    first = nearest(graph, wrong, step if step >= 0 else len(graph.records), inputs)
    rest = {first: [name for name in wrong if name != first]} if len(wrong) > 1 else {}
    return Explained([Mistake(first, kind, text)], rest)


def _found(
    looked: Cuts, inputs: set[str], sizes: dict[str, int], places: set[Place] | None = None
) -> tuple[Named, Record, int] | None:
    """What is wrong, the step of the backward pass, and the last one of the forward pass that it is about.

    Args:
        looked: both passes.
        inputs: tensors that are no parameters.
        sizes: what a factor may be.
        places: where the step may be; None: anywhere.
    """
    namer = CutNamer(looked.graph, looked.back, looked.reverse.signals, sizes)
    ways = [looked.run(), looked.moved()]
    if places is not None:
        ways = [(cut for cut in way if cut.made[0].place in places) for way in ways]
    for cuts in itertools.chain.from_iterable(_arrays(way) for way in ways):
        named = namer.name(cuts)
        if named is not None:
            return named[0], named[1].made[0], max(record.number for record in named[1].target.records)
    repair = Repairs(looked, inputs, sizes, places).run()
    return None if repair is None else (repair.named, repair.records[0], repair.step)


def _last(graph: Graph, names: list[str]) -> list[str]:
    """The weights that are used last, and what is used after them."""
    used = {name: max((record.number for record, _ in uses(graph, name)), default=-1) for name in names}
    weights = [name for name in names if graph.tape.leaves[name].ndim > 1] or names
    latest = max((used[name] for name in weights), default=-1)
    return [name for name in names if used[name] >= latest]


def _called_often(looked: Cuts) -> set[Place]:
    """Steps of the backward pass that stand in code that is called from several places."""
    counts = collections.Counter((place.calls[:1], place.step) for place in looked.sites)
    return {place for place in looked.sites if counts[place.calls[:1], place.step] > 1}


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
