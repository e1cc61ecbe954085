"""What the watched run showed of a network, as far as a treatment of its modules needs it."""

import math

import msgspec

from unstuck.prove.torch.chain import Widths, widths
from unstuck.trace.recording import Recording
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
    weights: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict[str, tuple[int, ...]])
    """Layers with weights, and the shape of these, units first."""
    answer: str = ""
    """The last layer with weights."""
    loss: str = ""
    target: tuple[float, float] | None = None
    """Mean and standard deviation of its targets."""
    widths: Widths = Widths(why_not="its layers are not known")
    by_hand: bool = False
    """Whether it calls no loss function of PyTorch."""


def plan_of(trace: Recording, *, by_hand: bool = False) -> Plan:
    """Read a plan off a network's structure.

    Args:
        trace: of the watched run.
        by_hand: whether it called no loss function of PyTorch.

    Returns:
        The plan; an empty one where the structure is not known.

    Example:
        >>> from unstuck.trace.structure import Node
        >>> fc = Node("0", "Linear", ("input",), parameters={"weight": (4, 3)})
        >>> out = Node("2", "Linear", ("1",), parameters={"weight": (1, 4)})
        >>> plan = plan_of(Recording(Structure((fc, Node("1", "ReLU", ("0",)), out))))
        >>> plan.hidden, plan.before, plan.answer
        ({'1': 'ReLU'}, ('0',), '2')
    """
    structure = trace.structure
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
    mean, spread = trace.first("target.mean"), trace.first("target.std")
    target = None
    if mean is not None and spread is not None and math.isfinite(mean) and spread > 0:
        target = mean, spread
    return Plan(
        hidden,
        last,
        before,
        linear=_linear(structure, weighted, feeding),
        steps=trace.steps,
        weights={node.name: node.parameters["weight"] for node in structure.layers if node.name in weighted},
        answer=structure.output.name if structure.output is not None else "",
        loss=structure.loss or "",
        target=target,
        widths=widths(structure),
        by_hand=by_hand,
    )


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
