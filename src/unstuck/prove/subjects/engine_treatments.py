"""How a training of the engine takes a treatment: each changes one thing and gives another training."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec
import numpy as np

from unstuck.diagnose.remedies import Kind, Treatment
from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.initialise import Initialisation, Override, Scheme, plan
from unstuck.nn.layers import activations
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.normalisation import BatchNorm1d, BatchNorm2d
from unstuck.nn.network import Sequential
from unstuck.nn.training import Training
from unstuck.trace.structure import NORMALISING, PIECEWISE, SATURATING

_SHAM_EPOCH = 2**32 - 1
"""The sham's permutation is drawn where no epoch of a training draws its own."""


class Refusal(Exception):  # noqa: N818  (not an error of the program: an answer that carries its reason)
    """This treatment cannot be carried out on this training."""


def apply(training: Training, treatment: Treatment) -> Training:
    """Carry out one treatment.

    Args:
        training: the unchanged one; it stays as it is.
        treatment: what to change.

    Returns:
        Another training, which differs in that one thing.

    Raises:
        Refusal: it cannot be done here, or would change nothing.
    """
    change = _APPLY.get(treatment.kind)
    if change is None:
        raise Refusal(f"a network of the engine cannot take {treatment.kind}=... yet")
    return change(training, treatment)


def _apply_init(training: Training, treatment: Treatment) -> Training:
    """Draw weights anew; biases and the weights of other layers keep their schemes."""
    before = training.initialisation
    specs = training.network.specs
    names = _init_targets(training.network, treatment.target)
    try:
        scheme = Scheme(treatment.value, treatment.factor)
        if treatment.target is None:
            norms = {spec.layer for spec in specs if spec.kind == "scale"}
            after = _init_everywhere(before, scheme, norms)
        else:
            layers = {
                name: msgspec.structs.replace(before.layers.get(name, Override()), weights=scheme)
                for name in names
            }
            after = msgspec.structs.replace(before, layers=before.layers | layers)
        plan(specs, after)
    except UnstuckError as error:
        raise Refusal(str(error)) from None
    if all(before.scheme_of(spec) == after.scheme_of(spec) for spec in specs):
        raise Refusal("these weights are drawn so already")
    return replace(training, init=after)


def _init_everywhere(before: Initialisation, scheme: Scheme, norms: set[str]) -> Initialisation:
    """One scheme for all weights. Biases follow the weights' scheme where that is PyTorch's default only.

    Normalisations (`norms`, by name) keep their scales and shifts.
    """
    bias = before.bias
    if bias is None and scheme.scheme != "default" and before.weights.scheme == "default":
        bias = Scheme()
    layers = {
        name: override if name in norms else Override(bias=override.bias)
        for name, override in before.layers.items()
        if name in norms or override.bias is not None
    }
    return msgspec.structs.replace(before, weights=scheme, bias=bias, layers=layers)


def _init_targets(network: Sequential, target: str | None) -> list[str]:
    weighted = [
        name for name, layer in network.layers.items() if layer.parameters() and layer.type not in NORMALISING
    ]
    names = [name for name in weighted if target in {None, name, network.layers[name].type}]
    if not names:
        known = dict.fromkeys([*weighted, *(network.layers[name].type for name in weighted)])
        raise Refusal(f"no layer or type of layer {target!r} has weights; there are {', '.join(known)}")
    return names


def _apply_draws(training: Training, treatment: Treatment) -> Training:
    """One stream for the whole network, in the order that was chosen; the laws stay."""
    del treatment  # there is only one
    before = training.initialisation
    if before.streams == "independent":
        raise Refusal("all weights are drawn from one stream already")
    return replace(training, init=msgspec.structs.replace(before, streams="independent"))


def _apply_output(training: Training, treatment: Treatment) -> Training:
    """Leave out the activation after the last layer with weights, or put a sigmoid in its place."""
    layers = training.network.layers
    weighted = [index for index, layer in enumerate(layers.values()) if layer.parameters()]
    after = list(layers)[max(weighted, default=0) + 1 :]
    ends = [name for name in after if layers[name].type in PIECEWISE | SATURATING]
    if treatment.value == "linear":
        if not ends:
            raise Refusal("there is no activation after the last layer")
        changed = {name: layer for name, layer in layers.items() if name not in ends}
    elif treatment.value == "sigmoid":
        if [layers[name].type for name in ends] == ["Sigmoid"]:
            raise Refusal("the output passes through a sigmoid already")
        kept = {name: layer for name, layer in layers.items() if name not in ends}
        name = ends[-1] if ends else "sigmoid"
        if name in kept:
            raise Refusal(f"a layer is called {name!r} already")
        changed: dict[str, Layer] = {**kept, name: activations.Sigmoid()}
    else:
        raise Refusal(f"a network of the engine cannot take {treatment} yet")
    return replace(training, network=_with_weights_of(training.network, Sequential(changed)))


def _apply_lr(training: Training, treatment: Treatment) -> Training:
    rate = training.optimizer.lr * treatment.factor
    if rate == training.optimizer.lr:
        raise Refusal("the learning rate would stay what it is")
    try:
        return training.with_optimizer(replace(training.optimizer, lr=rate))
    except UnstuckError as error:
        raise Refusal(str(error)) from None


