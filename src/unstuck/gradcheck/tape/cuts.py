"""The first array of a user's backward pass that is wrong: were it right, all gradients would be."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.arrangement import ratio
from unstuck.gradcheck.tape.graph import Graph, Unit
from unstuck.gradcheck.tape.record import Edge, Place, Record
from unstuck.gradcheck.tape.reverse import Reverse, add
from unstuck.gradcheck.tape.writing import WrittenBack
from unstuck.gradcheck.tree import Array

SECONDS = 3.0
CLOSE = 1e-7
"""Two sums are the same up to this part of their terms."""
WRONG = 1e-4
"""An array is wrong if it is off by this part of its size."""
TIMES = 3
"""So many random sums must agree."""
FEWEST = 4
"""Entries of an array that is looked at though no step made it."""
MOST_SCALES = 3
MOST_ALONE = 60
"""Of so many steps of one place each is also looked at alone."""


@dataclass(frozen=True)
class Target:
    """Gradients that a backward pass may be meant to make, turn by turn of a loop."""

    records: list[Record]
    """Steps of the forward pass: what is meant is the gradient by their results, or by an operand of them."""
    values: list[Array]
    edge: int = -1
    """Which operand of each; -1: the results."""
    units: list[Unit] | None = None
    """Functions of several steps, by whose input the gradient is."""
    partial: bool = False
    """Whether the operand is a constant in some turns, as a first state of zeros: zeros stand for those."""


@dataclass(frozen=True)
class Cut:
    """What the user made, and what it should have been."""

    made: list[Record]
    """Steps of the backward pass, in the order of the target's."""
    values: list[Array]
    target: Target
    right: list[Array]
    """The target's values, laid out as the user's, and times the scale."""
    scale: float = 1.0
    """What the user's arrays are times the right ones here, where that is made good for later."""


