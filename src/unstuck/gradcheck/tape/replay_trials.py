"""What a step of the backward pass may have to be instead, tried by running all of it once more.

That tells slips in loops, where what is wrong in one turn spoils the next, and arrays that are used twice.
"""

import functools
import itertools
import operator
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.local import Expected, Named, factor_named
from unstuck.gradcheck.tape.cuts import Cuts
from unstuck.gradcheck.tape.record import Place, Record
from unstuck.gradcheck.tape.repair_arrays import derived_arrays, known_arrays
from unstuck.gradcheck.tape.replay import SMALL, Change, Replay
from unstuck.gradcheck.tree import Array

SECONDS = 6.0
FEWEST = 2
"""Wrong entries: a single one may be made right by chance."""
MOST_SITES = 60
SQUARE = 2
MOST_USES = 4
"""Places that use one array."""
Turns = dict[int, Array]
"""Step to the array that is meant there."""


@dataclass(frozen=True)
class Try:
    """Something to try."""

    named: Named
    changes: dict[int, Change]
    step: int = -1
    """The last step of the forward pass that it is about; -1: not known."""


def replayed(looked: Cuts, wrong: list[str], sizes: dict[str, int]) -> tuple[Named, Record, int] | None:
    """What makes all gradients right: its name, the step of the backward pass, and that of the forward pass.

    Args:
        looked: both passes.
        wrong: tensors whose gradients are wrong.
        sizes: what a factor may be.
    """
    if sum(looked.given[name].size for name in wrong) < FEWEST:
        return None
    replay = Replay(looked)
    sites = _sites(replay, wrong)[:MOST_SITES]
    end = time.process_time() + SECONDS
    trials = _Trials(looked, replay, sizes, end)
    for question in (trials.steps, trials.others, trials.factors, trials.summands, trials.sized):
        for site in sites:
            for one in question(site):
                if time.process_time() > end:
                    return None
                if replay.repairs(one.changes):
                    return one.named, site[0], one.step
    for one, user in trials.throughout(wrong):
        if time.process_time() > end:
            return None
        if replay.repairs(one.changes):
            return one.named, user, one.step
    return None


def _sites(replay: Replay, wrong: list[str]) -> list[list[Record]]:
    """Steps of one place, and of one line of code, that have a part in what is wrong and in nothing else."""
    bad, rest = _masks(replay, wrong)
    found: dict[object, list[Record]] = {}
    for record in replay.steps:
        found.setdefault(record.place, []).append(record)
    shared: dict[object, list[Record]] = {}
    for record in replay.steps:
        shared.setdefault((record.place.calls[:1], record.place.step), []).append(record)
    places = {tuple(record.number for record in site) for site in found.values()}
    several = [site for site in shared.values() if tuple(r.number for r in site) not in places]
    kept: list[list[Record]] = []
    for site in (*found.values(), *several):
        reached = 0
        for record in site:
            reached |= replay.reach[record.number]
        if reached & bad == bad and not reached & rest:
            kept.append([record for record in site if replay.reach[record.number]])
    return kept


def _masks(replay: Replay, wrong: list[str]) -> tuple[int, int]:
    """The bits of gradients that are wrong, and of those that are right and not zero anyway."""
    right, least = replay.looked.reverse.right, SMALL * replay.looked.size
    rest = [n for n in replay.names if n not in wrong and np.abs(right[n]).max(initial=0.0) > least]
    return replay.mask(wrong), replay.mask(rest)


