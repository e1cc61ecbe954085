"""A Keras model in PyTorch's words: names of layers and losses, and weights with units along axis 0."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.trace.grouping import torch_names
from unstuck.trace.structure import INPUT, Location, LossFacts, Node, Structure

Array = npt.NDArray[Any]

LAYERS = {
    "Dense": "Linear",
    "Conv1D": "Conv1d",
    "Conv2D": "Conv2d",
    "Conv3D": "Conv3d",
    "MaxPooling1D": "MaxPool1d",
    "MaxPooling2D": "MaxPool2d",
    "AveragePooling2D": "AvgPool2d",
    "GlobalAveragePooling2D": "AdaptiveAvgPool2d",
    "LayerNormalization": "LayerNorm",
    "GroupNormalization": "GroupNorm",
    "Reshape": "view",
    "Add": "add",
    "Concatenate": "cat",
}
ACTIVATIONS = {
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softmax": "Softmax",
    "gelu": "GELU",
    "elu": "ELU",
    "silu": "SiLU",
    "swish": "SiLU",
    "leaky_relu": "LeakyReLU",
    "softplus": "Softplus",
}
WEIGHTS: dict[str, str] = {"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"}
ENTROPIES = frozenset({"sparse_categorical_crossentropy", "categorical_crossentropy"})
LOSSES = {"mean_squared_error": "MSELoss", "mse": "MSELoss", "mean_absolute_error": "L1Loss", "mae": "L1Loss"}


@dataclass(frozen=True)
class Weight:
    """A variable of a layer, by the name that PyTorch would give it."""

    name: str
    """Such as "dense.weight"."""
    variable: Any

    def read(self, value: Any) -> Array:
        """The variable's numbers, or its gradient's: units along axis 0."""
        array = as_array(value)
        kernel = self.variable.name.rpartition("/")[2].endswith("kernel")
        return np.moveaxis(array, (-1, -2), (0, 1)) if kernel and array.ndim > 1 else array


def as_array(value: Any) -> Array:
    """The numbers of a tensor of any backend that computes at once; a view where that is possible."""
    detach = getattr(value, "detach", None)
    if detach is not None:
        value = detach()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        value = value.cpu()
    return np.asarray(value)


def layer_name(path: str, model: str) -> str:
    """The name of a layer from its path in Keras.

    Example:
        >>> layer_name("sequential/block/dense", "sequential")
        'block.dense'
    """
    return path.removeprefix(model + "/").replace("/", ".")


def weights_of(model: Any) -> list[Weight]:
    """All variables that are trained, in the order of the layers."""
    found: dict[str, Any] = {}
    for variable in model.trainable_variables:
        path, _, short = str(variable.path).rpartition("/")
        layer = layer_name(path, model.name)
        short = WEIGHTS.get(short, short)
        found[f"{layer}.{short}" if layer else short] = variable
    names = torch_names({name: as_array(variable.value).shape for name, variable in found.items()})
    return [Weight(names[name], variable) for name, variable in found.items()]


def activation_type(layer: Any) -> str | None:
    """PyTorch's name of the activation that a layer applies to its own result; None for none."""
    function = getattr(layer, "activation", None)
    name = getattr(function, "__name__", "")
    return None if name in {"", "linear"} else ACTIVATIONS.get(name, name)


def loss_name(loss: Any, last: str | None) -> str | None:
    """PyTorch's loss that computes the same from the same output; None for one that is not known by name.

    Args:
        loss: what `compile` was given: a name, a function or an object.
        last: type of the last operation. Cross entropy of a softmax's result is PyTorch's of its input.

    Example:
        >>> loss_name("mse", None), loss_name("sparse_categorical_crossentropy", "Softmax")
        ('MSELoss', 'CrossEntropyLoss')
    """
    settings = loss.get_config() if hasattr(loss, "get_config") else {}
    name = loss if isinstance(loss, str) else settings.get("name") or getattr(loss, "__name__", None)
    if not isinstance(name, str):
        return None
    logits = bool(settings.get("from_logits", False))
    if settings.get("reduction", "sum_over_batch_size") not in {"sum_over_batch_size", "mean"}:
        return name
    if name in ENTROPIES and not settings.get("label_smoothing"):
        return "CrossEntropyLoss" if logits or last == "Softmax" else name
    if name == "binary_crossentropy" and not settings.get("label_smoothing"):
        return "BCEWithLogitsLoss" if logits else "BCELoss"
    return LOSSES.get(name, name)


