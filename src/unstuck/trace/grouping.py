"""Arrays logged by somebody's own code: which belong together, and the structure that they show."""

import math
import warnings
from collections.abc import Mapping

from unstuck.errors import UnstuckError
from unstuck.trace.structure import INPUT, Node, Structure

Shape = tuple[int, ...]

WEIGHT, BIAS = ".weight", ".bias"
TYPES = {1: "Scale", 2: "Linear", 3: "Conv1d", 4: "Conv2d", 5: "Conv3d"}
"""Type of a layer by the number of axes of its weight."""


def torch_names(shapes: Mapping[str, Shape]) -> dict[str, str]:
    """Gives every parameter a name "<layer>.weight" or "<layer>.bias".

    Names that end so already keep theirs. Any other array opens a layer of its own name, but for a
    one-dimensional array that follows a layer of as many units (axis 0) and no bias yet: this is its bias.

    Args:
        shapes: shape of each parameter, in forward order.

    Returns:
        The given names with the new ones, in the same order.

    Raises:
        UnstuckError: when two parameters would have the same name.

    Example:
        >>> torch_names({"W1": (8, 3), "b1": (8,), "out.weight": (2, 8)})
        {'W1': 'W1.weight', 'b1': 'W1.bias', 'out.weight': 'out.weight'}
    """
    names: dict[str, str] = {}
    opened: tuple[str, Shape] | None = None
    for name, shape in shapes.items():
        if name.endswith((WEIGHT, BIAS)):
            names[name], opened = name, None
        elif opened is not None and len(shape) == 1 and shape[0] == opened[1][0]:
            names[name], opened = opened[0] + BIAS, None
        else:
            if opened is not None and len(shape) == 1 and len(opened[1]) == 2 and shape[0] == opened[1][1]:
                _warn_of_axes(name, shape, opened)
            names[name] = name + WEIGHT
            opened = (name, shape) if len(shape) >= 2 else None
    taken: dict[str, str] = {}
    for name, new in names.items():
        if new in taken:
            raise UnstuckError(f"params[{taken[new]!r}] and params[{name!r}] are both {new!r}: rename one")
        taken[new] = name
    return names


def row_name(parameter: str) -> str:
    """Layer name under which a parameter's rows stand: "fc.weight" is "fc", "fc.bias" stays."""
    return parameter.removesuffix(WEIGHT)


def infer_structure(
    parameters: Mapping[str, Shape], outputs: Mapping[str, Shape], loss: str | None = None
) -> Structure:
    """The chain of operations that parameters and activations in forward order show.

    A weight with 2 axes is a "Linear", with 4 a "Conv2d". An activation named like a layer is that layer's
    output; any other is an operation of type "Output". It follows the next layer if
    that has as many units, else the one before if that has, else the first later one that has.

    Args:
        parameters: name ("fc.weight") to shape, in forward order.
        outputs: activation name to the shape of one sample's output (no batch axis), in forward order.
        loss: class name of the loss.
    """
    layers: dict[str, dict[str, Shape]] = {}
    for name, shape in parameters.items():
        layer, _, short = name.rpartition(".")
        layers.setdefault(layer, {})[short] = shape
    behind = _places(layers, outputs)
    nodes: list[Node] = []

    def put(name: str, kind: str, shape: Shape, own: dict[str, Shape]) -> None:
        before = nodes[-1].name if nodes else INPUT
        nodes.append(Node(name=name, type=kind, inputs=(before,), shape=shape, parameters=own))

    for name in behind[""]:
        put(name, "Output", outputs[name], {})
    for layer, own in layers.items():
        axes = len(own.get("weight", own.get("bias", ())))
        put(layer, TYPES.get(axes, "Parameter"), outputs.get(layer, ()), own)
        for name in behind[layer]:
            put(name, "Output", outputs[name], {})
    return Structure(nodes=tuple(nodes), loss=loss)


def _places(layers: Mapping[str, dict[str, Shape]], outputs: Mapping[str, Shape]) -> dict[str, list[str]]:
    """For each layer ("" for the input) the activations that come right after it."""
    order = [name for name in layers if "weight" in layers[name]]
    free = [name for name in outputs if name not in layers]
    behind: dict[str, list[str]] = {name: [] for name in ["", *layers]}
    each = len(free) // len(order) if order and len(free) % len(order) == 0 else 0
    if each and all(
        _units(outputs[name]) == layers[order[i // each]]["weight"][0] for i, name in enumerate(free)
    ):
        for i, name in enumerate(free):
            behind[order[i // each]].append(name)
        return behind
    at = -1
    for name in outputs:
        if name in layers:
            at = order.index(name) if name in order else at
            continue
        widths = [layers[layer]["weight"][0] for layer in order]
        units = _units(outputs[name])
        ahead = [i for i in range(at + 1, len(order)) if widths[i] == units]
        if ahead and (ahead[0] == at + 1 or at < 0 or widths[at] != units):
            at = ahead[0]
        behind[order[at] if at >= 0 else ""].append(name)
    return behind


def _units(shape: Shape) -> int:
    return shape[0] if shape else 1


def _warn_of_axes(name: str, shape: Shape, opened: tuple[str, Shape]) -> None:
    weight, weight_shape = opened
    inputs = math.prod(weight_shape[1:])
    warnings.warn(
        f"params[{name!r}] has {shape[0]} entries, as axis 1 of params[{weight!r}] {weight_shape}: "
        f"axis 0 must count the units, so it is read as {weight_shape[0]} units of {inputs} inputs "
        f"without a bias; "
        f"if its layout is (inputs, units), pass {weight}.T (of the gradient too)",
        stacklevel=5,
    )