class _Trials:
    """What is tried at steps of one place."""

    def __init__(self, looked: Cuts, replay: Replay, sizes: dict[str, int], end: float) -> None:
        self.looked, self.replay, self.sizes, self.end = looked, replay, sizes, end
        self.of_dy = self._given()
        known = known_arrays(looked, set())
        self.arrays = [one for some in known.values() for one in some if not one.back]
        self.slopes = [one for some in derived_arrays(looked.graph, {}).values() for one in some if one.slope]

    def _given(self) -> set[int]:
        back = self.looked.back
        inside = np.zeros(back.tape.count, dtype=bool)
        inside[back.dy] = True
        found: set[int] = set()
        for record in self.replay.steps:
            inside[0] = False
            if any(inside[edge.ids].any() for edge in record.edges):
                found.add(record.number)
                inside[record.ids] = True
        return found

    # --- the step itself is another one ---

    def steps(self, site: list[Record]) -> Iterator[Try]:
        """Another sign, another axis, factors in another order."""
        name = site[0].name
        yield _same(site, ("sign-flipped", "what is made here has the wrong sign"), lambda made: -made)
        if name == "product":
            yield from _products(site)
        if name == "sum":
            yield from _sums(site)
        if name in {"add", "subtract"} and len(site[0].edges) > 1:
            text = "what is added here has the wrong sign"
            for slot in (0, 1):
                yield Try(("sign-flipped", text), {r.number: _signed(slot) for r in site})

    def sized(self, site: list[Record]) -> Iterator[Try]:
        """Off by a number that is a size of something."""
        for word, size in (("", 2), *self.sizes.items()):
            for c in (float(size), 1.0 / size) if size > 1 else ():
                expected = Expected("", (), np.zeros(0, dtype=np.int64), np.zeros(0), {word: size})
                kind, text = factor_named(1 / c, expected)
                text = text.removeprefix("the gradient of  ")
                yield _same(site, (kind, f"what is made here {text}"), lambda made, c=c: c * made)

    # --- another array in the place of an operand ---

    def others(self, site: list[Record]) -> Iterator[Try]:
        """Other gradients, other arrays of the forward pass, other entries of one array."""
        for slot in range(2):
            yield from self._indices(site, slot)
            values = [_operand(record, slot) for record in site]
            if any(
                value is None or value.shape != values[0].shape for value in values if values[0] is not None
            ):
                continue
            shape = values[0].shape if values[0] is not None else ()
            if not shape:
                continue
            if len(shape) == SQUARE and shape[0] == shape[1] > 1 and site[0].name != "product":
                named = "transposed", "an array is used transposed, or not transposed"
                yield Try(named, {r.number: _moved(slot) for r in site})
            if not any(edge.slot == slot for record in site for edge in record.edges):
                text = "the derivative of the function here is another one"
                for turns, step, said in self._arrays(site, shape, slopes=True):
                    named = "activation-derivative-wrong", text + said
                    yield Try(named, {number: _put(slot, value) for number, value in turns.items()}, step)
            for other in self._made(site, int(np.prod(shape))):
                text = "another gradient is used in place of the one that is meant"
                yield Try(
                    ("input-mistaken", text), {r.number: _from(slot, o, shape) for r, o in other.items()}
                )
            text = "another array is used in the place of the one that is meant"
            for turns, step, said in self._arrays(site, shape):
                named = "input-mistaken", text + said
                yield Try(named, {number: _put(slot, value) for number, value in turns.items()}, step)

    def _arrays(
        self, site: list[Record], shape: tuple[int, ...], *, slopes: bool = False
    ) -> Iterator[tuple[Turns, int, str]]:
        """Arrays of the forward pass of a shape, for each turn of a loop, which may run backwards."""
        size, tight = int(np.prod(shape)), [n for n in shape if n > 1]
        for one in self.slopes if slopes else self.arrays:
            turns, *own = one.value.shape
            if turns == 1 and len(own) > len(shape) and one.value.size == size * len(site) > size:
                turns, own = len(site), own[len(own) - len(shape) :]  # gone through place by place
            if int(np.prod(own)) != size or [n for n in own if n > 1] != tight or turns not in {1, len(site)}:
                continue
            said = self.looked.graph.said(one.record.place) if one.record is not None else ""
            step = one.record.number if one.record is not None else -1
            values = one.value.reshape(turns, *shape)
            for order in (values, values[::-1]) if turns > 1 else (values.repeat(len(site), axis=0),):
                yield (
                    {r.number: value for r, value in zip(site, order, strict=True)},
                    step,
                    f": that of{said}",
                )

    def _made(self, site: list[Record], size: int) -> Iterator[dict[Record, Record]]:
        """Gradients of as many entries that were made last before each step."""
        for other in self.looked.sites.values():
            if other[0].value.size != size or other[0].number not in self.of_dy:
                continue
            numbers = [record.number for record in other]
            at = [int(np.searchsorted(numbers, record.number)) - 1 for record in site]
            if sum(k >= 0 for k in at) > len(at) // 2:  # in the first turn of a loop there may be none
                yield {record: other[k] for record, k in zip(site, at, strict=True) if k >= 0}

    def throughout(self, wrong: list[str]) -> Iterator[tuple[Try, Record]]:
        """Another array of the forward pass in the place of one, wherever that is used."""
        bad, rest = _masks(self.replay, wrong)
        for ids in self._kept():
            if time.process_time() > self.end:
                return
            low, high = int(ids.flat[0]), int(ids.flat[-1])
            places: dict[Place, list[Record]] = {}
            for record in self.replay.steps:
                if any(((e.ids >= low) & (e.ids <= high)).any() for e in record.edges):
                    places.setdefault(record.place, []).append(record)
            sets = [part for n in range(2, MOST_USES + 1) for part in itertools.combinations(places, n)]
            for some in sets if len(places) <= MOST_USES else ():
                users = [record for place in some for record in places[place]]
                reached = functools.reduce(operator.or_, (self.replay.reach[r.number] for r in users))
                if reached & bad != bad or reached & rest:
                    continue
                for one in self.arrays:
                    if one.value.shape == (1, *ids.shape):
                        said = self.looked.graph.said(one.record.place) if one.record is not None else ""
                        text = f"another array is used several times where that of{said} should be"
                        step = one.record.number if one.record is not None else -1
                        change = _instead(low, one.value.reshape(-1))
                        changes = dict.fromkeys((record.number for record in users), change)
                        yield Try(("input-mistaken", text), changes, step), users[0]

    def _kept(self) -> list[Array]:
        """Numbers of the entries of the forward pass's arrays, and of the tensors."""
        tape, first = self.looked.back.tape, self.looked.back.first
        return [*(record.ids for record in tape.records[:first]), *tape.leaves.values()]

    def _indices(self, site: list[Record], slot: int) -> Iterator[Try]:
        """Entries that lie next to those that are meant in one array, or some of those to be added up."""
        edges = [edge for record in site for edge in record.edges if edge.slot == slot]
        wholes = [self._wholes(edge.ids) for edge in edges]
        if len(edges) < len(site) or not all(wholes):
            return
        for axes in {whole.ndim for whole in wholes[0]}:
            some = [next((w for w in found if w.ndim == axes), None) for found in wholes]
            kept = [whole for whole in some if whole is not None]
            if len(kept) < len(site):
                continue
            for axis, by in itertools.product(range(axes), (1, -1)):
                if all(whole.shape[axis] > 1 for whole in kept):
                    moved = [
                        np.roll(whole, by, axis).reshape(-1)[_at(edge.ids, whole)]
                        for edge, whole in zip(edges, kept, strict=True)
                    ]
                    text = f"an index is off by one, along axis {axis} of an array of {axes} axes"
                    changes = {r.number: _entries(slot, ids) for r, ids in zip(site, moved, strict=True)}
                    yield Try(("shifted", text), changes)
            for count in range(1, axes + 1):
                for over in itertools.combinations(range(axes), count):
                    rest = [n for k, n in enumerate(kept[0].shape) if k not in over and n > 1]
                    if rest == [n for n in edges[0].ids.shape if n > 1]:
                        text = "some entries of an array are taken, where all have to be added up"
                        changes = {
                            r.number: _total(slot, whole, over, edge.ids.shape)
                            for r, whole, edge in zip(site, kept, edges, strict=True)
                        }
                        yield Try(("not-summed", text), changes)

    def _wholes(self, ids: Array) -> list[Array]:
        """Numbers of all entries of the array that these are some of, in the shapes that it has."""
        if not ids.size or not ids.all():
            return []
        low, high = int(ids.min()), int(ids.max())
        maker = self.looked.maker(low)
        if maker is not None and maker.first <= low and high < maker.first + maker.value.size:
            shapes = self.looked.back.tape.shapes.get(maker.first, set[tuple[int, ...]]())
            own = [s for s in shapes if int(np.prod(s)) == maker.value.size]
            return [maker.ids, *(maker.ids.reshape(s) for s in own)] if maker.value.size > ids.size else []
        for own in self.looked.back.tape.leaves.values():
            if own.size > ids.size and int(own.flat[0]) <= low and high <= int(own.flat[-1]):
                return [own]
        return []

    # --- something is not multiplied in, or not added ---

    def factors(self, site: list[Record]) -> Iterator[Try]:
        """An array of the forward pass, or a derivative, that is not multiplied in."""
        shape = site[0].value.shape
        if any(record.value.shape != shape for record in site):
            return
        if not any(record.number in self.of_dy for record in site):
            text = "a derivative is not multiplied with the gradient that comes from what follows"
            for other in self._made(site, site[0].value.size):
                yield Try(("upstream-ignored", text), {r.number: _with(o, shape) for r, o in other.items()})
            return
        for slopes in (True, False):
            kind = "activation-derivative-missing" if slopes else "operand-forgotten"
            what = "the derivative of a function" if slopes else "an array of the forward pass"
            for turns, step, said in self._arrays(site, shape, slopes=slopes):
                changes = {number: _times(value) for number, value in turns.items()}
                yield Try((kind, f"{what} is not multiplied in{said}"), changes, step)

    def summands(self, site: list[Record]) -> Iterator[Try]:
        """A gradient that is not added: of this turn of a loop, or of the one before."""
        if site[0].number not in self.of_dy:
            return
        shape = site[0].value.shape
        if any(record.value.shape != shape for record in site):
            return
        for other in self._made(site, site[0].value.size):
            before = any(o.number < s.number for o, s in zip(list(other.values())[1:], site, strict=False))
            kind = "time-not-carried" if before and len(site) > 1 else "path-forgotten"
            text = "a way on which the gradient comes back is not added"
            if kind == "time-not-carried":
                text = "the gradient that the turn before makes is not added"
            yield Try((kind, text), {r.number: _plus(o, shape) for r, o in other.items()})


