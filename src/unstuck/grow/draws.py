"""Weights that are drawn when their unit appears, with the bits that they would have had from the start."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.grow.bodies import HEAD
from unstuck.nn import random
from unstuck.nn.network import Sequential


def rows(seed: int, name: str, shape: tuple[int, ...], first: int) -> NDArray[np.floating]:
    """Entries of a weight or bias from unit `first` on: (shape[0] - first, *shape[1:]).

    Uniform within +-sqrt(6 / fan_in) (He), in the head within +-1 / sqrt(fan_in); biases start at 0. Each
    number is f(seed, tensor, unit, input): see `nn.random.keyed`.
    """
    if len(shape) == 1:
        return np.zeros(shape[0] - first, np.float32)
    fan_in = int(np.prod(shape[1:]))
    bound = 1 / np.sqrt(fan_in) if name.startswith(f"{HEAD}.") else np.sqrt(6 / fan_in)
    drawn = random.keyed(seed, name, np.arange(first, shape[0]), np.arange(shape[1]), shape[2:])
    return (bound * drawn).astype(np.float32)


def fresh(net: Sequential, seed: int) -> dict[str, ArrayLike]:
    """All parameters and buffers of a network before its first step."""
    values = dict[str, ArrayLike]()
    for name, layer in net.layers.items():
        shapes = layer.parameters()
        normalises = len(shapes.get("weight", (0, 0))) == 1
        for short, shape in shapes.items():
            full = f"{name}.{short}"
            values[full] = (
                np.ones(shape, np.float32) if normalises and short == "weight" else rows(seed, full, shape, 0)
            )
        for short, (shape, start) in layer.buffers().items():
            values[f"{name}.{short}"] = np.full(shape, start, np.float32)
    return values
