"""What the watched run showed of a network, as far as a treatment of its modules needs it."""

import msgspec

from unstuck.trace.structure import NORMALISING, PIECEWISE, SATURATING, Structure

ACTIVATIONS = PIECEWISE | SATURATING
KEEPS_LINEAR = NORMALISING | {
    *("Dropout", "Flatten", "Identity", "AvgPool2d", "AdaptiveAvgPool2d"),
    *("view", "squeeze", "unsqueeze", "permute", "transpose", "t", "mean", "clone", "to_copy"),
}
"""Operations between two layers that leave the pair of them linear."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which activations are hidden, which lie behind the last weights, which layers feed the hidden."""

    hidden: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Name of the operation -> its type. A module has its attribute path for a name."""
    last: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """The same behind the last layer with weights: what belongs to the loss."""
    before: tuple[str, ...] = ()
    """Linear and convolution layers whose output goes into a hidden activation, and into no normalisation."""
    linear: tuple[str, ...] = ()
    """Layers with weights, or the normalisation behind them, where all that comes before the next layer with
    weights is linear."""
    steps: int = 0
    """Optimiser steps that it made."""


def plan_of(structure: Structure, steps: int = 0) -> Plan:
    """Read a plan off a network's structure.

    Args:
        structure: of the watched run.
        steps: that it made.

    Returns:
        The plan; an empty one where the structure is not known.

    Example:
        >>> from unstuck.trace.structure import Node
        >>> fc = Node("0", "Linear", ("input",), parameters={"weight": (4, 3)})
        >>> out = Node("2", "Linear", ("1",), parameters={"weight": (1, 4)})
        >>> plan_of(Structure((fc, Node("1", "ReLU", ("0",)), out)))
        Plan(hidden={'1': 'ReLU'}, last={}, before=('0',), linear=(), steps=0)
    """
    nodes = {node.name: node for node in structure.nodes}
    weighted = {node.name for node in structure.layers if node.type not in NORMALISING}
    feeding: dict[str, list[str]] = {}
    for node in structure.nodes:
        for source in node.inputs:
            feeding.setdefault(source, []).append(node.name)

    def leads_on(name: str) -> bool:
        """Whether a layer with weights comes later."""
        seen, waiting = {name}, list(feeding.get(name, ()))
        while waiting:
            one = waiting.pop()
            if one in weighted:
                return True
            if one not in seen:
                seen.add(one)
                waiting += feeding.get(one, ())
        return False

    found = {node.name: node.type for node in structure.nodes if node.type in ACTIVATIONS}
    hidden = {name: kind for name, kind in found.items() if leads_on(name)}
    before = tuple(
        source
        for source in dict.fromkeys(one for name in hidden for one in nodes[name].inputs)
        if source in weighted and nodes[source].type.startswith(("Linear", "Conv"))
    )
    last = {name: kind for name, kind in found.items() if name not in hidden}
    return Plan(hidden, last, before, _linear(structure, weighted, feeding), steps)


def _linear(structure: Structure, weighted: set[str], feeding: dict[str, list[str]]) -> tuple[str, ...]:
    """See `Plan.linear`."""
    kinds = {node.name: node.type for node in structure.nodes}
    found: list[str] = []
    for layer in sorted(weighted, key=list(kinds).index):
        if not kinds[layer].startswith(("Linear", "Conv")):
            continue
        place = layer
        while len(feeding.get(place, ())) == 1 and kinds[feeding[place][0]] in NORMALISING:
            place = feeding[place][0]
        waiting, seen = list(feeding.get(place, ())), {place}
        while waiting:
            one = waiting.pop()
            if one in weighted:
                found.append(place)
                break
            if one not in seen and kinds[one] in KEEPS_LINEAR:
                waiting += feeding.get(one, ())
            seen.add(one)
    return tuple(found)
