"""Growth that keeps the function: what the network answered before, it answers after, to the last bits.

New outputs leave the scores of the old classes as they are. A new hidden unit begins with outgoing weights
of 0, or takes over part of an old unit's. The optimiser's state of all old entries goes on; new entries have
none, and a step count of their own.
"""

import dataclasses
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.grow.bodies import HEAD
from unstuck.grow.draws import rows
from unstuck.grow.network import Array, GrowingNetwork, Kept
from unstuck.nn import random
from unstuck.nn.checks import whole
from unstuck.nn.compiler import output_shapes
from unstuck.nn.layers.activations import ReLU
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.normalisation import BatchNorm
from unstuck.nn.layers.residual import Addition, block_start
from unstuck.nn.layers.softmax import LogSoftmax, Softmax

How = Literal["new", "split"]
UNEVEN = 0.1
"""A split unit's outgoing weights are shared 1/2 +- so much: with equal halves the twins would stay equal."""


def add_outputs(network: GrowingNetwork, count: int) -> None:
    """Give the head more units. Their weights are drawn: the same bits one at a time as all at once."""
    layers = dict(network.layers)
    head = _units(layers, HEAD)
    old = head.out_features
    layers[HEAD] = dataclasses.replace(head, out_features=old + whole("outputs to add", count, 1))
    values, kept = _unchanged(network)
    for short, shape in layers[HEAD].parameters().items():
        name = f"{HEAD}.{short}"
        values[name] = np.concatenate([values[name], rows(network.seed, name, shape, old)])
    network.reshape(layers, values, kept)


def widen(network: GrowingNetwork, layer: str, count: int, how: How = "new") -> None:
    """Give a hidden Linear or Conv2d more units.

    Args:
        network: is changed.
        layer: name of a layer before the head.
        count: how many.
        how: "new" draws incoming weights and starts with outgoing weights of 0; "split" copies units, the
            first ones first, with their normalisation, and shares their outgoing weights between the two.

    Raises:
        UnstuckError: no such layer, or one whose units cannot grow: what it feeds must be another Linear or
            Conv2d, with no residual block on the way. Another `how`.
    """
    if how not in get_args(How):
        raise UnstuckError(f"how: expected one of {', '.join(map(repr, get_args(How)))}, found {how!r}")
    layers = dict(network.layers)
    grown = _units(layers, layer)
    name_out, _ = _sizes(grown)
    old: int = getattr(grown, name_out)
    new = old + whole("units to add", count, 1)
    norms, reader = _downstream(layers, layer)
    values, kept = _unchanged(network)
    parents = _most_used(values[f"{reader}.weight"], old, new - old)
    layers[layer] = dataclasses.replace(grown, **{name_out: new})
    for short, shape in layers[layer].parameters().items():
        name = f"{layer}.{short}"
        added = values[name][parents] if how == "split" else rows(network.seed, name, shape, old)
        values[name] = np.concatenate([values[name], added])
    for norm in norms:
        layers[norm] = dataclasses.replace(_norm(layers[norm]), num_features=new)
        for short in (*layers[norm].parameters(), *layers[norm].buffers()):
            name = f"{norm}.{short}"
            if values[name].ndim:  # all but the number of batches
                values[name] = np.concatenate([values[name], values[name][parents]])
    _feed(network, layers, layer, reader, (old, new), parents if how == "split" else None, values)
    network.reshape(layers, values, kept)


def deepen(network: GrowingNetwork, after: str, name: str) -> None:
    """Put a layer that passes everything on behind a ReLU: an identity, and a ReLU of its own.

    Behind a ReLU nothing is negative, so that a further one changes nothing.

    Args:
        network: is changed.
        after: name of a ReLU.
        name: of the new layer; its ReLU is called "relu_" and that.

    Raises:
        UnstuckError: `after` is no ReLU, or the name is taken.
    """
    layers = dict(network.layers)
    if not isinstance(layers.get(after), ReLU):
        raise UnstuckError(f"deepen: {after!r} is no ReLU of this network; a new layer needs one before it")
    if name in layers or f"relu_{name}" in layers:
        raise UnstuckError(f"deepen: there is a layer {name!r} already")
    shape = output_shapes(layers, network.shape)[after]
    added: Linear | Conv2d = (
        Linear(shape[0], shape[0]) if len(shape) == 1 else Conv2d(shape[0], shape[0], 3, 1, 1)
    )
    weight = np.zeros(added.parameters()["weight"], np.float32)
    units = np.arange(shape[0])
    weight[(units, units, *(1,) * (weight.ndim - 2))] = 1
    values, kept = _unchanged(network)
    values |= {f"{name}.weight": weight, f"{name}.bias": np.zeros(shape[0], np.float32)}
    ordered = dict[str, Layer]()
    for known, layer in layers.items():
        ordered[known] = layer
        if known == after:
            ordered |= {name: added, f"relu_{name}": ReLU()}
    network.reshape(ordered, values, kept)