def _same(site: list[Record], named: Named, change: Callable[[Array], Array]) -> Try:
    def made(record: Record, operands: dict[int, Array], _: Array) -> Array:
        return change(_again(record, operands))

    return Try(named, dict.fromkeys((record.number for record in site), made))


def _again(record: Record, operands: dict[int, Array]) -> Array:
    return record.again(operands) if record.again is not None else record.value


def _signed(slot: int) -> Change:
    def made(record: Record, operands: dict[int, Array], _: Array) -> Array:
        return _again(record, {**operands, slot: -operands[slot]} if slot in operands else operands)

    return made


def _moved(slot: int) -> Change:
    def made(record: Record, operands: dict[int, Array], _: Array) -> Array:
        return _again(record, {**operands, slot: operands.get(slot, record.operands[slot]).T})

    return made


def _put(slot: int, value: Array) -> Change:
    return lambda record, operands, _: _again(record, {**operands, slot: value})


def _from(slot: int, other: Record, shape: tuple[int, ...]) -> Change:
    ids = other.ids.reshape(shape)
    return lambda record, operands, values: _again(record, {**operands, slot: values[ids]})


def _entries(slot: int, ids: Array) -> Change:
    return lambda record, operands, values: _again(record, {**operands, slot: values[ids]})


def _instead(low: int, values: Array) -> Change:
    """Other values for entries from a number on, wherever the step takes them from."""

    def made(record: Record, operands: dict[int, Array], _: Array) -> Array:
        others = dict(operands)
        for edge in record.edges:
            inside = (edge.ids >= low) & (edge.ids < low + values.size)
            others[edge.slot] = np.where(
                inside, values[np.where(inside, edge.ids - low, 0)], others[edge.slot]
            )
        return _again(record, others)

    return made


