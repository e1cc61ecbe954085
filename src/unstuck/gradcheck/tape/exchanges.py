"""Gradients that are used in the place of others, or with their axes in another order."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.arrangement import ratio
from unstuck.gradcheck.local import Named
from unstuck.gradcheck.tape.cuts import CLOSE, Cuts
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.repair_arrays import Arrays, Known, Spot
from unstuck.gradcheck.tree import Array

FEWEST, MOST_AXES = 4, 5
EQUAL = 1e-6
SPREADING = {"multiply", "add", "subtract"}
UPDATING = {"add", "subtract"}
MOST_UPDATES = 40
"""Of one array, one after the other."""


@dataclass
class Laid:
    """Uses of one array, some with its axes in another order."""

    ids: Array
    value: Array
    uses: list[tuple[Record, Edge, tuple[int, ...]]]
    """Steps, their operands, and the order of axes with which the array was laid out anew."""


def laid_otherwise(looked: Cuts) -> tuple[Named, Record] | None:
    """An array that should have had another order of axes where it is used."""
    plain = [looked.adjoint(weights, set()) for weights in looked.weights]
    for laid in _laid(looked, plain[0]):
        pulls = [
            [edge.pull(adjoint[record.number], None) for record, edge, _ in laid.uses] for adjoint in plain
        ]
        for order in list(itertools.permutations(range(laid.value.ndim)))[1:]:
            new = laid.value.transpose(order)
            if new.shape != laid.value.shape:
                continue
            changes = [new.transpose(own).reshape(edge.ids.shape) - edge.value for _, edge, own in laid.uses]
            terms = [[a * b for a, b in zip(some, changes, strict=True)] for some in pulls]
            if all(closes(some, gap) for some, gap in zip(terms, looked.gaps, strict=True)):
                if len(order) == 2:
                    return ("transposed", "an array is used transposed, or not transposed"), laid.uses[0][0]
                text = f"the axes of an array stand in another order: they have to be {order} of those here"
                return ("shifted", text), laid.uses[0][0]
    return None


def summed_otherwise(looked: Cuts) -> tuple[Named, Record] | None:
    """A sum or mean that should have been taken over other axes, and spreads over an array again."""
    plain = [looked.adjoint(weights, set()) for weights in looked.weights]
    steps = looked.back.tape.records[looked.back.first :]
    for total in steps:
        if total.name != "sum" or total.number not in plain[0] or not 0 < total.value.ndim < MOST_AXES:
            continue
        source = total.edges[0].value
        if total.value.ndim != source.ndim:
            continue
        made, number = _mean(total, steps)
        uses = [(record, edge) for record in steps for edge in record.edges if _same(edge.ids, made)]
        if any(record.name not in SPREADING for record, _ in uses):
            continue
        for count in range(1, source.ndim + 1):
            for axes in itertools.combinations(range(source.ndim), count):
                new = source.sum(axis=axes, keepdims=True)
                if new.shape == total.value.shape and np.array_equal(new, total.value):
                    continue
                new = new * number * (new.size / total.value.size if "mean." in made.place.step else 1)
                changes = [_spread(record, edge, new) for record, edge in uses]
                terms = [
                    [
                        adjoint[record.number] * change
                        for (record, _), change in zip(uses, changes, strict=True)
                        if change is not None and record.number in adjoint
                    ]
                    for adjoint in plain
                ]
                if all(some and closes(some, gap) for some, gap in zip(terms, looked.gaps, strict=True)):
                    return (
                        "not-summed",
                        f"a sum or mean is not taken over axis {axes[0]}, as it has to be",
                    ), total
    return None


def _mean(total: Record, steps: list[Record]) -> tuple[Record, float]:
    """The step that divides a sum by a number, and one divided by that; else the sum itself, and 1."""
    users = [record for record in steps if any(_same(edge.ids, total) for edge in record.edges)]
    if len(users) == 1 and users[0].name in {"divide", "multiply"} and len(users[0].edges) == 1:
        factor = (
            ratio(users[0].value, total.value, EQUAL) if users[0].value.shape == total.value.shape else None
        )
        if factor is not None:
            return users[0], factor
    return total, 1.0


def _same(ids: Array, record: Record) -> bool:
    return ids.shape == record.value.shape and int(ids.flat[0]) == record.first if ids.size else False


def _spread(record: Record, edge: Edge, new: Array) -> Array | None:
    """By how much a step's result changes with another value of one operand; None where it does not fit."""
    other = next((e.value for e in record.edges if e is not edge), None)
    try:
        new = np.broadcast_to(new, record.value.shape)
        old = np.broadcast_to(edge.value, record.value.shape)
    except ValueError:
        return None
    if record.name == "multiply":
        with np.errstate(all="ignore"):
            factor = other if other is not None else np.where(old == 0, 0.0, record.value / old)
        return (new - old) * factor
    return (new - old) * (-1.0 if record.name == "subtract" and edge.slot == 1 else 1.0)


def closes(terms: list[Array], gap: float) -> bool:
    """Whether parts of a change add up to what a weighted sum of the gradients is off by."""
    size = sum(float(np.abs(part).sum()) for part in terms) + abs(gap)
    return abs(sum(float(part.sum()) for part in terms) - gap) <= CLOSE * size < 0.1 * abs(gap)


