"""What the gradient of one tensor is made of: the steps that use it, and other arrays in their place."""

import itertools
from collections.abc import Iterator

import numpy as np

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.reverse import add
from unstuck.gradcheck.tape.rules import PARTIALS
from unstuck.gradcheck.tree import Array

MOST = 1_000_000
NEXT = 3
"""Steps after a scale in which a normalisation may still go on."""
Uses = list[tuple[Record, Edge]]


def uses(graph: Graph, name: str) -> Uses:
    """Steps that have entries of a tensor as an operand."""
    own = graph.tape.leaves[name]
    if not own.size:
        return []
    low, high = int(own.flat[0]), int(own.flat[-1])
    return [
        (record, edge)
        for record in graph.records
        for edge in record.edges
        if edge.ids.size and ((edge.ids >= low) & (edge.ids <= high)).any()
    ]


def nearest(graph: Graph, names: list[str], step: int, inputs: set[str]) -> str:
    """The parameter that is used last up to a step; a layer's weights rather than its bias.

    Args:
        graph: the forward pass.
        names: of which it is to be one.
        step: number of the step.
        inputs: tensors that are no parameters.
    """
    used = {
        name: max((r.number for r, _ in uses(graph, name) if r.number <= step), default=-1) for name in names
    }
    own = [name for name in names if name not in inputs] or names
    latest = max(own, key=lambda name: used[name])
    if used[latest] < 0:
        return latest
    record = graph.records[used[latest]]
    for edge in record.edges if record.name == "add" else ():
        before = graph.single_maker(edge.ids)
        weights = [name for name in own if before is not None and used[name] == before.number]
        if weights:
            return weights[0]
    return latest


def share(graph: Graph, name: str, signals: list[Array]) -> tuple[Array | None, bool]:
    """Contributions, summed over all axes but the last the gradient: (turns of a loop, samples..., entries).

    Returns:
        The contributions, and whether their first axis is that of turns.
    """
    own = graph.tape.leaves[name]
    parts: list[Array] = []
    for record, edge in uses(graph, name):
        if edge.ids.size != own.size or edge.parts is None:
            return None, False
        order = np.argsort(edge.ids.reshape(-1))
        if not np.array_equal(edge.ids.reshape(-1)[order], own.reshape(-1)):
            return None, False
        part = edge.parts(signals[record.number])
        if part is None:
            part = edge.pull(signals[record.number], None)[None]
        lead = part.shape[: part.ndim - edge.ids.ndim]
        parts.append(part.reshape(*lead, own.size)[..., order])
    if not parts or any(part.shape != parts[0].shape for part in parts):
        return None, False
    if parts[0].size * len(parts) > MOST:
        return None, False
    return (np.stack(parts), True) if len(parts) > 1 else (parts[0], False)


def in_order(graph: Graph, name: str, signals: list[Array]) -> Array | None:
    """What each use of each entry adds to its gradient, first use first: (entries, uses).

    Returns:
        None where entries are used differently often, or only once.
    """
    own = graph.tape.leaves[name].reshape(-1)
    ids: list[Array] = []
    added: list[Array] = []
    for record, edge in uses(graph, name):
        ids.append(edge.ids.reshape(-1))
        added.append(np.broadcast_to(edge.pull(signals[record.number], None), edge.ids.shape).reshape(-1))
    if not ids:
        return None
    numbers, parts = np.concatenate(ids), np.concatenate(added)
    kept = (numbers >= own[0]) & (numbers <= own[-1])
    numbers, parts = numbers[kept], parts[kept]
    counts = np.bincount(numbers - own[0], minlength=own.size)
    if counts.min() != counts.max() or counts[0] < 2:
        return None
    return parts[np.argsort(numbers, kind="stable")].reshape(own.size, int(counts[0]))


def with_others(
    graph: Graph, name: str, signals: list[Array], earlier: list[Record]
) -> Iterator[tuple[str, str, Array]]:
    """Gradients in which a tensor was multiplied with another array than its own: kind, text, gradient.

    Args:
        graph: the forward pass.
        name: of the tensor.
        signals: the right gradients by what steps made.
        earlier: the steps of the first forward pass that was made, at another point.
    """
    found = uses(graph, name)
    if not found or any(record.name not in {"product", "multiply", "divide"} for record, _ in found):
        return
    turns = [record for record, _ in found]
    if len({record.place for record in turns}) > 1:
        return
    own = [_other(record, edge) for record, edge in found]
    if all(other is None for other in own):
        return
    place = graph.said(turns[0].place)
    left = _left(turns, own, earlier)
    stale = (
        [("stale-cache", "uses what an earlier forward pass left instead of its own,", left)] if left else []
    )
    for kind, text, others in itertools.chain(_candidates(graph, turns, own), stale):
        for alike in _signals(graph, turns, signals):
            sums = np.zeros(graph.tape.count)
            for (_, edge), other, signal in zip(found, others, alike, strict=True):
                if other is not None:
                    with np.errstate(all="ignore"):
                        add(sums, edge.ids, edge.pull(signal, other))
            yield kind, f"the gradient of {name} {text}{place}", sums[graph.tape.leaves[name]]


