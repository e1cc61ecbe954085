"""The smallest change of a user's backward pass that would make all gradients right."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.local import Expected, Named, factor_named
from unstuck.gradcheck.tape.cuts import CLOSE, Cuts
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tree import Array

SECONDS = 4.0
FEWEST = 4
SUMS = {"add": (1.0, 1.0), "subtract": (1.0, -1.0)}
CONSTANT = 3
"""With more values it is no mask."""


@dataclass(frozen=True)
class Spot:
    """A result or an operand of a step of the backward pass, turn by turn of a loop."""

    records: list[Record]
    value: Array
    """Turn by turn."""
    adjoints: list[Array]
    """By how much it moves each of the weighted sums of gradients."""
    given: bool
    """Whether the gradient that backward is given, or one made of it, is in it."""


@dataclass(frozen=True)
class Known:
    """An array that may be missing."""

    value: Array
    """Turn by turn."""
    record: Record | None
    owner: str
    """The tensor that it is, if it is one."""
    back: bool
    """Whether it is a gradient of the backward pass."""


@dataclass(frozen=True)
class Repair:
    """What would make everything right."""

    named: Named
    records: list[Record]
    step: int
    """The last step of the forward pass that it is about; -1: not known."""


class Repairs:
    """Changes that are tried at every spot."""

    def __init__(self, looked: Cuts, inputs: set[str], sizes: dict[str, int]) -> None:
        """Prepare.

        Args:
            looked: both passes.
            inputs: tensors that are no parameters.
            sizes: what a factor may be.
        """
        self.looked, self.inputs, self.sizes = looked, inputs, sizes
        self.end = time.process_time() + SECONDS
        self.given = self._given()
        self.known = self._known()

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

    def _known(self) -> dict[tuple[int, ...], list[Known]]:
        """Arrays by the number of turns and the shape of each."""
        found: dict[tuple[int, ...], list[Known]] = {}
        graph, back = self.looked.graph, self.looked.back
        groups = [(site, False) for site in graph.sites.values()]
        groups += [([record], False) for site in graph.sites.values() if len(site) > 1 for record in site]
        groups += [(site, True) for site in self.looked.sites.values()]
        for site, later in groups:
            if later and not all(record.number in self.given for record in site):
                continue
            edges: list[tuple[list[Array], list[Edge] | None]] = [([record.value for record in site], None)]
            for slot in range(2) if not later else ():
                kept = [edge for record in site for edge in record.edges if edge.slot == slot]
                if len(kept) == len(site):
                    edges.append(([edge.value for edge in kept], kept))
            for values, kept in edges:
                if any(value.shape != values[0].shape for value in values) or not values[0].ndim:
                    continue
                owner = back.tape.owner(kept[0].ids) if kept is not None else ""
                one = Known(np.stack(values), site[0], owner, later)
                alike = found.setdefault(one.value.shape, [])
                if not any(np.array_equal(one.value, other.value) for other in alike):
                    alike.append(one)
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
            own = value.reshape(len(site), *(1,) * (first.value.ndim - value.ndim + 1), *value.shape[1:])
            wide = np.broadcast_to(own, (len(site), *first.value.shape))
            adjoints = [SUMS[first.name][slot] * signal for signal in signals]
            return Spot(site, wide, adjoints, self._is_given(edges))
        adjoints = [
            np.stack([edge.pull(part, None) for edge, part in zip(edges, signal, strict=True)])
            for signal in signals
        ]
        return Spot(site, value, adjoints, self._is_given(edges))

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
        spots = [spot for spot in self._spots() if spot.value[0].size * len(spot.records) >= FEWEST]
        for question in (self._times, self._other, self._factor, self._added):
            for spot in spots:
                if time.process_time() > self.end:
                    return None
                found = question(spot)
                if found is not None:
                    return found
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

    def _fitting(self, spot: Spot, weights: Array, wanted: float) -> Iterator[tuple[Known, Array]]:
        """Arrays whose weighted sum is the one that is wanted, in the spot's shape."""
        shape = spot.value.shape
        for own, known in self.known.items():
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
            return (
                "dropout-mask-not-reused",
                f"the mask of the forward pass is not multiplied in: that of{place}",
            )
        return "operand-forgotten", f"an array of the forward pass is not multiplied in: that of{place}"

    def _step(self, one: Known) -> int:
        return one.record.number if one.record is not None and not one.back else -1

    def _other(self, spot: Spot) -> Repair | None:
        """Another array in place of one of the forward pass."""
        if spot.given:
            return None
        wanted = self.looked.gaps[0] + float((spot.adjoints[0] * spot.value).sum())
        for one, wide in self._fitting(spot, spot.adjoints[0], wanted):
            if one.back or not self._repaired(spot, wide - spot.value):
                continue
            place = self.looked.graph.said(one.record.place) if one.record is not None else ""
            text = f"another array stands where that of{place} should"
            return Repair(("input-mistaken", text), spot.records, self._step(one))
        for a, b in itertools.combinations(range(1, spot.value.ndim), 2):
            if spot.value.shape[a] == spot.value.shape[b] and self._repaired(
                spot, spot.value.swapaxes(a, b) - spot.value
            ):
                return Repair(
                    ("transposed", "an array is used transposed, or not transposed"), spot.records, -1
                )
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


def _wide(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an operand is repeated to a shape; what is added at indices is not."""
    pairs = zip(own[::-1], shape[::-1], strict=False)
    return len(own) <= len(shape) and all(a in {1, b} for a, b in pairs)