def consumer(network: GrowingNetwork, layer: str) -> str:
    """The layer that reads the units of a growable one."""
    return _downstream(network.layers, layer)[1]


def growable(network: GrowingNetwork) -> list[str]:
    """Names of the hidden layers that `widen` can take."""
    names = list[str]()
    for name, layer in network.layers.items():
        if name != HEAD and isinstance(layer, Linear | Conv2d):
            try:
                _downstream(network.layers, name)
            except UnstuckError:
                continue
            names.append(name)
    return names


def _most_used(weight: Array, units: int, count: int) -> NDArray[np.intp]:
    """Units by the norm of what is read from them, largest first, over and over."""
    used = np.linalg.norm(weight.reshape(weight.shape[0], units, -1), axis=(0, 2))
    return np.resize(np.argsort(-used, kind="stable"), count)


def _feed(
    network: GrowingNetwork,
    layers: dict[str, Layer],
    source: str,
    reader: str,
    units: tuple[int, int],
    parents: NDArray[np.intp] | None,
    values: dict[str, Array],
) -> None:
    """Give the layer that reads the grown one columns for the new units."""
    old, new = units
    fed = _units(layers, reader)
    _, name_in = _sizes(fed)
    each: int = getattr(fed, name_in) // old
    layers[reader] = dataclasses.replace(fed, **{name_in: new * each})
    name = f"{reader}.weight"
    weight = values[name]
    by_unit = weight.reshape(weight.shape[0], old, each, *weight.shape[2:])
    if parents is None:
        added = np.zeros((weight.shape[0], new - old, *by_unit.shape[2:]), np.float32)
    else:
        by_unit = by_unit.copy()
        added = np.empty((weight.shape[0], new - old, *by_unit.shape[2:]), np.float32)
        drawn = random.keyed(network.seed, f"{source}.split", np.arange(old, new), [0])[:, 0]
        for i, (parent, u) in enumerate(zip(parents, drawn, strict=True)):
            share = np.float32(0.5 + UNEVEN * u)
            added[:, i] = by_unit[:, parent] * share
            by_unit[:, parent] -= added[:, i]
    joined = np.concatenate([by_unit, added], axis=1)
    values[name] = joined.reshape(weight.shape[0], new * each, *weight.shape[2:])


def _downstream(layers: dict[str, Layer], name: str) -> tuple[list[str], str]:
    """Normalisations behind a layer, and the Linear or Conv2d that they feed."""
    names = list(layers)
    starts = {block_start(layers, end): end for end in names if isinstance(layers[end], Addition)}
    norms = list[str]()
    for i in range(names.index(name) + 1, len(names)):
        later, layer = names[i], layers[names[i]]
        if i in starts or isinstance(layer, Addition):
            block = starts.get(i, later)
            raise UnstuckError(
                f"layer {name!r} cannot grow: the residual block {block!r} adds its units to others"
            )
        if isinstance(layer, Softmax | LogSoftmax):
            raise UnstuckError(f"layer {name!r} cannot grow: {later!r} mixes its units")
        if isinstance(layer, BatchNorm):
            norms.append(later)
        elif isinstance(layer, Linear | Conv2d):
            return norms, later
    raise UnstuckError(f"layer {name!r} cannot grow: no layer with weights reads it")


def _unchanged(network: GrowingNetwork) -> tuple[dict[str, Array], Kept]:
    values = {name: value.copy() for name, value in network.net.state.items()}
    kept: Kept = {spec.name: tuple(np.arange(length) for length in spec.shape) for spec in network.net.specs}
    return values, kept


def _units(layers: dict[str, Layer], name: str) -> Any:
    layer = layers.get(name)
    if not isinstance(layer, Linear | Conv2d):
        known = [key for key, value in layers.items() if isinstance(value, Linear | Conv2d)]
        raise UnstuckError(f"no layer {name!r} with units; there are {', '.join(known)}")
    return layer


def _norm(layer: Layer) -> Any:
    return layer


def _sizes(layer: Linear | Conv2d) -> tuple[str, str]:
    """Names of the arguments with the number of units and of inputs."""
    return ("out_channels", "in_channels") if isinstance(layer, Conv2d) else ("out_features", "in_features")