def takes_scores(loss: Any, backend: str) -> bool:
    """Whether a loss applies a softmax or a sigmoid itself.

    TensorFlow's looks behind an activation for the scores, if it is told that it is given scores.

    Args:
        loss: what `compile` was given.
        backend: Keras's.
    """
    settings = loss.get_config() if hasattr(loss, "get_config") else {}
    return bool(settings.get("from_logits", False)) and backend != "tensorflow"


@dataclass(frozen=True)
class Called:
    """A layer's call: what it was given by whom, and what came out."""

    layer: Any
    name: str
    inputs: tuple[str, ...]
    output: Array


def structure(
    calls: Sequence[Called],
    weights: Sequence[Weight],
    held: frozenset[int],
    loss: str | None,
    facts: LossFacts,
    locations: Mapping[int, Location],
    *,
    scores: bool = False,
) -> Structure:
    """The layers in the order of their calls; an activation inside a layer is a node of its own.

    `scores`: whether the loss applies a softmax or a sigmoid itself.
    """
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    optimised: dict[str, bool] = {}
    for weight in weights:
        layer, _, short = weight.name.rpartition(".")
        shapes.setdefault(layer, {})[short] = weight.read(weight.variable.value).shape
        optimised[layer] = id(weight.variable) in held
    nodes: list[Node] = []
    for call in calls:
        kind = _type(call)
        inner = activation_type(call.layer) if kind != "Activation" else None
        nodes.append(
            Node(
                name=call.name,
                type=(activation_type(call.layer) or "Identity") if kind == "Activation" else kind,
                inputs=call.inputs or (INPUT,),
                shape=_per_sample(call.output),
                parameters=shapes.pop(call.name, {}),
                trainable=bool(call.layer.trainable),
                optimised=optimised.get(call.name),
                location=locations.get(id(call.layer)),
            )
        )
        if inner is not None:
            nodes.append(
                Node(
                    name=f"{call.name}.activation",
                    type=inner,
                    inputs=(call.name,),
                    shape=nodes[-1].shape,
                    location=nodes[-1].location,
                )
            )
    nodes += [_loose(name, own, nodes) for name, own in shapes.items()]
    if loss == "CrossEntropyLoss" and nodes and nodes[-1].type == "Softmax" and not scores:
        nodes.pop()  # PyTorch's loss contains it
    return Structure(nodes=tuple(nodes), loss=loss, loss_facts=facts)


def units_first(output: Array) -> Array:
    """(N, ..., channels) as (N, channels, ...)."""
    return np.moveaxis(output, -1, 1) if output.ndim > 2 else output


def options(optimizer: Any) -> Mapping[str, float]:
    """Numbers among an optimiser's settings, by PyTorch's names where these differ."""
    named = {"learning_rate": "lr", "beta_1": "beta1", "beta_2": "beta2", "epsilon": "eps"}
    return {
        named.get(str(name), str(name)): float(value)
        for name, value in optimizer.get_config().items()
        if isinstance(value, (bool, int, float))
    }


def loss_scale(optimizer: Any) -> float:
    """What the loss was multiplied by before the backward pass, for half precision: 1 mostly."""
    factor = getattr(optimizer, "dynamic_scale", None)
    factor = getattr(optimizer, "loss_scale_factor", None) if factor is None else factor
    return 1.0 if factor is None else float(as_array(getattr(factor, "value", factor)))


def total_norm(grads: Sequence[Any]) -> float:
    """The norm of some gradients, taken together."""
    return math.hypot(*(float(np.linalg.norm(as_array(grad))) for grad in grads if grad is not None))


def _per_sample(output: Array) -> tuple[int, ...]:
    return units_first(output).shape[1:]


def _type(call: Called) -> str:
    name = type(call.layer).__name__
    if name == "BatchNormalization":
        return "BatchNorm2d" if call.output.ndim == 4 else "BatchNorm1d"
    return LAYERS.get(name, name)


def _loose(name: str, own: dict[str, tuple[int, ...]], nodes: Sequence[Node]) -> Node:
    """Weights of a layer that was not called as such: a part of another one, such as an LSTM's cell."""
    return Node(name=name, type="Parameter", inputs=(nodes[-1].name if nodes else INPUT,), parameters=own)
