"""Flatten: an image's numbers as one row of features."""

import math
from dataclasses import dataclass

from unstuck.nn.layers.layer import Layer
from unstuck.nn.program import Shape


@dataclass(frozen=True)
class Flatten(Layer):
    """(N, C, H, W) to (N, C*H*W), channel by channel, line by line. Costs nothing: the memory is the same."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)
