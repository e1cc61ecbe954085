"""Which layers can be made wider together, read off a network's structure."""

from typing import NamedTuple

from unstuck.trace.structure import INPUT, NONLINEAR, NORMALISING, Node, Structure

RESIZED = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d"})
NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm"})
PASSING = NONLINEAR | {
    *("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "Flatten", "Identity", "add", "mul"),
    *("MaxPool1d", "MaxPool3d", "AvgPool1d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d"),
    *("view", "squeeze", "unsqueeze", "mean", "clone", "to_copy", "Hardtanh", "SELU", "CELU", "Mish"),
}
"""Operations that take any number of units, and give as many."""


class Widths(NamedTuple):
    """What becomes wider."""

    units: tuple[str, ...] = ()
    """Layers that get more units."""
    inputs: tuple[str, ...] = ()
    """Layers that are given more of them."""
    norms: tuple[str, ...] = ()
    """Normalisations in between."""
    why_not: str = ""
    """What stands against it."""


def widths(structure: Structure) -> Widths:
    """All layers get more units but those whose output reaches the loss without passing another one.

    Args:
        structure: of the watched run.

    Returns:
        The layers, or why it cannot be.

    Example:
        >>> fc = Node("0", "Linear", ("input",), parameters={"weight": (4, 3)})
        >>> out = Node("2", "Linear", ("1",), parameters={"weight": (1, 4)})
        >>> widths(Structure((fc, Node("1", "ReLU", ("0",)), out)))
        Widths(units=('0',), inputs=('2',), norms=(), why_not='')
    """
    layers = {node.name for node in structure.layers if node.type not in NORMALISING}
    found: dict[str, list[str]] = {"units": [], "inputs": [], "norms": []}
    sources = _sources(structure, layers)
    nodes = structure.nodes
    inner = [node.name for node in nodes if node.name in layers and not _last(node, nodes, layers)]
    for node in nodes:
        given = sources[node.name]
        wider = given & set(inner)
        if wider and given - wider:
            return Widths(why_not=f"{node.name} is given what becomes wider together with what does not")
        if node.name in layers and node.type not in RESIZED:
            return Widths(why_not=f"{node.name} ({node.type}) would have to become wider too")
        if node.name in inner:
            found["units"].append(node.name)
        if wider and node.name in layers:
            found["inputs"].append(node.name)
        elif wider and node.type in NORMS:
            found["norms"].append(node.name)
        elif wider and node.type not in PASSING:
            return Widths(why_not=f"{node.name} ({node.type}) may count on the width of what it is given")
    if not inner:
        return Widths(why_not="it has no hidden layer")
    return Widths(tuple(found["units"]), tuple(found["inputs"]), tuple(found["norms"]))


def _sources(structure: Structure, layers: set[str]) -> dict[str, set[str]]:
    """Name of an operation -> the layers with weights (or the input) that it is given the output of."""
    found: dict[str, set[str]] = {}
    for node in structure.nodes:
        own: set[str] = set()
        for one in node.inputs:
            own |= {one} if one in layers or one not in found else found[one]
        found[node.name] = own or {INPUT}
    return found


def _last(layer: Node, nodes: tuple[Node, ...], layers: set[str]) -> bool:
    """Whether its output reaches the end without passing another layer with weights."""
    waiting, seen = [layer.name], {layer.name}
    while waiting:
        one = waiting.pop()
        following = [node.name for node in nodes if one in node.inputs]
        if not following:
            return True
        for name in following:
            if name not in layers and name not in seen:
                seen.add(name)
                waiting.append(name)
    return False
