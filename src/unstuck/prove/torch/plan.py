"""What the watched run showed of a network, as far as a treatment of its modules needs it."""

import msgspec

from unstuck.trace.structure import NORMALISING, PIECEWISE, SATURATING, Structure

ACTIVATIONS = PIECEWISE | SATURATING


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which activations are hidden, which lie behind the last weights, which layers feed the hidden."""

    hidden: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """Name of the operation -> its type. A module has its attribute path for a name."""
    last: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    """The same behind the last layer with weights: what belongs to the loss."""
    before: tuple[str, ...] = ()
    """Linear and convolution layers whose output goes into a hidden activation, and into no normalisation."""


def plan_of(structure: Structure) -> Plan:
    """Read a plan off a network's structure.

    Args:
        structure: of the watched run.

    Returns:
        The plan; an empty one where the structure is not known.

    Example:
        >>> from unstuck.trace.structure import Node
        >>> fc = Node("0", "Linear", ("input",), parameters={"weight": (4, 3)})
        >>> out = Node("2", "Linear", ("1",), parameters={"weight": (1, 4)})
        >>> plan_of(Structure((fc, Node("1", "ReLU", ("0",)), out)))
        Plan(hidden={'1': 'ReLU'}, last={}, before=('0',))
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
    return Plan(hidden, {name: kind for name, kind in found.items() if name not in hidden}, before)
