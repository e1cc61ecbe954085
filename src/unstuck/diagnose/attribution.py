"""Where a gradient dies or grows on its way back: what each layer did to it, and by what."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from unstuck.diagnose.measured import activation_place, weight_layers
from unstuck.trace.recording import Recording
from unstuck.trace.structure import NORMALISING, Node

_STEEPEST: Final = {"Sigmoid": 0.25, "Tanh": 1.0}
"""Largest slope of an activation; `slope` is measured relative to it."""
CODES: Final = frozenset({"GRD001", "GRD002", "INI003", "INI004", "ACT003"})
"""Findings that this table explains."""


@dataclass(frozen=True)
class Passage:
    """What became of the gradient between two weight layers, at the start."""

    layer: str
    """Into whose output the gradient came, from ..."""
    after: str
    """... the weight layer behind it."""
    factor: float
    """|gradient at the outputs of `layer`| / |the same of `after`|, per step of the way back."""
    activation: float | None
    """Its mean slope (of a ReLU the root of the active share); None where it is not known."""
    weights: float | None
    """|W| / sqrt(units) of `after`: what they do to a gradient of no special direction; None as above."""

    @property
    def rest(self) -> float | None:
        """What remains: normalisations, pooling, and directions that are special after all."""
        known = (self.activation or 1.0) * (self.weights or 1.0)
        return self.factor / known if known > 0 and self.factor > 0 else None


def passages(trace: Recording) -> tuple[Passage, ...]:
    r"""How the gradient changes from each weight layer to the one before it, from the loss to the input.

    The gradient of a weight is the product of the gradient at its layer's outputs and of its inputs, so

    $$\frac{|\delta_l|}{|\delta_{l+1}|} \approx
      \frac{|\partial L/\partial W_l|\;/\;|a_{l-1}|}{|\partial L/\partial W_{l+1}|\;/\;|a_l|}$$

    with $a$ the inputs (root mean square times the root of their number); it is compared with the slope of
    the activation in between and the size of the weights behind it.

    Args:
        trace: gradients and activations at its first step are read.

    Returns:
        A line for each pair of neighbouring layers; none where something was not measured, or where a
        gradient is exactly 0 (then GRD003, INI001 or ACT001 know why).

    References:
        X. Glorot, Y. Bengio, 2010, AISTATS (variances of gradients from layer to layer).
    """
    layers = weight_layers(trace)
    # what a layer is given is what the one before it passes on
    sizes = [_data_size(trace), *(trace.first("act_rms", activation_place(trace, node)) for node in layers)]
    found: list[Passage] = []
    for (before, given), (after, taken) in pairwise(zip(layers, sizes, strict=False)):
        factor = _factor(_at_outputs(trace, before, given), _at_outputs(trace, after, taken))
        if factor is None:
            return ()
        found.append(Passage(before.name, after.name, factor, _slope(trace, before), _gain(trace, after)))
    return tuple(reversed(found))


def _at_outputs(trace: Recording, node: Node, size: float | None) -> float | None:
    """Norm of the gradient at a layer's outputs: that of its weights over that of what it was given."""
    gradient = trace.first("grad_norm", node.name)
    return gradient / (size * math.sqrt(node.fan_in)) if gradient and size and size > 0 else None


def _factor(lower: float | None, upper: float | None) -> float | None:
    factor = lower / upper if lower and upper else math.nan
    return factor if math.isfinite(factor) else None


def _data_size(trace: Recording) -> float | None:
    mean, std = trace.first("data.mean"), trace.first("data.std")
    return None if mean is None or std is None else math.hypot(mean, std)


def _slope(trace: Recording, node: Node) -> float | None:
    activation = trace.structure.activation(node.name)
    if activation is None:
        return 1.0
    if activation.type in _STEEPEST:
        slope = trace.first("slope", activation.name)
        return None if slope is None else slope * _STEEPEST[activation.type]
    zero = trace.first("zero", activation.name)
    return None if zero is None or activation.type != "ReLU" else math.sqrt(max(1 - zero, 0.0))


def _gain(trace: Recording, node: Node) -> float | None:
    norm = trace.first("weight_norm", node.name)
    following = next(trace.structure.after(node.name), None)
    if norm is None or (following is not None and following.type in NORMALISING):
        return None  # a normalisation behind the layer takes the size of its weights out again
    return norm / math.sqrt(node.units) if node.units else None
