"""The smallest change of a user's backward pass that would make all gradients right."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from unstuck.gradcheck.local import Expected, Named, factor_named
from unstuck.gradcheck.tape.cuts import CLOSE, Cuts
from unstuck.gradcheck.tape.exchanges import (
    before_updates,
    gradients_known,
    laid_otherwise,
    related,
    summed_otherwise,
    used_elsewhere,
)
from unstuck.gradcheck.tape.masks import named_mask
from unstuck.gradcheck.tape.record import Edge, Place, Record
from unstuck.gradcheck.tape.repair_arrays import Arrays, Known, Spot, derived_arrays, known_arrays
from unstuck.gradcheck.tree import Array

SECONDS = 4.0
FEWEST = 4
SUMS = {"add": (1.0, 1.0), "subtract": (1.0, -1.0)}
CONSTANT = 3
"""With more values it is no mask."""
MOST_SHAPES = 5
"""In which an array is seen."""


@dataclass(frozen=True)
class Repair:
    """What would make everything right."""

    named: Named
    records: list[Record]
    step: int
    """The last step of the forward pass that it is about; -1: not known."""


class Repairs:
    """Changes that are tried at every spot."""

    def __init__(
        self, looked: Cuts, inputs: set[str], sizes: dict[str, int], places: set[Place] | None = None
    ) -> None:
        """Prepare.

        Args:
            looked: both passes.
            inputs: tensors that are no parameters.
            sizes: what a factor may be.
            places: where something may be changed; None: anywhere.
        """
        self.places = places
        self.looked, self.inputs, self.sizes = looked, inputs, sizes
        self.end = time.process_time() + SECONDS
        self.given = self._given()
        self.known = known_arrays(looked, self.given)
        self.derived: Arrays = {}
        self.gradients = gradients_known(looked, self.known)

    def _given(self) -> set[int]:
        """Steps of the backward pass that dy comes to."""
        back = self.looked.back
        inside = np.zeros(back.tape.count, dtype=bool)
        inside[back.dy] = True
        inside[0] = False
        found: set[int] = set()
        for record in back.tape.records[back.first :]:
            if any(inside[edge.ids].any() for edge in record.edges):
                found.add(record.number)
                inside[record.first : record.first + record.value.size] = True
        return found

    def _spots(self) -> Iterator[Spot]:
        looked = self.looked
        plain = [looked.adjoint(weights, set()) for weights in looked.weights]
        for site in looked.sites.values():
            if time.process_time() > self.end:
                return
            if not any(record.number in plain[0] for record in site):
                continue
            if any(record.value.shape != site[0].value.shape for record in site):
                continue
            found = plain
            if len(site) > 1:
                numbers = {record.number for record in site}
                found = [looked.adjoint(weights, numbers) for weights in looked.weights]
            zero = np.zeros(site[0].value.shape)
            signals = [np.stack([adjoint.get(r.number, zero) for r in site]) for adjoint in found]
            value = np.stack([record.value for record in site])
            given = any(record.number in self.given for record in site)
            yield Spot(site, value, signals, given)
            for slot in range(2):
                edges = [edge for record in site for edge in record.edges if edge.slot == slot]
                if len(edges) == len(site) and all(
                    edge.value.shape == edges[0].value.shape for edge in edges
                ):
                    yield self._operand(site, slot, edges, signals)

    def _operand(self, site: list[Record], slot: int, edges: list[Edge], signals: list[Array]) -> Spot:
        value = np.stack([edge.value for edge in edges])
        first = site[0]
        if first.name in SUMS and _wide(value.shape[1:], first.value.shape):
            apart = (len(site), *(1,) * (first.value.ndim - value.ndim + 1), *value.shape[1:])
            wide, ids = (
                np.broadcast_to(array.reshape(apart), (len(site), *first.value.shape))
                for array in (value, np.stack([edge.ids for edge in edges]))
            )
            adjoints = [SUMS[first.name][slot] * signal for signal in signals]
            return Spot(site, wide, adjoints, self._is_given(edges), ids)
        adjoints = [
            np.stack([edge.pull(part, None) for edge, part in zip(edges, signal, strict=True)])
            for signal in signals
        ]
        ids = np.stack([edge.ids for edge in edges])
        return Spot(site, value, adjoints, self._is_given(edges), ids)

    def _is_given(self, edges: list[Edge]) -> bool:
        back = self.looked.back
        starts = self.looked.starts
        for edge in edges:
            if np.isin(edge.ids, back.dy[back.dy > 0]).any():
                return True
            makers = np.unique(np.searchsorted(starts, edge.ids[edge.ids >= starts[0]], side="right") - 1)
            if any(int(maker) + back.first in self.given for maker in makers):
                return True
        return False

    def run(self) -> Repair | None:
        """The first change that makes everything right, the simplest kind first."""
        spots = [
            spot
            for spot in self._spots()
            if spot.value[0].size * len(spot.records) >= FEWEST and self._allowed(spot.records[0])
        ]
        self.end = time.process_time() + SECONDS
        early = (self._updated, self._times, self._other, self._factor, self._added)
        for question in (*early, self._derived, self._indexed):
            if question == self._derived:
                self.derived = derived_arrays(self.looked.graph, self.known)
            for spot in spots:
                if time.process_time() > self.end:
                    return None
                found = question(spot)
                if found is not None:
                    return found
        # where the last layer alone is looked at, whatever is wrong there could be another gradient
        adjoint = self.looked.adjoint(self.looked.weights[0], set())
        for spot in spots if self.places is None else ():
            if time.process_time() > self.end:
                return None
            found = self._exchanged(spot, adjoint)
            if found is not None:
                return found
        laid = laid_otherwise(self.looked) or summed_otherwise(self.looked)
        return Repair(laid[0], [laid[1]], -1) if laid is not None and self._allowed(laid[1]) else None

    def _allowed(self, record: Record) -> bool:
        return self.places is None or record.place in self.places

    def _exchanged(self, spot: Spot, adjoint: dict[int, Array]) -> Repair | None:
        """Another gradient in the place of the one that is meant."""
        if not spot.given or spot.ids is None or not used_elsewhere(self.looked, spot, adjoint):
            return None
        wanted = self.looked.gaps[0] + float((spot.adjoints[0] * spot.value).sum())
        for one, wide in self._fitting(spot, spot.adjoints[0], wanted, self.gradients):
            if not self._repaired(spot, wide - spot.value):
                continue
            named = related(spot.value, wide, [self.derived, self.known])
            if named is not None:
                (kind, text), what = named
                return Repair((kind, text + self._said(what)), spot.records, self._step(what))
            if spot.value.shape == wide.shape and _alike(spot.value, wide):
                return Repair(("transposed", "a gradient is used transposed"), spot.records, -1)
            meant = f": that by what comes from{self._said(one)}" if self._said(one) else ""
            text = f"another gradient is used in place of the one that is meant{meant}"
            return Repair(("input-mistaken", text), spot.records, self._step(one))
        return None

    def _repaired(self, spot: Spot, change: Array) -> bool:
        """Whether a change of the spot closes all gaps."""
        for adjoint, gap in zip(spot.adjoints, self.looked.gaps, strict=True):
            terms = adjoint * change
            size = float(np.abs(terms).sum()) + abs(gap)
            if abs(float(terms.sum()) - gap) > CLOSE * size or abs(gap) <= 10 * CLOSE * size:
                return False
        return True

    def _times(self, spot: Spot) -> Repair | None:
        """A constant factor."""
        along = float((spot.adjoints[0] * spot.value).sum())
        if not spot.given or along == 0:
            return None
        c = 1 + self.looked.gaps[0] / along
        if abs(c) < 1e-3 or not self._repaired(spot, (c - 1) * spot.value):
            return None
        expected = Expected("", (), np.zeros(0, dtype=np.int64), np.zeros(0), self.sizes)
        kind, text = factor_named(1 / c, expected)
        if kind == "sign-flipped":
            return Repair((kind, "what is made here has the wrong sign"), spot.records, -1)
        return Repair((kind, "what is made here " + text.removeprefix("the gradient of  ")), spot.records, -1)

    def _fitting(
        self, spot: Spot, weights: Array, wanted: float, arrays: Arrays | None = None
    ) -> Iterator[tuple[Known, Array]]:
        """Arrays whose weighted sum is the one that is wanted, in the spot's shape."""
        shape = spot.value.shape
        for own, known in (self.known if arrays is None else arrays).items():
            turns = (own[0],) if own[0] == shape[0] else ((1,) if own[0] == 1 else ())
            if not turns or len(own) > len(shape):
                continue
            wide = (own[0], *(1,) * (len(shape) - len(own)), *own[1:])
            if any(a not in {1, b} for a, b in zip(wide, shape, strict=True)):
                continue
            axes = tuple(axis for axis, size in enumerate(wide) if size == 1 and shape[axis] > 1)
            folded = weights.sum(axis=axes, keepdims=True) if axes else weights
            for one in known:
                value = one.value.reshape(wide)
                for turned in (value, value[::-1]) if shape[0] > 1 and own[0] > 1 else (value,):
                    terms = folded * turned
                    if abs(float(terms.sum()) - wanted) <= CLOSE * (float(np.abs(terms).sum()) + abs(wanted)):
                        yield one, np.broadcast_to(turned, shape)

    def _factor(self, spot: Spot) -> Repair | None:
        """Another array that is not multiplied in."""
        wanted = self.looked.gaps[0] + float((spot.adjoints[0] * spot.value).sum())
        for one, wide in self._fitting(spot, spot.adjoints[0] * spot.value, wanted):
            if self._repaired(spot, spot.value * wide - spot.value) and (spot.given or one.back):
                return Repair(self._missing(one), spot.records, self._step(one))
        return None

    def _updated(self, spot: Spot) -> Repair | None:
        """Weights that were changed before."""
        if spot.ids is None or not spot.ids.all() or int(spot.ids.min()) < self.looked.starts[0]:
            return None
        found = before_updates(self.looked, spot.ids)
        if found is None or found[0] in self.inputs or not self._repaired(spot, found[1] - spot.value):
            return None
        text = f"{found[0]} is changed before the gradient is passed on through it"
        return Repair(("weights-updated-early", text), spot.records, -1)

    def _derived(self, spot: Spot) -> Repair | None:
        """A derivative, or something to divide by, that is missing or another one."""
        gap = self.looked.gaps[0]
        along = float((spot.adjoints[0] * spot.value).sum())
        if not spot.given:
            for one, wide in self._fitting(spot, spot.adjoints[0], gap + along, self.derived):
                if one.slope and self._repaired(spot, wide - spot.value):
                    text = f"the derivative of the function here is another one{self._said(one)}"
                    return Repair(("activation-derivative-wrong", text), spot.records, self._step(one))
        for one, wide in self._fitting(spot, spot.adjoints[0] * spot.value, gap + along, self.derived):
            if not self._repaired(spot, spot.value * wide - spot.value):
                continue
            if one.slope and one.inverse:
                text = f"the derivative of a function is multiplied in once too often{self._said(one)}"
                return Repair(("activation-derivative-wrong", text), spot.records, self._step(one))
            if one.slope:
                text = f"the derivative of a function is not multiplied in{self._said(one)}"
                return Repair(("activation-derivative-missing", text), spot.records, self._step(one))
            text = f"what is made here is not divided by what it has to be: that of{self._said(one)}"
            return Repair(("operand-forgotten", text), spot.records, self._step(one))
        return None

    def _said(self, one: Known) -> str:
        return self.looked.graph.said(one.record.place) if one.record is not None and not one.back else ""

    def _indexed(self, spot: Spot) -> Repair | None:
        """Entries of an array that lie next to those that are meant."""
        if spot.ids is None or not spot.ids.all() or spot.ids.size < FEWEST:
            return None
        for whole, value in self._wholes(spot.ids):
            if whole.size == spot.ids[0].size and len(spot.ids) == 1:
                continue
            for axis, by in itertools.product(range(whole.ndim), (1, -1)):
                if whole.shape[axis] > 1:
                    moved = np.roll(value, by, axis).reshape(-1)[spot.ids - whole.flat[0]]
                    if self._repaired(spot, moved - spot.value):
                        text = f"an index is off by one: along axis {axis} of an array of shape {whole.shape}"
                        return Repair(("shifted", text), spot.records, -1)
        return None

    def _wholes(self, ids: Array) -> Iterator[tuple[Array, Array]]:
        """The array that all of these are entries of: its numbers and values, in all shapes that it has."""
        tape = self.looked.back.tape
        low, high = int(ids.min()), int(ids.max())
        found = self.looked.maker(low)
        if found is None or not found.first <= high < found.first + found.value.size:
            return
        shapes = [found.value.shape]
        for record in tape.records:
            for shape in (record.value.shape, *(edge.ids.shape for edge in record.edges)):
                alike = len(shape) > 1 and int(np.prod(shape)) == found.value.size
                if alike and len(shapes) < MOST_SHAPES and shape not in shapes:
                    shapes.append(shape)
        for shape in shapes:
            yield found.ids.reshape(shape), found.value.reshape(shape)

    def _missing(self, one: Known) -> Named:
        place = self.looked.graph.said(one.record.place) if one.record is not None and not one.back else ""
        if one.back:
            return (
                "upstream-ignored",
                "a derivative is not multiplied with the gradient that comes from what follows",
            )
        if one.owner and one.owner not in self.inputs:
            return "scale-forgotten", f"{one.owner} is not multiplied in"
        values = np.unique(one.value)
        if values.size < CONSTANT and 0 in values:
            kind, text = named_mask(self.looked.graph, one.record, "multiplied in")
            return kind, f"{text}: that of{place}"
        return "operand-forgotten", f"an array of the forward pass is not multiplied in: that of{place}"

    def _step(self, one: Known) -> int:
        return one.record.number if one.record is not None and not one.back else -1

    def _other(self, spot: Spot) -> Repair | None:
        """Another array in place of one of the forward pass."""
        if spot.given:
            return None
        for a, b in itertools.combinations(range(1, spot.value.ndim), 2):
            if spot.value.shape[a] == spot.value.shape[b] and self._repaired(
                spot, spot.value.swapaxes(a, b) - spot.value
            ):
                return Repair(
                    ("transposed", "an array is used transposed, or not transposed"), spot.records, -1
                )
        wanted = self.looked.gaps[0] + float((spot.adjoints[0] * spot.value).sum())
        for seen in _seen(spot):
            for one, wide in self._fitting(seen, seen.adjoints[0], wanted):
                if one.back or not self._repaired(seen, wide - seen.value):
                    continue
                place = self.looked.graph.said(one.record.place) if one.record is not None else ""
                text = f"another array stands where that of{place} should"
                return Repair(("input-mistaken", text), spot.records, self._step(one))
        return None

    def _added(self, spot: Spot) -> Repair | None:
        """A way on which the gradient comes back that is not added."""
        if not spot.given:
            return None
        turns, *shape = spot.value.shape
        for target in self.looked.targets.get((turns, int(np.prod(shape))), []):
            values = target.values
            if values[0].shape != tuple(shape):
                continue
            for order in (values, values[::-1]) if turns > 1 else (values,):
                if self._repaired(spot, np.stack(order)):
                    record = target.records[0]
                    way = self.looked.graph.said(record.place)
                    text = f"a way on which the gradient comes back is not added: that of{way}"
                    return Repair(("path-forgotten", text), spot.records, target.records[-1].number)
        return None


def _seen(spot: Spot) -> Iterator[Spot]:
    """As it is, and with its last two axes exchanged, as the factor of a product is."""
    yield spot
    if spot.value.ndim > 2:
        adjoints = [adjoint.swapaxes(-1, -2) for adjoint in spot.adjoints]
        yield replace(spot, value=spot.value.swapaxes(-1, -2), adjoints=adjoints)


def _alike(a: Array, b: Array) -> bool:
    """Whether they hold the same numbers, in whatever order."""
    return bool(np.allclose(np.sort(a, axis=None), np.sort(b, axis=None), rtol=1e-9, atol=0))


def _wide(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an operand is repeated to a shape; what is added at indices is not."""
    pairs = zip(own[::-1], shape[::-1], strict=False)
    return len(own) <= len(shape) and all(a in {1, b} for a, b in pairs)
