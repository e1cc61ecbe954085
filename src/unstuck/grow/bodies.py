"""The hidden layers of a growing network: what the user gave, or what fits the form of the data."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from unstuck.errors import ShapeError, UnstuckError
from unstuck.nn.compiler import output_shapes
from unstuck.nn.layers.activations import ReLU
from unstuck.nn.layers.chain import Chain, unfold
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.pooling import MaxPool2d
from unstuck.nn.program import Shape

HEAD = "head"
"""The last layer: one unit for every class."""
FILTERS = (16, 32)
UNITS = 128
LEAST_SIDE = 4
"""Pixels: smaller images are not pooled."""


def body(given: Any, shape: Shape) -> dict[str, Layer]:
    """The layers below the head, by name.

    Args:
        given: None for a network that fits the shape; layers, or a network of the engine, whose last layer
            may be the Linear that gives the scores: it is left away, for the head takes its place.
        shape: of one sample: (features,) or (channels, height, width).

    Raises:
        UnstuckError: something that is no layer, or a layer that is called "head".
        ShapeError: layers that do not fit the samples, or do not end in features; names the layer.
    """
    layers = _default(shape) if given is None else _given(given)
    if HEAD in layers:
        raise UnstuckError(f'layers: found one that is called "{HEAD}", expected any other name')
    end = tuple(output_shapes(layers, shape).values())[-1] if layers else shape
    if len(end) == 3:
        layers["flatten"] = Flatten()
    elif len(end) != 1:
        raise ShapeError(f"layers: the last one gives samples of shape {end}, expected features")
    return layers


def _given(given: Any) -> dict[str, Layer]:
    if isinstance(given, Layer):
        given = [given]
    elif isinstance(given, Chain):
        given = given.layers
    elif not isinstance(given, Mapping):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise UnstuckError(
                f"layers: expected layers such as [nn.Linear(4, 8), nn.ReLU()], found {given!r}"
            )
        given = {str(i): layer for i, layer in enumerate(cast("Iterable[Any]", given))}
    layers = unfold((given,), "layers")
    last = next(reversed(layers))
    if isinstance(layers[last], Linear):
        del layers[last]
    return layers


def _default(shape: Shape) -> dict[str, Layer]:
    """Two dense layers for features; for images two convolutions, each pooled by two, and a dense layer."""
    if len(shape) == 1:
        return {
            "fc1": Linear(shape[0], UNITS),
            "relu1": ReLU(),
            "fc2": Linear(UNITS, UNITS),
            "relu2": ReLU(),
        }
    channels, *sides = shape
    layers = dict[str, Layer]()
    for i, filters in enumerate(FILTERS, 1):
        layers |= {f"conv{i}": Conv2d(channels, filters, 3, 1, 1), f"relu{i}": ReLU()}
        if min(sides) >= LEAST_SIDE:
            layers[f"pool{i}"] = MaxPool2d(2)
            sides = [side // 2 for side in sides]
        channels = filters
    features = channels * sides[0] * sides[1]
    return layers | {"flatten": Flatten(), "fc1": Linear(features, UNITS), "relu_fc1": ReLU()}