def _times(value: Array) -> Change:
    return lambda record, operands, _: _again(record, operands) * value


def _with(other: Record, shape: tuple[int, ...]) -> Change:
    ids = other.ids.reshape(shape)
    return lambda record, operands, values: _again(record, operands) * values[ids]


def _at(ids: Array, whole: Array) -> Array:
    """Where entries stand in an array whose entries are numbered in its order."""
    return ids - int(whole.flat[0])


def _total(slot: int, whole: Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> Change:
    def made(record: Record, operands: dict[int, Array], values: Array) -> Array:
        return _again(record, {**operands, slot: values[whole].sum(axis=axes).reshape(shape)})

    return made


def _operand(record: Record, slot: int) -> Array | None:
    """An operand, which may be a constant."""
    edge = next((edge for edge in record.edges if edge.slot == slot), None)
    if edge is not None:
        return edge.value
    return record.operands[slot] if slot < len(record.operands) else None


def _plus(other: Record, shape: tuple[int, ...]) -> Change:
    ids = other.ids.reshape(shape)
    return lambda record, operands, values: _again(record, operands) + values[ids]


def _products(site: list[Record]) -> Iterator[Try]:
    """The factors of a matrix product in another order, or turned."""
    shapes = [value.shape for value in site[0].operands]
    square = all(len(shape) == SQUARE and shape[0] == shape[1] > 1 for shape in shapes)
    text = "a factor of a matrix product is transposed, or not transposed"
    for slot in (0, 1):
        edges = [edge for record in site for edge in record.edges if edge.slot == slot]
        own = [edge.value.shape for edge in edges]
        if len(own) == len(site) and all(len(s) == SQUARE and s[0] == s[1] > 1 for s in own):
            yield Try(("transposed", text), {r.number: _moved(slot) for r in site})
    if not square:
        return

    def turned(record: Record, operands: dict[int, Array], _: Array) -> Array:
        a, b = (operands.get(slot, record.operands[slot]) for slot in (0, 1))
        return b @ a

    text = "the factors of a matrix product stand in the other order"
    yield Try(("transposed", text), dict.fromkeys((record.number for record in site), turned))
    for named in (("transposed", "what a matrix product makes is used transposed, or not transposed"),):
        yield _same(site, named, lambda made: made.T)


def _sums(site: list[Record]) -> Iterator[Try]:
    """Sums over other axes."""
    source, shape = site[0].edges[0].value, site[0].value.shape
    for count in range(1, source.ndim + 1):
        for axes in itertools.combinations(range(source.ndim), count):
            for keep in (False, True):
                made = source.sum(axis=axes, keepdims=keep)
                if made.shape == shape and not np.array_equal(made, site[0].value):
                    named = "not-summed", f"a sum is not taken over axis {axes[0]}, as it has to be"
                    yield Try(named, dict.fromkeys((r.number for r in site), _summed(axes, keep)))


def _summed(axes: tuple[int, ...], keep: bool) -> Change:
    return lambda _, operands, __: operands[0].sum(axis=axes, keepdims=keep)
