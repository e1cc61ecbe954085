"""Arrays that may be missing in a backward pass, or stand in the place of others."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from unstuck.gradcheck.tape.cuts import Cuts, slope_of
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.rules import ONE
from unstuck.gradcheck.tree import Array

CHOOSING = {"where", "maximum", "minimum"}
LINEAR = {"negative", "positive"}
Arrays = dict[tuple[int, ...], list["Known"]]
"""By the number of turns and the shape of each."""


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
    ids: Array | None = None
    """Numbers of the entries, turn by turn, of an operand that is used as it is."""


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
    slope: bool = False
    """Whether it is the derivative of a function of the forward pass, or one divided by it."""
    inverse: bool = False
    """Whether it is one divided by what was made."""


def known_arrays(looked: Cuts, given: set[int]) -> Arrays:
    """What the forward pass made or used, and the gradients that the backward pass made.

    Args:
        looked: both passes.
        given: steps of the backward pass that dy comes to.
    """
    found: Arrays = {}
    graph, back = looked.graph, looked.back
    groups = [(site, False) for site in graph.sites.values()]
    groups += [([record], False) for site in graph.sites.values() if len(site) > 1 for record in site]
    groups += [(site, True) for site in looked.sites.values()]
    for site, later in groups:
        if later and not all(record.number in given for record in site):
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
            _add(found, Known(np.stack(values), site[0], owner, later))
    return found


def _add(found: Arrays, one: Known) -> None:
    alike = found.setdefault(one.value.shape, [])
    if not any(np.array_equal(one.value, other.value) for other in alike):
        alike.append(one)


def derived_arrays(graph: Graph, known: Arrays) -> Arrays:
    """Derivatives of functions of the forward pass; and one divided by these, and by arrays that it made."""
    found: Arrays = {}
    for values, record in _slopes(graph):
        if all(value.shape == values[0].shape for value in values) and values[0].ndim:
            _add(found, Known(np.stack(values), record, "", back=False, slope=True))
    plain = [one for some in known.values() for one in some if not one.back]
    for one in [*(one for some in found.values() for one in some), *plain]:
        if one.value.all():
            for power in (1,) if one.slope else (1, 2):
                _add(found, replace(one, value=1 / one.value**power, inverse=True))
    return found


def _slopes(graph: Graph) -> Iterator[tuple[list[Array], Record]]:
    for site in graph.sites.values():
        whole = graph.activation(site) or graph.clipped(site)
        units = whole[1] if whole is not None else graph.bent(site)
        if units:
            yield [slope_of(graph, unit) for unit in units], site[0]
        elif own := graph.made_of_each(site):
            yield [slope_of(graph, unit) for unit in own], site[0]
        if site[0].name in CHOOSING or (site[0].name in ONE and site[0].name not in LINEAR):
            for slot in range(2):
                edges = [edge for record in site for edge in record.edges if edge.slot == slot]
                if len(edges) == len(site):
                    ones = [np.ones(record.value.shape) for record in site]
                    yield [edge.pull(one, None) for edge, one in zip(edges, ones, strict=True)], site[0]
