"""Products and quotients whose other factor is forgotten, transposed, or another array going back."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.masks import named_mask
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.reverse import Override, Passed
from unstuck.gradcheck.tape.rules import PARTIALS, is_of_sign
from unstuck.gradcheck.tape.tape import unbroadcast
from unstuck.gradcheck.tape.trial import FIRST, SECOND, THIRD, Trial, changed, fullest
from unstuck.gradcheck.tree import Array

MOST_OTHERS = 6
"""So many arrays are tried in place of a factor."""
MOST_PARTS = 64
CLOSE = 1e-9


def of_products(  # noqa: C901  (a list of what may be forgotten)
    graph: Graph, trial: Callable[..., Trial], group: list[Record], inputs: set[str]
) -> Iterator[Trial]:
    """The other factor forgotten, used transposed, or another array in its place.

    Args:
        graph: the forward pass.
        trial: makes a trial of a kind, a text, a rank and an override for every step of the group.
        group: steps of one place that are products, element by element or of matrices, or quotients.
        inputs: tensors that are no parameters.
    """
    first = fullest(group)
    yield from _with_ancestors(graph, group, trial)
    yield from _normalised(graph, group, trial)
    for place, edge in enumerate(first.edges):
        number = edge.slot
        other = first.edges[1 - place] if len(first.edges) == 2 else None
        if first.name != "product":
            if _is_divisor(first, edge):
                continue
            kind, text = _forgotten(graph, first, edge, other, inputs)
            if other is None:
                yield trial(kind, text, SECOND, changed(_plainly, number))
                yield from _masked(trial, first, edge)
            else:
                one = -np.ones(1) if (other.value < 0).all() else np.ones(1)
                made = trial(kind, text, SECOND, changed(lambda e, dy, one=one: e.pull(dy, one), number))
                made.alike = f"operand {number} of {first.name} forgotten"
                yield made
                if first.name == "multiply":
                    yield _by_itself(trial, number)
                text = "both factors of a product get the gradient that belongs to the other one"
                yield trial("operand-forgotten", text, THIRD, changed(lambda e, dy: e.pull(dy, e.value)))
                if kind == "scale-forgotten":
                    yield replace(made, overrides=_scaled_away(graph, group, number))
            continue
        sizes = first.value.shape
        for a, b in itertools.combinations(range(len(sizes)), 2):
            if sizes[a] == sizes[b] > 1 and len(first.edges) > 1:
                text = "the gradient of a matrix product is transposed for one of its factors"
                turned = changed(lambda e, dy, a=a, b=b: e.pull(dy.swapaxes(a, b), None), number)
                yield trial("transposed", text, THIRD, turned)
        factor = edge.other if other is None else other.value
        if factor is not None and (other is None or not graph.tape.owner(other.ids)):
            shape = factor.shape
            for a, b in itertools.combinations(range(len(shape)), 2):
                if shape[a] == shape[b] > 1:
                    text = "the other factor of a matrix product is transposed in the backward pass"
                    yield trial(
                        "transposed", text, SECOND, _with_other(number, lambda v, a=a, b=b: v.swapaxes(a, b))
                    )


def _by_itself(trial: Callable[..., Trial], number: int) -> Trial:
    """A factor in the place of the other one, as where a product is taken for a square."""
    text = "the gradient of a product's factor is multiplied with that factor, not with the other one"
    made = trial("input-mistaken", text, THIRD, changed(lambda e, dy: e.pull(dy, e.value), number))
    made.alike = f"operand {number} by itself"
    return made


def _scaled_away(graph: Graph, group: list[Record], number: int) -> dict[int, Override]:
    """As if an operand were 1 throughout, also where what was made with it is divided by something later."""
    overrides: dict[int, Override] = {}
    for record in group:
        overrides[record.number] = changed(lambda e, dy: e.pull(dy, np.ones(1)), number)
        scale = next((edge.value for edge in record.edges if edge.slot != number), None)
        if scale is None:
            continue
        for later, edge in graph.feeds(record):
            if len(later.edges) == 2 and np.array_equal(edge.ids, record.ids) and later.name in PARTIALS:
                overrides[later.number] = _with_other(1 - edge.slot, lambda v, c=scale: v / c)
    return overrides


def _with_other(number: int, move: Callable[[Array], Array]) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        others = [move(edge.value) for edge in record.edges if edge.slot != number]
        fixed = [edge.other for edge in record.edges if edge.slot == number and edge.other is not None]
        others += [move(factor) for factor in fixed]
        return [
            (edge.ids, edge.pull(dy, others[0] if edge.slot == number and others else None))
            for edge in record.edges
        ]

    return override


def _plainly(edge: Edge, dy: Array) -> Array:
    """Passed on as if the constant that it is multiplied with, or divided by, were not there."""
    return unbroadcast(dy, edge.value.shape)


def _is_divisor(record: Record, edge: Edge) -> bool:
    """Whether an operand stands below the line."""
    if record.name != "divide" or edge.value.shape != record.value.shape:
        return False
    share = edge.pull(np.ones(record.value.shape), None)
    return not np.allclose(share * edge.value, record.value)


def _constant(edge: Edge, record: Record) -> Array | None:
    """What a tensor is multiplied with, where that is no tensor."""
    if edge.value.shape != record.value.shape:
        return None
    return edge.pull(np.ones(record.value.shape), None)


def _forgotten(  # noqa: PLR0911  (a list of what may be forgotten)
    graph: Graph, record: Record, edge: Edge, other: Edge | None, inputs: set[str]
) -> tuple[str, str]:
    if other is None:
        constant = _constant(edge, record)
        if constant is not None and is_of_sign(constant, edge.value):
            return "activation-derivative-missing", "the mask that a ReLU is made with is not used"
        if constant is not None and np.unique(constant).size == 2 and 0 in constant:
            return named_mask(graph, record, "used")
        if constant is not None and np.unique(constant).size > 2:
            return "operand-forgotten", "a product passes its gradient on without its other, constant factor"
        if record.value.size > 1 and ("mean." in record.place.step or _is_mean(graph, record, edge)):
            return "pooling-not-divided", "the gradient of a mean is not divided by its size"
        if _is_masked(graph, record, edge):
            return "dropout-not-scaled", "dropout scales in the forward pass, and not so in the backward pass"
        return "factor", "the constant factor of the forward pass is forgotten in the backward pass"
    owner = graph.tape.owner(other.ids)
    if owner and owner not in inputs and other.value.size < record.value.size:
        return "scale-forgotten", f"{owner} is missing in what is passed on"
    return "operand-forgotten", "a product passes its gradient on without its other factor"


def _is_mean(graph: Graph, record: Record, edge: Edge) -> bool:
    """Whether as many parts of one array are added up as the sum is divided by."""
    share = np.unique(edge.pull(np.ones(record.value.shape), None))
    waiting, makers = [edge], list[int]()
    while waiting and len(makers) < MOST_PARTS:
        part = waiting.pop()
        maker = graph.single_maker(part.ids)
        if maker is not None and maker.name == "add" and len(maker.edges) > 1:
            waiting += maker.edges
        else:
            makers.append(int(graph.maker[part.ids.flat[0]]))
    alike = len(makers) > 1 and len(set(makers)) == 1 and makers[0] >= 0
    return alike and share.size == 1 and abs(share[0] * len(makers) - 1) < CLOSE


def _is_masked(graph: Graph, record: Record, edge: Edge) -> bool:
    """Whether a mask of zeros and ones is multiplied in just before, or just after."""
    before = graph.single_maker(edge.ids)
    after = [graph.records[number] for number in graph.users[record.number]]
    for step in (*([before] if before is not None else []), *(after if len(after) == 1 else [])):
        if step.name != "multiply" or len(step.edges) != 1 or step.edges[0].value.shape != step.value.shape:
            continue
        if np.array_equal(np.unique(step.edges[0].pull(np.ones(step.value.shape), None)), [0, 1]):
            return True
    return False


def _masked(trial: Callable[..., Trial], record: Record, edge: Edge) -> Iterator[Trial]:
    number = edge.slot
    constant = _constant(edge, record)
    if constant is None:
        return
    values = np.unique(constant)
    if values.size != 2 or values[0] != 0 or values[1] in {0.0, 1.0}:
        return
    text = f"dropout scales by {values[1]:.3g} in the forward pass, and not so in the backward pass"
    yield trial(
        "dropout-not-scaled",
        text,
        FIRST,
        changed(lambda e, dy: dy * (e.pull(np.ones(dy.shape), None) != 0), number),
    )
    yield trial(
        "dropout-not-scaled", text, SECOND, changed(lambda e, dy: e.pull(dy, None) * values[1], number)
    )
    mask = "the units that dropout has dropped get a gradient: its mask is not used"
    yield trial("dropout-mask-not-reused", mask, SECOND, changed(lambda _, dy: dy * values[1], number))


def _with_ancestors(graph: Graph, group: list[Record], trial: Callable[..., Trial]) -> Iterator[Trial]:
    """What the other factor was made of, or what was made of it, in its place."""
    first = fullest(group)
    if len(first.edges) != 2:
        return
    for edge in first.edges:
        own = graph.tape.owner(edge.ids)
        if own or graph.single_maker(first.edges[0].ids) is graph.single_maker(first.edges[1].ids):
            continue  # a tensor's own gradient is looked at with all arrays there are
        others = [_of_slot(record, 1 - edge.slot) for record in group]
        if any(other is None for other in others):
            continue
        for what, values in _relatives(graph, [other for other in others if other is not None]):
            chosen = {record.number: value for record, value in zip(group, values, strict=True)}
            text = f"a product's gradient uses {what} in place of its other factor"
            yield trial("input-mistaken", text, THIRD, _with_value(edge.slot, chosen))


def _of_slot(record: Record, slot: int) -> Edge | None:
    return next((edge for edge in record.edges if edge.slot == slot), None)


def _relatives(graph: Graph, others: list[Edge]) -> Iterator[tuple[str, list[Array]]]:
    """Arrays of the same shape, entry by entry before or after the one of each step."""
    makers = [graph.single_maker(other.ids) for other in others]
    made = [maker for maker in makers if maker is not None]
    if len(made) < len(others):
        return
    count = 0
    for path, edge in graph.paths(made[0]):
        ends = [graph.along(maker, path) for maker in made]
        found = [end.value for end in ends if end is not None and end.value.shape == edge.value.shape]
        if len(found) == len(others) and count < MOST_OTHERS:
            count += 1
            yield "what its other factor was made of", found
    for later, _ in itertools.islice(graph.feeds(made[0]), MOST_OTHERS):
        if len(others) == 1 and later.value.shape == others[0].value.shape and later.name in PARTIALS:
            yield "what was made of its other factor", [later.value]


def _with_value(slot: int, values: dict[int, Array]) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        return [
            (edge.ids, edge.pull(dy, values[record.number] if edge.slot == slot else None))
            for edge in record.edges
        ]

    return override


def _normalised(graph: Graph, group: list[Record], trial: Callable[..., Trial]) -> Iterator[Trial]:
    """A division by a size of the very thing that is divided: all of what is passed on is not divided."""
    first = fullest(group)
    if len(first.edges) != 2 or first.name not in {"multiply", "divide"}:
        return
    for edge in first.edges:
        other = first.edges[1 - first.edges.index(edge)]
        small = edge.value.size < first.value.size == other.value.size
        if not small or (first.name == "divide" and edge.slot == 0) or not edge.value.all():
            continue
        if graph.tape.owner(edge.ids) or not graph.reaches(edge) & graph.reaches(other):
            continue
        text = "what is passed on through a normalisation is not divided by the size"
        yield trial("operand-forgotten", text, THIRD, _undivided(edge.slot))
        text = "the gradient passes a normalisation as it is"
        yield trial("operand-forgotten", text, THIRD, _passed_over(edge.slot))


def _undivided(slot: int) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        size = next((edge.value for edge in record.edges if edge.slot == slot), np.ones(1))
        whole = dy * size if record.name == "divide" else dy / size
        return [(edge.ids, edge.pull(whole, None)) for edge in record.edges]

    return override


def _passed_over(slot: int) -> Override:
    def override(record: Record, dy: Array) -> Passed:
        return [(edge.ids, dy) for edge in record.edges if edge.slot != slot]

    return override
