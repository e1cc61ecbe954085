"""What theory expects of a network without weights: the size of each layer's output and gradient."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from unstuck.errors import UnstuckError
from unstuck.nn.compiler import output_shapes
from unstuck.nn.initialise import Initialisation
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.dropout import Dropout
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.normalisation import BatchNorm
from unstuck.nn.layers.residual import Addition, block_start
from unstuck.nn.network import Sequential, checked_inputs
from unstuck.nn.program import Shape
from unstuck.nn.schemes import ParameterSpec
from unstuck.nn.theory.functions import function, is_activation
from unstuck.nn.theory.gauss import mean


@dataclass(frozen=True)
class Expected:
    """One layer of an untrained network; NaN where theory has no answer."""

    layer: str
    type: str
    mean: float
    """Mean of its outputs over units and networks."""
    rms: float
    """Root of their mean square."""
    gradient: float
    """Norm of the gradient with respect to its outputs / that with respect to the network's outputs."""

    @property
    def std(self) -> float:
        """Standard deviation of its outputs over units and networks: √(rms² - mean²)."""
        return math.sqrt(max(0.0, self.rms**2 - self.mean**2)) if math.isfinite(self.rms) else math.nan


@dataclass(frozen=True)
class _Signal:
    """Moments of a layer's outputs, and the factor of the squared gradient from them to its inputs."""

    mean: float
    square: float
    back: float = math.nan
    normal: bool = False
    """Whether outputs are normally distributed over networks, as a weighted sum of many numbers is."""


_UNKNOWN = _Signal(math.nan, math.nan)


def predict(net: Sequential, x: ArrayLike, init: object = None) -> tuple[Expected, ...]:
    """Expected size of every layer's output and gradient over all draws of an initialisation.

    Through weights: E z² = taps · E w² · E a² + E b², taps being the numbers that a unit adds up (at the edge
    of an image fewer, averaged exactly); the squared norm of the gradient, summed over a sample, takes the
    same factor taps · E w². Through an activation, z being normal: E a² = E phi(z)², and squared gradients
    times E phi'(z)². Weights are taken to be independent of each other and of what comes back, which is good
    to a few percent from some hundred units on. `x` enters by its mean square alone.

    Args:
        net: its layers; weights it may have are ignored.
        x: inputs, (N, features) or (N, C, H, W).
        init: what `Initialisation.of` reads; None: PyTorch's default.

    Returns:
        One `Expected` for each layer. NaN behind pooling, softmax, and weights or biases with a mean:
        what comes out depends on more than two moments. Gradients are NaN before a batch normalisation too:
        see `batch_norm_growth`.

    Raises:
        UnstuckError: an initialisation that does not fit.
        ShapeError, DataError: inputs that do not fit.

    Example:
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 300))
        >>> layers = predict(net, np.ones((1, 400)), "he")
        >>> tuple(round(layer.rms, 3) for layer in layers)
        (1.414, 1.0, 1.414)

    References:
        X. Glorot, Y. Bengio (2010); K. He et al. (2015), arXiv 1502.01852; S. Schoenholz et al. (2017), arXiv
        1611.01232.
    """
    inputs = checked_inputs(x, np.dtype(np.float64))
    how = Initialisation.of(init)
    for name in how.layers:
        if name not in net.layers:
            msg = f"init.layers: no layer {name!r}; there are: {', '.join(net.layers)}"
            raise UnstuckError(msg)
    shapes = output_shapes(net.layers, inputs.shape[1:])
    into = inputs.shape[1:]
    signals = [_Signal(float(inputs.mean()), float(np.mean(inputs**2)))]
    for name, layer in net.layers.items():
        if isinstance(layer, Addition):
            start = block_start(net.layers, name)
            signals.append(_add(signals[start], signals[-1], list(net.layers.values())[start : len(signals)]))
        else:
            specs = [spec for spec in net.specs if spec.layer == name]
            signals.append(_step(layer, signals[-1], into, shapes[name], specs, how))
        into = shapes[name]
    # squared gradients, of the input and of every layer's output
    gradients = [0.0] * len(net.layers) + [1.0]
    for i, (name, layer) in reversed(list(enumerate(net.layers.items()))):
        gradients[i] += gradients[i + 1] * signals[i + 1].back
        if isinstance(layer, Addition):
            gradients[block_start(net.layers, name)] += gradients[i + 1]
    return tuple(
        Expected(name, layer.type, signal.mean, math.sqrt(signal.square), math.sqrt(gradient))
        for (name, layer), signal, gradient in zip(
            net.layers.items(), signals[1:], gradients[1:], strict=True
        )
    )


