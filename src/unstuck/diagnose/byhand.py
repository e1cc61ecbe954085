"""Likelihoods that a program writes out itself: what their logarithms are taken of, seen in the graph."""

from typing import Final, NamedTuple

import numpy as np

from unstuck.diagnose.measured import multiplying
from unstuck.diagnose.paths import keeps_numbers
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

PROBABILITIES: Final = frozenset({"Softmax", "Softmax2d", "Sigmoid"})
_APPLIES: Final = {"LogSigmoid": "a sigmoid", "LogSoftmax": "a softmax"}
"""Logarithms that make probabilities first, and with what."""
_SHIFTS: Final = frozenset({"add", "clamp", "clamp_min", "clamp_max", "neg", "rsub", "sub"})
"""Operations between probabilities and their logarithm: one minus them, a little more than 0."""
_TURNS: Final = frozenset({"neg", "rsub"})
_WEIGHS: Final = frozenset({"mul", "Dropout", "neg", "div"})
"""Operations between a logarithm and the sum: multiplied by labels, which may look like a mask."""
_SUMS: Final = frozenset({"add", "sub"})
_ENDS: Final = frozenset({"mean", "sum", "neg", "div", "squeeze"})
_FEW: Final = 3
"""Losses at the start, and at the end, that are looked at."""


class Logarithm(NamedTuple):
    """A logarithm (or a function that makes probabilities) behind the last layers of a network."""

    node: Node
    source: Node
    """What it is taken of, seen through shifts and what only moves numbers."""
    turned: bool
    """Whether that was taken from 1, or from 0, on the way."""

    @property
    def applies(self) -> str:
        """What it makes probabilities with; "" for a plain logarithm."""
        return _APPLIES.get(self.node.type, "")


def logarithms(trace: Recording) -> list[Logarithm]:
    """Logarithms that are a part of the loss, each with what it is taken of."""
    return [_taken(trace, node) for node in _behind(trace) if node.type in {"log", *_APPLIES}]


def doubled(trace: Recording) -> Logarithm | None:
    """What makes probabilities, behind the last layers, of what are probabilities already."""
    makes = [node for node in _behind(trace) if node.type in PROBABILITIES or node.type in _APPLIES]
    return next(
        (one for one in (_taken(trace, node) for node in makes) if one.source.type in PROBABILITIES), None
    )


def of_both_sides(trace: Recording) -> tuple[Logarithm, Logarithm] | None:
    """The two logarithms of a likelihood of yes and no; None if the loss is none that was written out.

    Each is weighed (by the label, and by 1 minus it), and the loss is the mean or the sum of both: a policy's
    likelihood, multiplied by rewards afterwards, is none.
    """
    node = _before_the_end(trace)
    if node is None or node.type not in _SUMS or len(node.inputs) != 2:
        return None
    known = {one.node.name: one for one in logarithms(trace)}
    sides = [_weighed(trace, name, known) for name in node.inputs]
    one, other = sides
    if one is None or other is None or one.source != other.source or one.turned == other.turned:
        return None
    certain = one.node.type == other.node.type == "LogSigmoid" or one.source.type in PROBABILITIES
    return (one, other) if certain else None


def _of_the_side_chosen(trace: Recording) -> bool:
    """Whether the loss is the mean or the sum of log(p where the label says yes, else 1 - p)."""
    node = _before_the_end(trace)
    if node is None or node.type != "log":
        return False
    chosen = _taken(trace, node).source
    if chosen.type != "where" or len(chosen.inputs) != 2:
        return False
    sides = [_side(trace, name) for name in chosen.inputs]
    (one, turned), (other, other_turned) = sides
    return one is not None and one == other and one.type in PROBABILITIES and turned != other_turned


def _side(trace: Recording, name: str) -> tuple[Node | None, bool]:
    """A probability, or what is missing of it to 1 (then: True)."""
    node = trace.structure.node(name)
    if node is None or node.type not in _SHIFTS:
        return node, False
    found = _taken(trace, node)
    return found.source, found.turned ^ (node.type in _TURNS)


def outside_of_yes_and_no(trace: Recording) -> bool:
    """Whether such a likelihood cannot be of labels between 0 and 1.

    Then it is 0 or more, and has no end upwards only; driven the wrong way (OUT009), none downwards only, and
    it begins below 0. Labels outside leave it open both ways, or let a good start turn negative.
    """
    losses = trace.series("loss").values
    if losses.size < _FEW or not np.isfinite(losses).all() or not float(np.mean(losses[-_FEW:])) < 0:
        return False
    return of_both_sides(trace) is not None and (_open_both_ways(trace) or float(np.mean(losses[:_FEW])) > 0)


def driven_down(trace: Recording) -> bool:
    """Whether such a likelihood has lost its minus: it begins below 0, where no answer is sure yet."""
    losses = trace.series("loss").values
    if losses.size < _FEW or not np.isfinite(losses).all() or not (losses < 0).all():
        return False
    written_out = of_both_sides(trace) is not None or _of_the_side_chosen(trace)
    return written_out and not _open_both_ways(trace)


def _open_both_ways(trace: Recording) -> bool:
    falls, rises = (trace.series(f"constant_{way}").values for way in ("falls", "rises"))
    return bool(falls.size and rises.size and (falls == 1).all() and rises[0] == 1)


def _behind(trace: Recording) -> list[Node]:
    """Operations from which nothing leads to a layer with weights; none where no layer is known."""
    layers = {node.name for node in multiplying(trace)}
    leads, found = set(layers), list[Node]()
    for node in reversed(trace.structure.nodes):
        if node.name in leads:
            leads.update(node.inputs)
        else:
            found.append(node)
    return found[::-1] if layers else []


def _taken(trace: Recording, node: Node) -> Logarithm:
    source, turned = node, False
    for _ in trace.structure.nodes:
        known = [one for name in source.inputs if (one := trace.structure.node(name)) is not None]
        if len(known) != 1 or len(source.inputs) != 1:
            break
        source = known[0]
        if source.type not in _SHIFTS and not keeps_numbers(source):
            break
        turned = turned ^ (source.type in _TURNS)
    return Logarithm(node, source, turned)


def _before_the_end(trace: Recording) -> Node | None:
    """The operation before the loss is made one number; None if the network does not end with it."""
    nodes = trace.structure.nodes
    node = nodes[-1] if nodes and nodes[-1].shape == () else None
    for _ in nodes:  # an operation that is done very often stands before itself
        if node is None or node.type not in _ENDS or len(node.inputs) != 1:
            break
        node = trace.structure.node(node.inputs[0])
    return node


def _weighed(trace: Recording, name: str, known: dict[str, Logarithm]) -> Logarithm | None:
    node = trace.structure.node(name)
    for _ in trace.structure.nodes:
        if node is None or node.name in known or node.type not in _WEIGHS or len(node.inputs) != 1:
            break
        node = trace.structure.node(node.inputs[0])
    return known.get(node.name) if node is not None else None
