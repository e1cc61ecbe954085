"""Slips of a backward pass that its own steps show: assigned for added, weights changed on the way."""

from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.local import Named
from unstuck.gradcheck.tape.cuts import CLOSE, Cuts
from unstuck.gradcheck.tape.rearranged import rearranged
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tree import Array

UPDATES = {"subtract", "add"}
FEWEST = 4
"""Turns of a loop in a loop."""
MEANT = 0.1
"""Terms that nearly cancel each other out tell nothing."""
Adjoints = list[dict[int, Array]]
Slip = tuple[Named, Record]


def slip_of_habit(looked: Cuts) -> Slip | None:
    """What is wrong, and the step of the backward pass that shows it; None: it is nothing of this kind."""
    adjoints = [looked.adjoint(weights, set()) for weights in looked.weights]
    for question in (_updated, _overwritten, _last_turn, _exchanged):
        found = question(looked, adjoints)
        if found is not None:
            return found
    return rearranged(looked)


def _closes(looked: Cuts, adjoints: Adjoints, changes: list[tuple[Record, Array]]) -> bool:
    """Whether changes of what steps made would make all gradients right."""
    if not changes:
        return False
    for adjoint, gap in zip(adjoints, looked.gaps, strict=True):
        terms = [adjoint[r.number] * change for r, change in changes if r.number in adjoint]
        if not _is_sum(terms, gap):
            return False
    return True


def _is_sum(terms: list[Array], gap: float) -> bool:
    size = sum(float(np.abs(term).sum()) for term in terms) + abs(gap)
    return abs(sum(float(term.sum()) for term in terms) - gap) <= CLOSE * size < MEANT * abs(gap)


def _updated(looked: Cuts, adjoints: Adjoints) -> Slip | None:
    """Weights that have new values before the gradient is passed on through them."""
    back = looked.back
    entries: dict[int, tuple[str, Array]] = {}
    """Number of the first entry of weights, as given and as updated, to their name and the given values."""
    for name, ids in back.tape.leaves.items():
        if ids.size and name in looked.given:
            entries[int(ids.flat[0])] = name, ids
    changes: list[tuple[Record, Array]] = []
    names: list[str] = []
    of_dy = np.zeros(back.tape.count, dtype=bool)
    of_dy[back.dy] = True
    of_dy[0] = False
    for record in back.tape.records[back.first :]:
        moved = [bool(of_dy[edge.ids].any()) for edge in record.edges]
        of_dy[record.ids] = any(moved)
        if record.name not in UPDATES or len(record.edges) != 2 or not any(moved):
            continue
        for edge in record.edges:
            found = entries.get(int(edge.ids.flat[0])) if edge.ids.size == record.value.size else None
            if found is None or found[1].size != record.value.size or not _whole(edge):
                continue
            name, ids = found
            entries[record.first] = found
            if any(record.number in adjoint for adjoint in adjoints):
                changes.append((record, _given(looked, ids).reshape(record.value.shape) - record.value))
                names += [name] if name not in names else []
    if not _closes(looked, adjoints, changes):
        return None
    told = f"{names[0]} was" if len(names) == 1 else f"{' and '.join(names)} were"
    text = f"{told} updated before the gradient was passed on through it" + (
        "" if len(names) == 1 else " all"
    )
    return ("weights-updated-early", text), changes[0][0]


def _whole(edge: Edge) -> bool:
    """Whether it is all of one array, in its order."""
    return bool((np.diff(edge.ids.reshape(-1)) == 1).all())


def _given(looked: Cuts, ids: Array) -> Array:
    """The values of a tensor's entries."""
    low, high = int(ids.flat[0]), int(ids.flat[-1])
    value = np.zeros(ids.size)
    for record in looked.back.tape.records:
        for edge in record.edges:
            inside = (edge.ids >= low) & (edge.ids <= high)
            if inside.any():
                value[edge.ids[inside] - low] = edge.value[inside]
    return value


def _overwritten(looked: Cuts, adjoints: Adjoints) -> Slip | None:
    """Entries that were assigned where they should have been added to what was there."""
    tape = looked.back.tape
    events = [(tape.records[number], old) for number, old in tape.lost or []]
    values = np.zeros(tape.count)
    for record in tape.records:
        values[record.first : record.first + record.value.size] = record.value.reshape(-1)
    for some in _by_line(events):
        lost = np.zeros(tape.count)
        """What an entry should have been more."""
        for record, old in some:
            lost[record.ids] = np.where(old > 0, values[old] + lost[old], 0.0)
        changes = [(record, lost[record.ids]) for record, _ in some]
        if _closes(looked, adjoints, changes):
            text = "entries are assigned in place of what was there before, and should be added to it"
            return ("overwritten", text), some[-1][0]
    return None


def _by_line(events: list[tuple[Record, Array]]) -> Iterator[list[tuple[Record, Array]]]:
    """Those of one line of code, and all."""
    lines: dict[tuple[str, int], list[tuple[Record, Array]]] = {}
    for record, old in events:
        lines.setdefault(record.place.line, []).append((record, old))
    yield from lines.values()
    if len(lines) > 1:
        yield events


def _last_turn(looked: Cuts, adjoints: Adjoints) -> Slip | None:
    """What is made in every turn of a loop, of which the last or the first turn alone is used."""
    for site in looked.sites.values():
        used = [any(record.number in adjoint for adjoint in adjoints) for record in site]
        if all(used) or not any(used) or any(record.value.shape != site[0].value.shape for record in site):
            continue
        for last in (True, False):
            order = list(zip(site, used, strict=True))
            changes: list[tuple[Record, Array]] = []
            lost = np.zeros(site[0].value.shape)
            for record, is_used in order if last else reversed(order):
                if is_used:
                    changes.append((record, lost))
                    lost = np.zeros(lost.shape)
                else:
                    lost = lost + record.value
            if _closes(looked, adjoints, changes):
                text = f"of what every turn of a loop makes only the {'last' if last else 'first'} counts"
                return ("overwritten", f"{text}: it is not added up"), changes[0][0]
    return None


def _exchanged(looked: Cuts, adjoints: Adjoints) -> Slip | None:
    """What is taken in a loop in a loop at [j, i] instead of [i, j]."""
    for site in looked.sites.values():
        if len(site) < FEWEST or not any(record.number in adjoints[0] for record in site):
            continue
        for slot in range(2):
            edges = [edge for record in site for edge in record.edges if edge.slot == slot]
            if len(edges) < len(site) or any(edge.value.shape != edges[0].value.shape for edge in edges):
                continue
            zeros = np.zeros(site[0].value.shape)
            value = np.stack([edge.value for edge in edges])
            pulls = [
                np.stack(
                    [
                        edge.pull(found.get(record.number, zeros), None)
                        for record, edge in zip(site, edges, strict=True)
                    ]
                )
                for found in adjoints
            ]
            for sizes in _nests(len(site)):
                nested = value.reshape(*sizes, *value.shape[1:])
                change = (nested.swapaxes(1, 2) - nested).reshape(value.shape)
                if all(_is_sum([pull * change], gap) for pull, gap in zip(pulls, looked.gaps, strict=True)):
                    return ("shifted", "two indices of what is taken here are exchanged"), site[0]
    return None


def _nests(turns: int) -> Iterator[tuple[int, int, int, int]]:
    """How often loops in each other may run, two of them equally often and one in the other."""
    for side in range(2, int(turns**0.5) + 1):
        if turns % side**2 == 0:
            rest = turns // side**2
            yield from (
                (outer, side, side, rest // outer) for outer in range(1, rest + 1) if rest % outer == 0
            )