def _laid(looked: Cuts, adjoint: dict[int, Array]) -> list[Laid]:
    found: dict[tuple[int, int, int], list[Laid]] = {}
    used = [
        (record, edge)
        for record in looked.back.tape.records[looked.back.first :]
        for edge in record.edges
        if record.number in adjoint and edge.ids.size >= FEWEST and int(edge.ids.max()) > 0
    ]
    for record, edge in sorted(used, key=lambda use: -use[1].ids.ndim):
        key = (edge.ids.size, int(edge.ids.min()), int(edge.ids.sum()))
        for laid in found.setdefault(key, []):
            own = _order(edge.ids, laid.ids)
            if own is not None:
                laid.uses.append((record, edge, own))
                break
        else:
            if 1 < edge.ids.ndim <= MOST_AXES:
                found[key].append(Laid(edge.ids, edge.value, [(record, edge, tuple(range(edge.ids.ndim)))]))
    return list(itertools.chain.from_iterable(found.values()))


def _order(ids: Array, whole: Array) -> tuple[int, ...] | None:
    """The order of axes with which an array was laid out anew."""
    flat = ids.reshape(-1)
    for order in itertools.permutations(range(whole.ndim)):
        if np.array_equal(whole.transpose(order).reshape(-1), flat):
            return order
    return None


def used_elsewhere(looked: Cuts, spot: Spot, adjoint: dict[int, Array]) -> bool:
    """Whether an operand is used at other places that matter too, so that it may well be right."""
    if spot.ids is None or not spot.ids.all():
        return False
    if np.isin(spot.ids, looked.back.dy).all():
        return True
    own, numbers = set(spot.ids.reshape(-1).tolist()), {record.number for record in spot.records}
    for record in looked.back.tape.records[looked.back.first :]:
        if record.number not in numbers and record.number in adjoint:
            for edge in record.edges:
                if edge.ids.size and int(edge.ids.flat[0]) in own:
                    return True
    return any(ids.size and int(ids.flat[0]) in own for _, ids in looked.back.gradients.values())


def gradients_known(looked: Cuts, known: Arrays) -> Arrays:
    """Gradients that the backward pass made, and those that it should have made."""
    found = {shape: [one for one in some if one.back] for shape, some in known.items()}
    for target in itertools.chain.from_iterable(looked.targets.values()):
        if all(value.shape == target.values[0].shape for value in target.values):
            value = np.stack(target.values)
            found.setdefault(value.shape, []).append(Known(value, target.records[0], "", back=False))
    return found


def before_updates(looked: Cuts, ids: Array) -> tuple[str, Array] | None:
    """The tensor that entries were before the backward pass added to them, and their values in it."""
    tape = looked.back.tape
    value, owner = np.zeros(ids.shape), ""
    makers = np.searchsorted(looked.firsts, ids, side="right") - 1
    for number in np.unique(makers):
        where = makers == number
        step, now = looked.maker(int(ids[where].flat[0])), ids[where]
        for _ in range(MOST_UPDATES):
            if step is None or step.number < looked.back.first or step.name not in UPDATING:
                return None
            edge = next((edge for edge in step.edges if edge.slot == 0), None)
            if edge is None or edge.ids.shape != step.value.shape or not step.holds(now).all():
                return None
            at = now - step.first
            now, value[where] = edge.ids.reshape(-1)[at], edge.value.reshape(-1)[at]
            owner = tape.owner(edge.ids)
            if owner:
                break
            step = looked.maker(int(now.flat[0])) if now.all() else None
    return (owner, value) if owner else None


def related(old: Array, new: Array, arrays: list[Arrays]) -> tuple[Named, Known] | None:
    """What makes one array another one: a factor that is missing, or one too many.

    Args:
        old: as it is used, turn by turn.
        new: what should stand there.
        arrays: what it may be multiplied with.
    """
    for one in _broadcast(old.shape, arrays):
        value = one.value.reshape(
            one.value.shape[0], *(1,) * (old.ndim - one.value.ndim), *one.value.shape[1:]
        )
        if _near(old * value, new):
            if one.slope and not one.inverse:
                return ("activation-derivative-missing", "the derivative of a function is missing"), one
            return ("operand-forgotten", "an array is not multiplied in"), one
        if one.slope and not one.inverse and _near(new * value, old):
            return ("activation-derivative-wrong", "the derivative of a function is taken once more"), one
    return None


def _broadcast(shape: tuple[int, ...], arrays: list[Arrays]) -> Iterator[Known]:
    for own, known in itertools.chain.from_iterable(some.items() for some in arrays):
        if own[0] not in {1, shape[0]} or len(own) > len(shape):
            continue
        pairs = zip(own[:0:-1], shape[::-1], strict=False)
        if all(a in {1, b} for a, b in pairs):
            yield from (one for one in known if not one.back)


def _near(a: Array, b: Array) -> bool:
    return float(((a - b) ** 2).sum()) <= EQUAL**2 * float((b**2).sum())