def _step(
    layer: Layer, signal: _Signal, into: Shape, out: Shape, specs: list[ParameterSpec], how: Initialisation
) -> _Signal:
    """From a layer's input to its output."""
    match layer:
        case Linear():
            return _weigh(signal, layer.in_features, specs, how)
        case Conv2d():
            axes = list(zip(into[1:], out[1:], layer.kernel, layer.step, layer.zeros, strict=True))
            delta = how.scheme_of(specs[0]).scheme == "delta_orthogonal"
            pairs = math.prod(_pairs(*axis, only=axis[2] // 2 if delta else None) for axis in axes)
            # each of the kernel's weights has the variance that fills it; of a delta kernel one tap holds all
            pairs *= math.prod(layer.kernel) if delta else 1
            return _weigh(signal, layer.in_channels * pairs / math.prod(out[1:]), specs, how)
        case Flatten() | Dropout():  # in use everything passes
            return replace(signal, back=1.0)
        case BatchNorm():
            return _normalise(signal, specs, how)
        case _ if is_activation(layer) and signal.normal and math.isfinite(signal.square):
            phi, std = function(layer), math.sqrt(signal.square)
            return _Signal(
                mean(phi.value, std),
                mean(lambda z: phi.value(z) ** 2, std),
                mean(lambda z: phi.slope(z) ** 2, std),
            )
        case _:
            return _UNKNOWN


def _add(first: _Signal, second: _Signal, block: list[Layer]) -> _Signal:
    """The sum of a block's input and output: independent, if there are random weights in between."""
    if not any(isinstance(layer, Linear | Conv2d) for layer in block):
        return _UNKNOWN
    square = first.square + second.square + 2 * first.mean * second.mean
    return _Signal(first.mean + second.mean, square, back=1.0, normal=first.normal and second.normal)


def _weigh(signal: _Signal, taps: float, specs: Iterable[ParameterSpec], how: Initialisation) -> _Signal:
    """Through random weights and biases."""
    moments = {spec.kind: how.scheme_of(spec).moments(spec) for spec in specs}
    weight, bias = moments["weight"], moments.get("bias", (0.0, 0.0))
    if weight is None or bias is None or weight[0] != 0:
        return _UNKNOWN
    variance = weight[1] ** 2
    return _Signal(
        mean=bias[0],
        square=taps * variance * signal.square + bias[0] ** 2 + bias[1] ** 2,
        back=taps * variance,
        normal=bias[0] == 0,
    )


def _normalise(signal: _Signal, specs: Iterable[ParameterSpec], how: Initialisation) -> _Signal:
    """To mean 0 and variance 1, scaled and shifted; the way back depends on how alike the samples are."""
    moments = {spec.kind: how.scheme_of(spec).moments(spec) for spec in specs}
    scale, shift = moments.get("scale", (1.0, 0.0)), moments.get("shift", (0.0, 0.0))
    if scale is None or shift is None:
        return _UNKNOWN
    square = scale[0] ** 2 + scale[1] ** 2 + shift[0] ** 2 + shift[1] ** 2
    same = scale[1] == shift[1] == shift[0] == 0
    return _Signal(shift[0], square, normal=signal.normal and same)


def _pairs(before: int, after: int, kernel: int, step: int, border: int, only: int | None) -> int:
    """How many (output, input) positions of one axis a kernel joins; `only`: by this tap of it."""
    taps = range(kernel) if only is None else (only,)
    return sum(0 <= step * place + tap - border < before for place in range(after) for tap in taps)