class Cuts:
    """Looks for the array that alone has to be another one."""

    def __init__(
        self,
        back: WrittenBack,
        graph: Graph,
        reverse: Reverse,
        given: dict[str, Array],
        kept: dict[str, Array],
    ) -> None:
        """Prepare.

        Args:
            back: both passes.
            graph: the forward pass alone.
            reverse: its right gradients.
            given: the user's gradients, in the right shapes.
            kept: which entries of them do not lie on a kink.
        """
        self.back, self.graph, self.reverse, self.given, self.kept = back, graph, reverse, given, kept
        self.end = time.process_time() + SECONDS
        rng = np.random.default_rng(0)
        self.weights = [
            {
                name: rng.normal(size=gradient.shape)
                * kept[name]
                / max(float(np.abs(reverse.right[name]).max(initial=0.0)), 1e-9 * self.size)
                for name, gradient in given.items()
            }
            for _ in range(TIMES)
        ]
        self.gaps = [
            sum(float((w[name] * (reverse.right[name] - gradient)).sum()) for name, gradient in given.items())
            for w in self.weights
        ]
        self.firsts = np.array([record.first for record in back.tape.records])
        self.starts = self.firsts[back.first :]
        self.sites: dict[Place, list[Record]] = {}
        self.live: dict[int, list[Edge]] = {}
        """Step of the backward pass to its operands of which something was made there."""
        low = back.tape.records[back.first].first
        for record in back.tape.records[back.first :]:
            self.sites.setdefault(record.place, []).append(record)
            self.live[record.number] = [e for e in record.edges if int(e.ids.max(initial=0)) >= low]
        self.targets = self._targets()
        self.scales = self._scales()

    def maker(self, number: int) -> Record | None:
        """The step of either pass that made an entry."""
        at = int(np.searchsorted(self.firsts, number, side="right")) - 1
        return self.back.tape.records[at] if at >= 0 else None

    @property
    def size(self) -> float:
        """The largest entry of all gradients."""
        return (
            max((float(np.abs(g).max(initial=0.0)) for g in self.reverse.right.values()), default=1.0) or 1.0
        )

    def _targets(self) -> dict[tuple[int, int], list[Target]]:
        """By the number of turns and the size of each."""
        found: dict[tuple[int, int], list[Target]] = {}
        signals = self.reverse.signals

        def note(target: Target) -> None:
            if all(value.size == target.values[0].size for value in target.values) and any(
                value.any() for value in target.values
            ):
                found.setdefault((len(target.values), target.values[0].size), []).append(target)

        for site in self.graph.sites.values():
            groups = [site] if len(site) == 1 else [site, *([record] for record in site[:MOST_ALONE])]
            for group in groups:
                known = self.graph.activation(group) or self.graph.clipped(group)
                units = known[1] if known is not None else self.graph.made_of_each(group)
                if units:
                    values = [signals[u.record.number] * slope_of(self.graph, u) for u in units]
                    note(Target([u.record for u in units], values, units=units))
                most = max((len(record.edges) for record in group), default=0)
                for slot in range(most):
                    if all(len(record.edges) == most for record in group):
                        pulled = [record.edges[slot].pull(signals[record.number], None) for record in group]
                        note(Target(group, pulled, slot))
                    elif (target := _partial(group, slot, signals)) is not None:
                        note(target)
                note(Target(group, [signals[record.number] for record in group]))
        return found

    def adjoint(self, weights: dict[str, Array], blocked: set[int]) -> dict[int, Array]:
        """By how much each step of the backward pass moves the weighted sum of all gradients.

        Args:
            weights: of the gradients' entries.
            blocked: steps through which nothing is passed on.
        """
        tape, first = self.back.tape, self.back.first
        sums = np.zeros(tape.count)
        for name, (_, ids) in self.back.gradients.items():
            add(sums, ids, weights[name].reshape(ids.shape))
        found: dict[int, Array] = {}
        with np.errstate(all="ignore"):
            for record in reversed(tape.records[first:]):
                signal = sums[record.first : record.first + record.value.size].reshape(record.value.shape)
                if not signal.any():
                    continue
                found[record.number] = signal.copy()
                if record.number in blocked:
                    continue
                for edge in self.live[record.number]:
                    add(sums, edge.ids, edge.pull(signal, None), edge)
        return found

    def run(self) -> Iterator[Cut]:
        """All that would make everything right, the first in the backward pass first."""
        plain = [self.adjoint(weights, set()) for weights in self.weights]
        for site in self.sites.values():
            if not any(record.number in plain[0] for record in site):
                continue
            if len(site) == 1:
                yield from self._of(site, plain)
                continue
            if time.process_time() > self.end:
                return
            numbers = {record.number for record in site}
            yield from self._of(site, [self.adjoint(weights, numbers) for weights in self.weights])
            for record in site[:MOST_ALONE]:
                yield from self._of([record], plain)

    def moved(self) -> Iterator[Cut]:
        """As `run`, for arrays that no step made: with entries set to zero, or in other places."""
        plain = [self.adjoint(weights, set()) for weights in self.weights]
        for made, uses in _moved_arrays(self.back):
            if time.process_time() > self.end:
                return
            adjoints: list[dict[int, Array]] = []
            for found in plain:
                total = np.zeros(made.value.shape)
                for record, edge, order in uses:
                    if record.number in found:
                        total += edge.pull(found[record.number], None).transpose(order)
                adjoints.append({made.number: total})
            yield from self._of([made], adjoints)

    def _of(self, made: list[Record], adjoints: list[dict[int, Array]]) -> Iterator[Cut]:
        size = made[0].value.size
        used = frozenset[tuple[int, ...]]() if len(made) > 1 else self._used(made[0])
        if any(record.value.size != size for record in made):
            return
        used |= self._reshaped(made)
        zero = np.zeros(made[0].value.shape)
        pulls = [[found.get(record.number, zero) for record in made] for found in adjoints]
        wanted = [
            gap + sum(float((a * r.value).sum()) for a, r in zip(pull, made, strict=True))
            for gap, pull in zip(self.gaps, pulls, strict=True)
        ]
        for target in self._fitting(len(made), size):
            for order in (made, made[::-1]) if len(made) > 1 else (made,):
                turned = [pull if order is made else pull[::-1] for pull in pulls]
                for laid in _layouts(target.values, order[0].value.shape, used):
                    for scale in self._near(turned[0], laid, wanted[0]):
                        right = [scale * value for value in laid]
                        if all(
                            _same(
                                sum(float((a * s).sum()) for a, s in zip(pull, right, strict=True)),
                                want,
                                gap,
                                pull,
                                right,
                            )
                            for pull, want, gap in zip(turned, wanted, self.gaps, strict=True)
                        ):
                            values = [record.value for record in order]
                            if differ(values, right):
                                yield Cut(order, values, target, right, scale)

    def _near(self, pull: list[Array], laid: list[Array], want: float) -> list[float]:
        """The scales with which the first sum may be the one that is wanted: most are told apart quickly."""
        made = size = 0.0
        for a, s in zip(pull, laid, strict=True):
            made += float(np.vdot(a, s))
            size += (float(np.vdot(a, a)) * float(np.vdot(s, s))) ** 0.5
        most = abs(self.gaps[0])
        return [c for c in self.scales if abs(c * made - want) <= 2 * CLOSE * (abs(c) * size + most)]

    def _used(self, made: Record) -> frozenset[tuple[int, ...]]:
        """Shapes with more axes than its own, in which all of it is used in its order."""
        ids = made.ids.reshape(-1)
        edges = [
            edge
            for record in self.back.tape.records[made.number + 1 :]
            for edge in record.edges
            if edge.ids.size == ids.size and edge.ids.ndim > made.value.ndim
        ]
        return frozenset(
            e.ids.shape for e in edges if e.ids.ndim < 5 and np.array_equal(e.ids.reshape(-1), ids)
        )

    def _reshaped(self, made: list[Record]) -> frozenset[tuple[int, ...]]:
        """Shapes with more axes than theirs to which all of them are brought: parts may be taken of these."""
        found = [self.back.tape.shapes.get(record.first, set[tuple[int, ...]]()) for record in made]
        alike = set.intersection(*found)
        size, axes = made[0].value.size, made[0].value.ndim
        # larger ones begin with these entries, and have those of other steps after them
        return frozenset(s for s in alike if axes < len(s) < 5 and int(np.prod(s)) == size)

    def _scales(self) -> list[float]:
        """What the user's arrays may be times the right ones: 1, or a batch size that comes in later."""
        counts: dict[float, int] = {}
        for record in self.back.tape.records[self.back.first :]:
            for target in self.targets.get((1, record.value.size), []) if record.value.size >= FEWEST else []:
                if (
                    target.edge >= 0
                    or target.units is not None
                    or target.values[0].shape != record.value.shape
                ):
                    continue
                c = ratio(record.value, target.values[0], CLOSE)
                if c is not None and c > 0 and abs(c - 1) > WRONG:
                    counts[round(c, 9)] = counts.get(round(c, 9), 0) + 1
        return [1.0, *sorted(counts, key=lambda c: -counts[c])[:MOST_SCALES]]

    def _fitting(self, turns: int, size: int) -> Iterator[Target]:
        yield from self.targets.get((turns, size), [])
        if turns > 1:  # the forward pass does at once what the backward pass does one by one
            for target in self.targets.get((1, turns * size), []):
                whole = target.values[0]
                for axis in range(min(2, whole.ndim)):
                    if whole.shape[axis] == turns:
                        parts = list(np.moveaxis(whole, axis, 0))
                        yield Target(target.records * turns, parts, target.edge)


