"""Small architectures and initialisations that several tests use."""

import numpy as np

from unstuck.nn.initialise import ParameterSpec, Scheme

NUMBERS = {
    "constant": {"value": 0.3},
    "uniform": {"low": -1.0, "high": 2.0},
    "normal": {"mean": 1.0, "std": 0.5},
}
SAME_LAW = {
    "weights": {"scheme": "uniform", "low": -1.0, "high": 1.0},
    "bias": {"scheme": "uniform", "low": -1.0, "high": 1.0},
}


def chain(*shapes):
    """Weights and biases of layers named 0, 1, ..."""
    return [
        spec
        for index, shape in enumerate(shapes)
        for spec in (ParameterSpec.weight(str(index), shape), ParameterSpec.bias(str(index), shape))
    ]


DENSE = chain((4, 3), (5, 4), (2, 5))
CNN = chain((3, 1, 3, 3), (4, 3, 2, 2), (6, 4 * 5), (2, 6))


def scheme(name, **more):
    return Scheme(name, **NUMBERS.get(name, {}), **more)


def everything(values):
    return np.concatenate([array.ravel() for array in values.values()])
