"""What depends on what in a forward pass that was written down: activations, statistics, loops."""

import itertools
import linecache
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.known.functions import ACTIVATIONS, Activation
from unstuck.gradcheck.tape.record import Edge, Place, Record
from unstuck.gradcheck.tape.rules import PARTIALS
from unstuck.gradcheck.tape.writing import Written
from unstuck.gradcheck.tree import Array

LONGEST = 10
NEAR = 3
"""Steps between a probability and its logarithm: clipped, and taken from one."""
MOST_PATHS = 24
MOST_INSIDE = 24
BY_ENTRY = {*PARTIALS, "where"}
SAME = 1e-9
LONGEST_LINE = 76


@dataclass
class Unit:
    """Several steps that are one function together: the last of them, and what it is a function of."""

    record: Record
    ids: Array
    z: Array
    inner: frozenset[int] = frozenset()
    """The steps between them."""


class Graph:
    """Who made which entry, and which tensors each step depends on."""

    def __init__(self, made: Written) -> None:
        self.made = made
        self.tape = made.tape
        self.records = made.tape.records
        self.maker = np.full(made.tape.count, -1, dtype=np.int64)
        """Entry to the number of the step that made it; -1: an entry of a tensor, or a constant."""
        for record in self.records:
            self.maker[record.first : record.first + record.value.size] = record.number
        self.sites: dict[Place, list[Record]] = {}
        for record in self.records:
            self.sites.setdefault(record.place, []).append(record)
        self.users: list[set[int]] = [set() for _ in self.records]
        """Step to the steps that use what it made."""
        self.tensors = self._tensors()
        self._lines = self._told()

    def _told(self) -> dict[Place, tuple[str, int]]:
        """For each place the innermost line that only it has: what is called often tells little."""
        callers: dict[tuple[str, int, int], set[tuple[tuple[str, int, int], ...]]] = {}
        for place in self.sites:
            for level, call in enumerate(place.calls):
                callers.setdefault(call, set()).add(place.calls[level + 1 :])
        lines: dict[Place, tuple[str, int]] = {}
        for place in self.sites:
            own = next((call for call in place.calls if len(callers[call]) == 1), None)
            lines[place] = own[:2] if own is not None else place.line
        return lines

    def said(self, place: Place) -> str:
        """The user's line at a place, in brackets."""
        return self.told(*self._lines[place])

    def told(self, file: str, line: int) -> str:
        """A line of the user's code, in brackets."""
        code = linecache.getline(file, line).strip()
        short = code if len(code) <= LONGEST_LINE else code[: LONGEST_LINE - 3] + "..."
        return f" (line {line}: {short})" if code else ""

    def _tensors(self) -> list[frozenset[str]]:
        """Step to the tensors that it depends on."""
        found: list[frozenset[str]] = []
        tensor_of = np.zeros(self.tape.count, dtype=np.int64)
        names = list(self.tape.leaves)
        for number, name in enumerate(names, start=1):
            tensor_of[self.tape.leaves[name]] = number
        for record in self.records:
            reached: set[str] = set()
            for edge in record.edges:
                makers = np.unique(self.maker[edge.ids])
                for maker in makers[makers >= 0]:
                    reached |= found[maker]
                    self.users[maker].add(record.number)
                reached |= {names[k - 1] for k in np.unique(tensor_of[edge.ids]) if k}
            found.append(frozenset(reached))
        return found

    def single_maker(self, ids: Array) -> Record | None:
        """The step whose whole result these entries are, in its order."""
        if not ids.size:
            return None
        number = int(self.maker[ids.flat[0]])
        if number < 0:
            return None
        record = self.records[number]
        if ids.size != record.value.size or ids.shape != record.value.shape:
            return None
        return record if np.array_equal(ids, record.ids) else None

    def feeds(self, record: Record) -> Iterator[tuple[Record, Edge]]:
        """Later steps that use some of its entries."""
        for later in self.records[record.number + 1 :]:
            for edge in later.edges:
                if record.holds(edge.ids).any():
                    yield later, edge

    # --- functions made of several steps ---

    def paths(self, record: Record) -> Iterator[tuple[tuple[int, ...], Edge]]:
        """Operands of it, and theirs, as far as everything works entry by entry."""
        waiting: list[tuple[tuple[int, ...], Record]] = [((), record)]
        count = 0
        while waiting and count < MOST_PATHS:
            path, step = waiting.pop(0)
            if step.name not in PARTIALS and step.name != "where":
                continue
            for number, edge in enumerate(step.edges):
                if edge.ids.shape != record.value.shape:
                    continue
                count += 1
                yield (*path, number), edge
                before = self.single_maker(edge.ids)
                if before is not None and len(path) < LONGEST:
                    waiting.append(((*path, number), before))

    def along(self, record: Record, path: tuple[int, ...]) -> Edge | None:
        """The operand at the end of a path."""
        step: Record | None = record
        edge: Edge | None = None
        for number in path:
            if step is None or number >= len(step.edges):
                return None
            edge = step.edges[number]
            step = self.single_maker(edge.ids)
        return edge

    def activation(self, group: list[Record]) -> tuple[Activation, list[Unit]] | None:
        """The activation that these steps are the end of, if they are of one."""
        first = group[0]
        if first.name not in PARTIALS and first.name != "where":
            return None
        for path, _ in self.paths(first):
            edges = [self.along(record, path) for record in group]
            if any(
                edge is None or edge.ids.shape != r.value.shape for edge, r in zip(edges, group, strict=True)
            ):
                continue
            z = np.concatenate([edge.value.reshape(-1) for edge in edges if edge is not None])
            y = np.concatenate([record.value.reshape(-1) for record in group])
            if _proportional(z, y):
                continue  # a factor alone is like a ReLU on one of its sides
            for f in ACTIVATIONS:
                with np.errstate(all="ignore"):
                    made = f.value(z)
                if np.abs(made - y).max() <= SAME * max(1e-12, float(np.abs(y).max())) and not np.array_equal(
                    z, y
                ):
                    return f, [
                        Unit(record, edge.ids, edge.value, self.inside(record, edge.ids))
                        for record, edge in zip(group, edges, strict=True)
                        if edge is not None
                    ]
        return None

    def made_of(self, record: Record) -> Unit | None:
        """The nearest array that a step is a function of, entry by entry, whatever function that is."""
        shape, inner = record.value.shape, {record.number}
        front = [edge.ids for edge in record.edges] if record.name in BY_ENTRY else []
        for _ in range(MOST_INSIDE):
            if not front or any(ids.shape != shape or not ids.all() for ids in front):
                return None
            if all(np.array_equal(ids, front[0]) for ids in front):
                if len(inner) > 1:
                    value = self._value_of(front[0], inner)
                    return None if value is None else Unit(record, front[0], value, frozenset(inner))
                return None
            makers = [self.single_maker(ids) for ids in front]
            latest = max((m.number for m in makers if m is not None), default=-1)
            if latest < 0 or self.records[latest].name not in BY_ENTRY:
                return None
            inner.add(latest)
            rest = [i for i, m in zip(front, makers, strict=True) if m is None or m.number != latest]
            front = [*rest, *(edge.ids for edge in self.records[latest].edges)]
        return None

    def made_of_each(self, group: list[Record]) -> list[Unit]:
        """The same for all turns of a loop; nothing where it is not so for all."""
        units = [unit for record in group if (unit := self.made_of(record)) is not None]
        return units if len(units) == len(group) else []

    def _value_of(self, ids: Array, inner: set[int]) -> Array | None:
        edges = (edge for number in inner for edge in self.records[number].edges)
        return next((edge.value for edge in edges if np.array_equal(edge.ids, ids)), None)

    def hidden(self, unit: Unit) -> set[int]:
        """Steps of a function whose results nothing else uses: the others are functions of their own."""
        if len(unit.inner) < 2:
            return set()
        end = unit.record.number
        return {number for number in unit.inner if number == end or self.users[number] <= unit.inner}

    def inside(self, record: Record, ids: Array) -> frozenset[int]:
        """Steps between a step and the entries that it is a function of."""
        low, high = int(ids.min()), int(ids.max())
        found: set[int] = set()
        waiting = [record]
        while waiting and len(found) < MOST_PATHS:
            step = waiting.pop()
            found.add(step.number)
            for edge in step.edges:
                before = self.single_maker(edge.ids)
                if before is None or before.first <= low or before.number in found:
                    continue
                if not (before.first <= high and before.holds(ids).any()):
                    waiting.append(before)
        return frozenset(found)

    def bent(self, group: list[Record]) -> list[Unit] | None:
        """Steps that choose between functions of the same entries, as a ReLU with a learned slope."""
        first = group[0]
        if first.name not in {"where", "maximum", "minimum"} or not 0 < len(first.edges) <= 2:
            return None
        ends = [{path for path, _ in self.paths(first) if path[0] == k} for k in range(len(first.edges))]
        for path in sorted(ends[0], key=len):
            for other in sorted(ends[-1], key=len):
                one, two = self.along(first, path), self.along(first, other)
                if one is None or two is None or not np.array_equal(one.ids, two.ids):
                    continue
                edges = [self.along(record, path) for record in group]
                return [
                    Unit(record, edge.ids, edge.value, self.inside(record, edge.ids))
                    for record, edge in zip(group, edges, strict=True)
                    if edge is not None
                ]
        return None

    def clipped(self, group: list[Record]) -> tuple[None, list[Unit]] | None:
        """Steps that keep their operand between two bounds, one after the other."""
        bounds = {"maximum", "minimum"}
        units: list[Unit] = []
        for record in group:
            if record.name not in bounds or len(record.edges) != 1:
                return None
            inner = self.single_maker(record.edges[0].ids)
            if inner is None or {inner.name, record.name} != bounds or len(inner.edges) != 1:
                return None
            edge = inner.edges[0]
            if edge.ids.shape != record.value.shape:
                return None
            units.append(Unit(record, edge.ids, edge.value, frozenset({inner.number, record.number})))
        return None, units

    def is_logged(self, record: Record) -> bool:
        """Whether its logarithm is taken, or that of what it lacks to one, as by a cross-entropy."""
        front = [record]
        for _ in range(NEAR):
            users = [self.records[number] for step in front for number in sorted(self.users[step.number])]
            if any(user.name in {"log", "log1p", "log2"} for user in users):
                return True
            front = [user for user in users if user.name in {"add", "subtract", "maximum", "minimum"}][:NEAR]
        return False

    def softmax(self, group: list[Record]) -> tuple[int, list[Unit]] | None:
        """The axis of the softmax that these steps are the end of, if they are of one."""
        first = max(group, key=lambda record: record.value.size)  # what looks back begins with a single one
        if first.name not in {"divide", "multiply", "exp"} or first.value.ndim == 0:
            return None
        found: tuple[int, list[Unit]] | None = None
        for axis in range(first.value.ndim):
            if first.value.shape[axis] < 2 or np.abs(first.value.sum(axis=axis) - 1).max() > SAME:
                continue
            for path, _ in self.paths(first):
                units: list[Unit] = []
                for record in group:
                    edge = self.along(record, path)
                    if edge is None or edge.value.shape != record.value.shape:
                        break
                    if not _is_softmax(edge.value, record.value, axis):
                        break
                    units.append(Unit(record, edge.ids, edge.value))
                if len(units) == len(group):
                    found = (
                        axis,
                        units,
                    )  # the last: before that the largest is subtracted, which tells nothing
        return found

    def is_chain(self, inputs: set[str]) -> bool:
        """Whether it may be operations one after another: nothing is multiplied with what comes with it."""
        inside: set[int] = set()
        for site in self.sites.values():
            found = self.activation(site[:1])
            if found is not None:
                inside |= found[1][0].inner
        for record in self.records:
            if (
                record.name not in {"multiply", "product"}
                or len(record.edges) != 2
                or record.number in inside
            ):
                continue
            one, two = record.edges
            alike = record.name == "product" or one.ids.shape == two.ids.shape
            if not alike or record.value.size == 1 or np.array_equal(one.ids, two.ids):
                continue
            if all(self.reaches(edge) & inputs for edge in record.edges):
                return False
        return True

    def reaches(self, edge: Edge) -> frozenset[str]:
        """Tensors that an operand depends on."""
        owner = self.tape.owner(edge.ids)
        makers = np.unique(self.maker[edge.ids])
        parts = [self.tensors[maker] for maker in makers[makers >= 0]]
        return frozenset({owner} if owner else set()).union(*parts)

    # --- statistics ---

    def statistic(self, record: Record) -> bool:
        """Whether its sum comes back to the very entries that were summed: a mean, a variance, a norm."""
        if record.name not in {"sum", "max", "min"} or not record.edges:
            return False
        edge = record.edges[0]
        if record.value.size >= edge.ids.size:
            return False
        before = self._before(edge)
        front = [record]
        for _ in range(LONGEST):
            following: list[Record] = []
            for step in front:
                for later, used in self.feeds(step):
                    if later.name not in PARTIALS:
                        continue
                    others = [other for other in later.edges if other is not used]
                    if later.value.size >= edge.ids.size and any(
                        self._meets(other, before, edge) for other in others
                    ):
                        return True
                    if later.value.size <= record.value.size and later not in following:
                        following.append(later)
            front = following[:6]
        return False

    def _before(self, edge: Edge) -> set[int]:
        """Steps that lead to an operand, entry by entry."""
        found: set[int] = set()
        step = self.single_maker(edge.ids)
        waiting = [step] if step is not None else []
        while waiting and len(found) < MOST_PATHS:
            step = waiting.pop()
            found.add(step.number)
            for other in step.edges if step.name in PARTIALS else ():
                maker = self.single_maker(other.ids)
                if maker is not None and maker.number not in found:
                    waiting.append(maker)
        return found

    def _meets(self, other: Edge, before: set[int], source: Edge) -> bool:
        """Whether an operand comes from what was summed."""
        here = self._before(other)
        if here & before:
            return True
        one, two = self._entries(here, other), self._entries(before, source)
        return bool(np.intersect1d(one, two).size)

    def _entries(self, steps: set[int], last: Edge) -> Array:
        """All entries on the way to an operand, reshaped or not: as many as it has, or more."""
        found = [edge.ids for number in steps for edge in self.records[number].edges]
        kept = [ids.reshape(-1) for ids in (*found, last.ids) if ids.size >= last.ids.size]
        everything = np.concatenate(kept)
        return everything[everything > 0]

    # --- loops ---

    def carried(self, made: list[Record]) -> list[tuple[Record, int, Record]]:
        """Where results of a loop's step are used in its next turn: (step, operand, the step that made it).

        A loop over layers is none over time: each of its turns has weights of its own.
        """
        if len(made) < 2 or not self._shares_weights(made):
            return []
        found: list[tuple[Record, int, Record]] = []
        for users in self.sites.values():
            if users[-1].number > made[-1].number:  # also used after the last turn: no way through time
                continue
            for user in users:
                for number, edge in enumerate(user.edges):
                    for before, after in itertools.pairwise(made):
                        if before.number < user.number < after.number and before.holds(edge.ids).any():
                            found.append((user, number, before))
        return found

    def _shares_weights(self, made: list[Record]) -> bool:
        """Whether the turns of a loop, that before the first of these steps too, have weights in common."""
        numbers = [record.number for record in made]
        numbers.insert(0, max(-1, 2 * numbers[0] - numbers[1]))
        turns = [
            {owner for record in self.records[a + 1 : b + 1] for owner in self.owners(record)}
            for a, b in itertools.pairwise(numbers)
        ]
        return all(a & b for a, b in itertools.pairwise(turns))

    def owners(self, record: Record) -> set[str]:
        """Tensors with a name that are operands of a step."""
        return {owner for edge in record.edges if (owner := self.tape.owner(edge.ids))}


def _proportional(z: Array, y: Array) -> bool:
    size = float(z @ z)
    gap = y - (float(z @ y) / size if size > 0 else 0.0) * z
    return float(np.abs(gap).max(initial=0.0)) <= SAME * float(np.abs(y).max(initial=0.0))


def _is_softmax(z: Array, p: Array, axis: int) -> bool:
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max(axis=axis, keepdims=True))
        return bool(np.abs(e / e.sum(axis=axis, keepdims=True) - p).max() <= SAME)