def _moved_arrays(back: WrittenBack) -> list[tuple[Record, list[tuple[Record, Edge, tuple[int, ...]]]]]:
    """Arrays that were put together of what steps made: as a step of its own, and where it is used."""
    steps = back.tape.records[back.first :]
    starts = np.array([record.first for record in steps])
    found: list[tuple[Record, list[tuple[Record, Edge, tuple[int, ...]]]]] = []
    ids: list[Array] = []
    for record in steps:
        for edge in record.edges:
            last = int(edge.ids.max(initial=0))
            if edge.ids.size < FEWEST or last < starts[0] or len(found) > MOST_ALONE:
                continue
            maker = steps[int(np.searchsorted(starts, last, side="right")) - 1]
            if edge.ids.size == maker.value.size and np.array_equal(
                edge.ids.reshape(-1), maker.ids.reshape(-1)
            ):
                continue
            for known, (_, uses) in zip(ids, found, strict=True):
                order = _order(edge.ids, known)
                if order is not None:
                    uses.append((record, edge, order))
                    break
            else:
                source = Edge(maker.ids, maker.value, lambda dy, _: dy)
                made = Record(record.number, record.place, "where", maker.first, edge.value, [source])
                ids.append(edge.ids)
                found.append((made, [(record, edge, tuple(range(edge.ids.ndim)))]))
    return found


