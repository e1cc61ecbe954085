"""All layer types by name, and layers as plain data: what is stored and exchanged."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from unstuck.errors import UnstuckError
from unstuck.nn.layers import (
    activations,
    conv,
    dropout,
    flatten,
    linear,
    normalisation,
    pooling,
    residual,
    softmax,
)
from unstuck.nn.layers.layer import Layer

KINDS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        linear.Linear,
        conv.Conv2d,
        pooling.MaxPool2d,
        pooling.AvgPool2d,
        normalisation.BatchNorm1d,
        normalisation.BatchNorm2d,
        dropout.Dropout,
        flatten.Flatten,
        activations.Sigmoid,
        activations.Tanh,
        activations.ReLU,
        activations.LeakyReLU,
        activations.ELU,
        activations.GELU,
        activations.SiLU,
        activations.Softplus,
        softmax.Softmax,
        softmax.LogSoftmax,
    )
}
"""By PyTorch's names."""
KINDS["Residual"] = residual.Addition  # its layers stand before it in the network


def arguments(layer: Layer) -> dict[str, Any]:
    """A layer's arguments by name, which are PyTorch's too.

    Example:
        >>> arguments(linear.Linear(3, 4))
        {'in_features': 3, 'out_features': 4, 'bias': True}
    """
    return {item.name: getattr(layer, item.name) for item in fields(layer)}


def make(type_name: str, values: Mapping[str, Any]) -> Layer:
    """A layer from its type's name and its arguments.

    Raises:
        UnstuckError: no such layer type, a missing or unknown argument, a value out of range.

    Example:
        >>> make("LeakyReLU", {"negative_slope": 0.2})
        LeakyReLU(negative_slope=0.2)
    """
    kind = KINDS.get(type_name)
    if kind is None:
        msg = f"no layer type {type_name!r}, expected one of {', '.join(KINDS)}"
        raise UnstuckError(msg)
    known = [item.name for item in fields(kind)]
    unknown = [name for name in values if name not in known]
    if unknown:
        msg = f"{type_name}: unknown argument {unknown[0]!r}, expected some of {', '.join(known) or 'none'}"
        raise UnstuckError(msg)
    try:
        return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
    except TypeError as error:
        msg = f"{type_name}: {error}"
        raise UnstuckError(msg) from None
