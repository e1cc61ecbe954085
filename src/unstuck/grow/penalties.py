"""What keeps old knowledge without old samples: elastic weights, distillation, a softmax of present classes.

These steps need gradients that the losses of the engine do not have. Each is one pass forward for the scores
z, the wanted gradient d of the loss with respect to z, and one pass back with a squared error whose gradient
is d: that of (z - t)^2 / outputs with t = z - d outputs / 2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.grow.network import Array, GrowingNetwork
from unstuck.nn.layers.dropout import Dropout
from unstuck.nn.layers.normalisation import BatchNorm

ELASTICITY = 100.0
"""Weight of the elastic penalty, as in Hsu et al. (2018)."""
TEMPERATURE = 2.0
"""Of distillation, as in Li & Hoiem (2016)."""
FISHER_SAMPLES = 256
"""Samples over which squared gradients are averaged."""


@dataclass(frozen=True)
class Elastic:
    """Where the weights were, and how much each mattered: the diagonal of Fisher's information.

    References:
        Kirkpatrick et al. (2017), "Overcoming catastrophic forgetting in neural networks", PNAS,
        arXiv:1612.00796; one sum for all stages: Schwarz et al. (2018), arXiv:1805.06370.
    """

    anchor: dict[str, Array]
    fisher: dict[str, Array]

    def gradient(self, network: GrowingNetwork) -> Array:
        """Of the penalty ELASTICITY / 2 sum F (w - anchor)^2, in the layout of the parameters."""
        layout = network.net.layout(network.net.dtype)
        out = np.zeros_like(network.net.flat)
        weights = network.net.parameters
        for name, view in layout.views(out).items():
            if name in self.anchor:
                part = tuple(slice(length) for length in self.anchor[name].shape)
                drift = weights[name][part] - self.anchor[name]
                view[part] = ELASTICITY * self.fisher[name] * drift
        return out


def elastic(network: GrowingNetwork, inputs: Array, units: NDArray[np.int64], old: Elastic | None) -> Elastic:
    """The penalty for what was just learned, added to that of before."""
    layout = network.net.layout(network.net.dtype)
    squares = np.zeros_like(network.net.flat)
    count = min(FISHER_SAMPLES, len(inputs))
    for i in np.linspace(0, len(inputs) - 1, count).astype(np.int64):
        squares += network.gradient(inputs[i : i + 1], units[i : i + 1]) ** 2
    fisher = {name: (view / count).astype(view.dtype) for name, view in layout.views(squares).items()}
    if old is not None:
        for name, before in old.fisher.items():
            part = tuple(slice(length) for length in before.shape)
            fisher[name][part] += before
    return Elastic({name: value.copy() for name, value in network.net.parameters.items()}, fisher)


def slope(
    scores: Array, units: NDArray[np.int64], present: NDArray[np.bool_] | None, teacher: Array | None
) -> Array:
    """Gradient of each sample's loss with respect to its scores, (N, outputs).

    Args:
        scores: (N, outputs).
        units: (N,) the right classes.
        present: (outputs,) which classes take part in the softmax; None: all.
        teacher: (N, old outputs) scores of the network before this call, which the old classes' softmax at
            TEMPERATURE is to keep; None: no distillation.

    References:
        Li & Hoiem (2016), "Learning without forgetting", arXiv:1606.09282.
        Zeno, Golan, Hoffer & Soudry (2018), "Task agnostic continual learning using online variational
        Bayes", arXiv:1803.10123 (the softmax of the present classes).
    """
    shown = scores if present is None else np.where(present, scores, -np.inf)
    d = softmax(shown)
    d[np.arange(len(units)), units] -= 1
    if teacher is not None:
        old = teacher.shape[1]
        # T^2 times the gradient of KL(teacher || student) at temperature T, whose gradient has a 1 / T
        d[:, :old] += TEMPERATURE * (softmax(scores[:, :old] / TEMPERATURE) - softmax(teacher / TEMPERATURE))
    return d


def cross_entropy(scores: Array, units: NDArray[np.int64], present: NDArray[np.bool_] | None) -> float:
    """Mean over samples of -log softmax(scores)[class]."""
    shown = scores if present is None else np.where(present, scores, -np.inf)
    top = shown.max(axis=1)
    mass = np.log(np.exp(shown - top[:, None]).sum(axis=1)) + top
    return float((mass - scores[np.arange(len(units)), units]).mean())


def softmax(scores: Array) -> Array:
    """Probabilities of each row."""
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def refuse_noise(network: GrowingNetwork, what: str) -> None:
    """Refuse layers whose training pass is another than the one that gave the scores.

    Raises:
        UnstuckError: batch normalisation or dropout.
    """
    for name, layer in network.layers.items():
        if isinstance(layer, BatchNorm | Dropout):
            raise UnstuckError(
                f"{what} cannot train layer {name!r}: {layer.type} answers otherwise in training"
            )