def _order(ids: Array, known: Array) -> tuple[int, ...] | None:
    """The order of axes in which these are the known numbers."""
    if ids.size != known.size or ids.ndim > 4:
        return None
    for order in itertools.permutations(range(ids.ndim)):
        if np.array_equal(ids.transpose(order), known):
            return order
    return None


def _partial(group: list[Record], slot: int, signals: list[Array]) -> Target | None:
    """Gradients by an operand that is a constant in some turns: what they should be there does not matter."""
    whole = max(group, key=lambda record: len(record.edges))
    wanted = whole.edges[slot].slot
    values: list[Array] = []
    for record in group:
        edge = next((edge for edge in record.edges if edge.slot == wanted), None)
        shape = whole.edges[slot].value.shape
        values.append(np.zeros(shape) if edge is None else edge.pull(signals[record.number], None))
    return Target(group, values, slot, partial=True) if values[-1].any() else None


def slope_of(graph: Graph, unit: Unit) -> Array:
    """The derivative of a function of several steps."""
    inside = unit.inner | {unit.record.number}
    sums = np.zeros(graph.tape.count)
    sums[unit.record.ids] = 1.0
    for number in sorted(inside, reverse=True):
        record = graph.records[number]
        signal = sums[record.ids]
        for edge in record.edges:
            add(sums, edge.ids, edge.pull(signal, None), edge)
    return sums[unit.ids]


def _layouts(
    values: list[Array], shape: tuple[int, ...], used: frozenset[tuple[int, ...]] = frozenset()
) -> Iterator[list[Array]]:
    """The same with axes in another order, so that the shape is the user's.

    Args:
        values: the right ones, turn by turn.
        shape: the user's.
        used: shapes to which the user's array is reshaped later.
    """
    own = values[0].shape
    for order in itertools.permutations(range(len(own))) if len(own) < 5 else [tuple(range(len(own)))]:
        if tuple(own[axis] for axis in order) == shape:
            yield [value.transpose(order) for value in values]
    for apart in used:  # reshaped without the exchange of axes that the forward pass has
        for moved in _apart(values, apart):
            yield [value.reshape(shape) for value in moved]
    if sorted(own) == sorted(shape):
        return
    yield [value.reshape(shape) for value in values]
    if len(own) < len(shape) < 5:  # axes that are one in the forward pass, and stand apart here
        yield from _apart(values, shape)
    elif len(shape) < len(own) < 5:
        for order in list(itertools.permutations(range(len(own))))[1:]:
            yield [value.transpose(order).reshape(shape) for value in values]


def _apart(values: list[Array], shape: tuple[int, ...]) -> Iterator[list[Array]]:
    """With axes that are taken apart and then exchanged, so that the shape is another one."""
    for order in list(itertools.permutations(range(len(shape))))[1:]:
        apart, back = [shape[axis] for axis in order], np.argsort(order)
        yield [value.reshape(apart).transpose(back) for value in values]


def _same(made: float, wanted: float, gap: float, pull: list[Array], right: list[Array]) -> bool:
    size = sum(float(np.abs(a * s).sum()) for a, s in zip(pull, right, strict=True)) + abs(gap)
    return abs(made - wanted) <= CLOSE * size and abs(gap) > 10 * CLOSE * size


def differ(values: list[Array], right: list[Array]) -> bool:
    """Whether arrays are not the right ones."""
    gap = sum(float(((v - r) ** 2).sum()) for v, r in zip(values, right, strict=True))
    return gap > WRONG**2 * sum(float((r**2).sum()) for r in right)
