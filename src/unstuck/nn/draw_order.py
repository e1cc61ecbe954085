"""In which order a network's values take their numbers from the random stream.

With independent numbers the order changes which seeds fail and not how many. It is a choice here so that this
can be shown, and because a generator that is seeded again along the way does change the odds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.schemes import ParameterSpec

Order: TypeAlias = Literal["layer", "across", "neuron", "neuron_out", "bias_first", "lazy"]
Streams: TypeAlias = Literal["independent", "fixed", "reseeded_per_neuron", "reseeded_per_layer"]
ORDERS: Final[tuple[str, ...]] = get_args(Order)
STREAMS: Final[tuple[str, ...]] = get_args(Streams)
Integers: TypeAlias = NDArray[np.int64]


@dataclass
class _Layer:
    """A layer's values by number, a row a unit (output feature or channel); no columns: nothing is drawn."""

    name: str
    weights: Integers  # (units, inputs of a unit)
    biases: Integers  # (units, 1 or 0)
    inputs: (
        int  # features or channels that come in; 0 for a scale per channel, which stands outside the chain
    )


def draw_positions(
    specs: Sequence[ParameterSpec], drawn: Sequence[bool], order: Order, streams: Streams
) -> list[Integers]:
    """Position in the random stream of every value: its rank in the chosen order.

    - layer: layer by layer, the weights of its first neuron, of its second, ..., then the biases
    - across: in a layer the first weight of every neuron, then the second, ..., then the biases
    - neuron: neuron by neuron, its incoming weights and then its bias; lazy is the same
    - neuron_out: neuron by neuron, its incoming weights, its bias and its outgoing weights, of what is not
      yet drawn; a channel that feeds a Linear layer through a Flatten owns the block of inputs it fills
    - bias_first: a layer's biases before its weights

    A stream that is seeded again starts at position 0 for every neuron, or layer; an outgoing weight belongs
    to the neuron that draws it.

    Args:
        specs: the network's parameters, in the order of its layers.
        drawn: for each, whether its values are drawn; the others have no position.
        order: one of ORDERS.
        streams: one of STREAMS.

    Returns:
        For each parameter the positions of its values, flattened row by row; empty where nothing is drawn.

    Raises:
        UnstuckError: for neuron_out, the inputs of a layer cannot be shared out among the units before it.
    """
    layers, sizes = _number_values(specs, drawn)
    ids: list[Integers] = []
    groups: list[Integers] = []
    units_before = 0
    for index, layer in enumerate(layers):
        following = next((other for other in layers[index + 1 :] if other.inputs), None)
        units = np.arange(len(layer.weights), dtype=np.int64) + units_before
        units_before += len(units)
        for block in _blocks(layer, following if layer.inputs else None, order):
            by_column = order == "across"
            owner = units[:, np.newaxis] if streams == "reseeded_per_neuron" else np.array([[index]])
            ids.append(block.ravel("F" if by_column else "C"))
            groups.append(np.broadcast_to(owner, block.shape).ravel("F" if by_column else "C"))
    sequence = np.concatenate(ids) if ids else np.empty(0, np.int64)
    positions = np.empty_like(sequence)
    if streams in {"reseeded_per_neuron", "reseeded_per_layer"}:
        positions[sequence] = _rank_in_group(np.concatenate(groups))
    else:
        positions[sequence] = np.arange(len(sequence), dtype=np.int64)
    ends = np.cumsum(sizes, dtype=np.int64)
    return [positions[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _number_values(specs: Sequence[ParameterSpec], drawn: Sequence[bool]) -> tuple[list[_Layer], list[int]]:
    """Number all drawn values through; return them by layer, and how many each parameter has."""
    layers: dict[str, _Layer] = {}
    sizes: list[int] = []
    for spec, is_drawn in zip(specs, drawn, strict=True):
        units = spec.shape[0]
        nothing = np.empty((units, 0), np.int64)
        layer = layers.setdefault(spec.layer, _Layer(spec.layer, nothing, nothing, 0))
        size = int(np.prod(spec.shape)) if is_drawn else 0
        numbers = (np.arange(size, dtype=np.int64) + sum(sizes)).reshape(units, -1 if size else 0)
        sizes.append(size)
        if spec.kind in {"weight", "scale"}:
            layer.weights, layer.inputs = numbers, spec.shape[1] if len(spec.shape) > 1 else 0
        else:
            layer.biases = numbers
    return list(layers.values()), sizes


def _blocks(layer: _Layer, following: _Layer | None, order: Order) -> list[Integers]:
    """What a layer draws, in order: matrices with a row a unit."""
    match order:
        case "layer" | "across":
            return [layer.weights, layer.biases]
        case "bias_first":
            return [layer.biases, layer.weights]
        case "neuron" | "lazy":
            return [np.hstack([layer.weights, layer.biases])]
        case "neuron_out":
            return [np.hstack([layer.weights, layer.biases, _take_outgoing(layer, following)])]


def _take_outgoing(layer: _Layer, following: _Layer | None) -> Integers:
    """Outgoing weights of each unit (a row); they are taken from the layer that they lead to."""
    units = len(layer.weights)
    if following is None or following.weights.shape[1] == 0:
        return np.empty((units, 0), np.int64)
    targets = len(following.weights)
    if following.inputs % units:
        raise UnstuckError(
            f"order 'neuron_out' needs a chain of layers: {following.name!r} has {following.inputs} inputs, "
            f"which cannot be shared out among the {units} units of {layer.name!r}"
        )
    outgoing = following.weights.reshape(targets, units, -1).transpose(1, 0, 2).reshape(units, -1)
    following.weights = np.empty((targets, 0), np.int64)
    return outgoing


def _rank_in_group(groups: Integers) -> Integers:
    """How many equal entries stand before each."""
    by_group = np.argsort(groups, kind="stable")
    ordered = groups[by_group]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    lengths = np.diff(starts, append=len(ordered))
    rank = np.empty_like(groups)
    rank[by_group] = np.arange(len(groups)) - np.repeat(starts, lengths)
    return rank