def _apply_activation(training: Training, treatment: Treatment) -> Training:
    """Replace hidden activations: those with weights after them. The output's belongs to the loss."""
    layers = training.network.layers
    kind = getattr(activations, treatment.value, None)
    if kind is None:
        raise Refusal(f"the engine has no {treatment.value} yet")
    hidden = _hidden_activations(layers)
    if not hidden:
        raise Refusal("there is no hidden activation to replace")
    names = [name for name in hidden if treatment.target in {None, name, layers[name].type}]
    if not names:
        raise Refusal(f"no hidden activation {treatment.target!r}; there are {', '.join(hidden)}")
    if all(layers[name].type == treatment.value for name in names):
        raise Refusal(f"the hidden activations are {treatment.value} already")
    changed = {
        name: kind() if name in names and layer.type != treatment.value else layer
        for name, layer in layers.items()
    }
    return replace(training, network=_with_weights_of(training.network, Sequential(changed)))


def _hidden_activations(layers: Mapping[str, Layer]) -> list[str]:
    """Names of the activations with weights after them."""
    weighted = [index for index, layer in enumerate(layers.values()) if layer.parameters()]
    before = list(layers)[: max(weighted, default=0)]
    return [name for name in before if layers[name].type in PIECEWISE | SATURATING]


def _with_weights_of(before: Sequential, after: Sequential) -> Sequential:
    """The number type of a training is that of its network's weights, so they go with it."""
    if not before.initialised:
        return after
    return after.load(after.init(0).state | before.state, before.dtype.type)


def _apply_insert(training: Training, treatment: Treatment) -> Training:
    """Put a batch normalisation between every Linear or Conv2d and the hidden activation after it."""
    del treatment  # there is only one
    layers, shapes = training.network.layers, training.program.shapes
    hidden = _hidden_activations(layers)
    changed = dict[str, Layer]()
    before: Layer | None = None
    for name, layer in layers.items():
        if name in hidden and isinstance(before, Linear | Conv2d):
            norm = f"{name}_norm"
            while norm in layers:
                norm += "_"
            shape = shapes[name]
            changed[norm] = BatchNorm1d(shape[0]) if len(shape) == 1 else BatchNorm2d(shape[0])
        changed[name] = before = layer
    if len(changed) == len(layers):
        raise Refusal("there is no hidden activation right after a Linear or Conv2d")
    try:
        after = replace(training, network=_with_weights_of(training.network, Sequential(changed)))
        after.schedule  # noqa: B018  sees whether every batch is large enough
    except UnstuckError as error:
        raise Refusal(str(error)) from None
    return after


def _apply_data(training: Training, treatment: Treatment) -> Training:
    """Shift and scale the inputs: each feature, or each channel of images. The targets stay."""
    inputs = np.asarray(training.data[0], dtype=np.float64)
    axes = (0, 2, 3) if inputs.ndim == 4 else (0,)
    if treatment.value == "standardise":
        middle, spread = inputs.mean(axis=axes, keepdims=True), inputs.std(axis=axes, keepdims=True)
    else:
        low, high = inputs.min(axis=axes, keepdims=True), inputs.max(axis=axes, keepdims=True)
        middle, spread = (low + high) / 2, (high - low) / 2
    # A feature that never varies has no scale: it becomes 0.
    scaled = (inputs - middle) / np.where(spread > 0, spread, 1.0)
    scaled = scaled.astype(training.dtype)
    if np.allclose(scaled, inputs, rtol=1e-5, atol=1e-6):
        raise Refusal("the inputs are scaled so already")
    return replace(training, data=(scaled, training.data[1]))


def _apply_order(training: Training, treatment: Treatment) -> Training:
    del treatment  # there is only one: the sham
    return reshuffle(training)[0]


def reshuffle(training: Training) -> tuple[Training, list[str]]:
    """Change what should not matter, and say what that is.

    Shuffled samples are dealt in another order, samples in a fixed order only within their batch, where it
    makes no difference but in the last bits. Weights that are drawn at random are drawn in another order,
    unless the generator is seeded again along the way: then the order is part of the program.

    Args:
        training: the unchanged one; it stays as it is.

    Returns:
        The sham's training and, in words, what was changed (empty: nothing in the training is random).
    """
    changed: list[str] = []
    count, batch = training.samples.count, training.batch
    luck = random.uniform(0, random.SHUFFLE, np.arange(count), _SHAM_EPOCH)
    order = np.argsort(luck, kind="stable")
    if training.shuffle and batch < count:
        changed.append("the samples shuffled in another order")
    else:
        order = order[np.argsort(order // batch, kind="stable")]
        if batch > 1 and count > 1:
            changed.append("the samples of each batch in another order")
    inputs, targets = training.inputs[order], training.targets[order]
    init = training.initialisation
    drawn = any(init.scheme_of(spec).draws != "nothing" for spec in training.network.specs)
    if drawn and init.streams in {"independent", "fixed"}:
        init = msgspec.structs.replace(init, order="layer" if init.order == "across" else "across")
        changed.append("the weights drawn in another order")
    return replace(training, data=(inputs, targets), init=init), changed


_APPLY: Mapping[Kind, Callable[[Training, Treatment], Training]] = {
    "init": _apply_init,
    "lr": _apply_lr,
    "activation": _apply_activation,
    "data": _apply_data,
    "insert": _apply_insert,
    "order": _apply_order,
    "draws": _apply_draws,
    "output": _apply_output,
}