def _signals(graph: Graph, turns: list[Record], signals: list[Array]) -> Iterator[list[Array]]:
    """The gradient by the steps themselves; of a scale also that by what is made of them entry by entry."""
    yield [signals[record.number] for record in turns]
    if len(turns) > 1 or turns[0].name != "multiply":
        return
    shape = turns[0].value.shape
    for later in graph.records[turns[0].number + 1 : turns[0].number + 1 + NEXT]:
        if later.value.shape == shape and later.name in PARTIALS:
            yield [signals[later.number]]


def _other(record: Record, edge: Edge) -> Edge | None:
    rest = [other for other in record.edges if other is not edge]
    return rest[0] if len(rest) == 1 else None


def _left(turns: list[Record], own: list[Edge | None], earlier: list[Record]) -> list[Array | None]:
    """What a tensor was multiplied with in an earlier forward pass; nothing where that was another one."""
    found: list[Array | None] = []
    for record, edge in zip(turns, own, strict=True):
        before = earlier[record.number] if record.number < len(earlier) else None
        if before is None or before.place != record.place:
            return []
        other = next((e for e in before.edges if edge is not None and e.slot == edge.slot), None)
        found.append(other.value if other is not None else None)
    return found


def _candidates(  # noqa: C901  (a list of what may be mistaken)
    graph: Graph, turns: list[Record], own: list[Edge | None]
) -> Iterator[tuple[str, str, list[Array | None]]]:
    """Arrays of the shape of those that a tensor is multiplied with, turn by turn."""
    mine = [edge.value if edge is not None else None for edge in own]
    whole = next(value for value in mine if value is not None)
    shape = whole.shape
    if len(turns) == 1 and turns[0].name == "multiply":
        yield (
            "input-mistaken",
            "uses what it was multiplied with as it is, without what follows,",
            [whole],
        )
    for by in (1, -1):
        if len(turns) > 1:
            moved = [mine[k + by] if 0 <= k + by < len(mine) else None for k in range(len(mine))]
            which = "after" if by == 1 else "before"
            yield "shifted", f"uses what belongs to the step {which} its own", moved
    for name, ids in graph.tape.leaves.items():
        if ids.shape == shape and len(turns) == 1:
            value = _leaf_value(graph, ids)
            if value is not None and not np.array_equal(value, whole):
                yield "input-mistaken", f"uses {name} itself instead of what was made of it", [value]
    for place, records in graph.sites.items():
        arrays: list[list[tuple[int, Array]]] = [[(r.number, r.value) for r in records]]
        arrays += [
            [(r.number, edge.value) for r in records for edge in r.edges if edge.slot == slot]
            for slot in range(2)
        ]
        for every in arrays:
            seen = [(number, value) for number, value in every if value.shape == shape]
            for before in (True, False) if seen else ():
                chosen = _aligned(turns, seen, before=before)
                if chosen is None:
                    continue
                if all(
                    np.array_equal(a, b)
                    for a, b in zip(chosen, mine, strict=True)
                    if a is not None and b is not None
                ):
                    continue
                where = graph.said(place)
                text = f"uses another array than the one that it was multiplied with: that of{where}, in"
                yield "input-mistaken", text, chosen


def _aligned(
    turns: list[Record], seen: list[tuple[int, Array]], *, before: bool
) -> list[Array | None] | None:
    """For each turn the array that was made last before it, or first after it."""
    if len(turns) == 1 and len(seen) > 1 and not before:
        return None
    chosen: list[Array | None] = []
    for turn in turns:
        fitting = [value for number, value in seen if (number <= turn.number) == before]
        chosen.append((fitting[-1] if before else fitting[0]) if fitting else None)
    return chosen if any(value is not None for value in chosen) else None


def _leaf_value(graph: Graph, ids: Array) -> Array | None:
    value = np.full(graph.tape.count, np.nan)
    for record in graph.records:
        for edge in record.edges:
            value[edge.ids] = edge.value
    found = value[ids]
    return found if np.isfinite(found).all() else None
