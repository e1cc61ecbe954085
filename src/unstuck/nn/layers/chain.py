"""Chains of layers: what a network and a block inside a network have in common."""

from collections.abc import Mapping
from typing import Any

from unstuck.errors import UnstuckError
from unstuck.nn.layers.layer import Layer


class Chain:
    """Layers by name, one after another."""

    layers: dict[str, Layer]

    def unfolded(self, name: str) -> dict[str, Layer]:
        """The layers by the names that they get inside another chain, in which this one is called `name`."""
        return {f"{name}.{within}": layer for within, layer in self.layers.items()}


def unfold(layers: tuple[Any, ...], what: str) -> dict[str, Layer]:
    """Layers by name: one mapping, or layers in order; blocks among them as "outer.inner".

    Raises:
        UnstuckError: something that is not a layer, or no layer at all.
    """
    named: Mapping[str, Any] = (
        layers[0]
        if len(layers) == 1 and isinstance(layers[0], Mapping)
        else {str(i): layer for i, layer in enumerate(layers)}
    )
    flat: dict[str, Layer] = {}
    for name, layer in named.items():
        if isinstance(layer, Layer):
            flat[name] = layer
        elif isinstance(layer, Chain):
            flat |= layer.unfolded(name)
        else:
            msg = f"layer {name!r}: expected a layer such as nn.Linear(3, 4), found {layer!r}"
            raise UnstuckError(msg)
    if not flat:
        msg = f"{what} needs at least one layer, found none"
        raise UnstuckError(msg)
    return flat
