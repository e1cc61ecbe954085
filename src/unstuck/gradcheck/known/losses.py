"""Losses: one number from predictions and targets."""

from collections.abc import Callable

import numpy as np

from unstuck.gradcheck.known.operation import Operation, Result, Slip
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array

DIAGONAL = "the softmax's derivative has only its diagonal: its off-diagonal terms are missing"


class SquaredError(Operation):
    """c * sum (h - t)^2."""

    word = "squared error"

    def __init__(self, target: Array, factor: float) -> None:
        self.target, self.factor = target, factor

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return np.asarray(self.factor * ((h - self.target) ** 2).sum())

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        if slip == "no-target":
            return 2 * self.factor * h * dy.sum(), {}
        if slip == "loss":
            return self.factor * (h - self.target) ** 2 * dy.sum(), {}
        return 2 * self.factor * (h - self.target) * dy.sum(), {}


class CrossEntropy(Operation):
    """-c * sum t log softmax(h), of scores; or -c * sum t log h, of probabilities."""

    def __init__(self, target: Array, factor: float, axis: int, given: str) -> None:
        """As recognised.

        Args:
            target: one-hot, in h's shape.
            factor: 1 / samples for a mean.
            axis: of the classes.
            given: scores | probabilities | logs.
        """
        self.target, self.factor, self.axis, self.given = target, factor, axis, given
        self.word = f"cross-entropy of {given}"

    def _softmax(self, h: Array) -> Array:
        e = np.exp(h - h.max(axis=self.axis, keepdims=True))
        return e / e.sum(axis=self.axis, keepdims=True)

    def forward(self, values: Values, h: Array) -> Array:
        del values
        if self.given == "scores":
            shifted = h - h.max(axis=self.axis, keepdims=True)
            logs = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        else:
            logs = h if self.given == "logs" else np.log(np.maximum(h, 1e-300))
        return np.asarray(-self.factor * (self.target * logs).sum())

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        scale = self.factor * dy.sum()
        if self.given == "scores":
            p = self._softmax(h)
            signal = p - self.target
            if slip == "twice":
                signal = p * (signal - (signal * p).sum(axis=self.axis, keepdims=True))
            if slip == "twice-diagonal":
                signal = signal * p * (1 - p)
            if slip == "diagonal":
                signal = -self.target * (1 - p)
            if slip == "no-target":
                signal = p
            if slip == "scores":
                signal = h - self.target
            return scale * signal, {}
        if self.given == "logs":
            return -scale * self.target, {}
        if slip == "fused":
            return scale * (h - self.target), {}
        return -scale * self.target / h, {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        twice = (
            "p - t is the derivative of softmax and cross-entropy; the softmax is differentiated once more"
        )
        if self.given == "scores":
            return [
                Slip("twice", "softmax-twice", twice),
                Slip("twice-diagonal", "softmax-twice", twice),
                Slip("diagonal", "softmax-diagonal-only", DIAGONAL),
                Slip("no-target", "input-mistaken", "the targets are not subtracted from the probabilities"),
                Slip(
                    "scores", "activation-derivative-missing", "the scores stand where their softmax should"
                ),
            ]
        return [Slip("fused", "softmax-twice", twice)] if self.given == "probabilities" else []


class BinaryCrossEntropy(Operation):
    """-c * sum (t log h + (1 - t) log (1 - h)), of probabilities or of scores."""

    def __init__(self, target: Array, factor: float, *, scores: bool) -> None:
        self.target, self.factor, self.scores = target, factor, scores
        self.word = "binary cross-entropy"

    def forward(self, values: Values, h: Array) -> Array:
        del values
        if self.scores:
            return np.asarray(self.factor * (np.logaddexp(0.0, h) - self.target * h).sum())
        logs = self.target * np.log(np.maximum(h, 1e-300)) + (1 - self.target) * np.log(
            np.maximum(1 - h, 1e-300)
        )
        return np.asarray(-self.factor * logs.sum())

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        scale = self.factor * dy.sum()
        if self.scores:
            p = 1 / (1 + np.exp(-h))
            signal = (p - self.target) * (p * (1 - p) if slip else 1.0)
            return scale * signal, {}
        signal = h - self.target
        return scale * (signal if slip else signal / (h * (1 - h))), {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        text = "p - t is the derivative of sigmoid and cross-entropy; the sigmoid is differentiated once more"
        return [Slip("fused", "softmax-twice", text)]


class ByElement(Operation):
    """c * sum f(h - t), for the absolute error, Huber's, and others of a difference."""

    def __init__(self, name: str, target: Array, factor: float) -> None:
        self.word, self.target, self.factor = name, target, factor

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return np.asarray(self.factor * DIFFERENCES[self.word](h - self.target)[0].sum())

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        return self.factor * DIFFERENCES[self.word](h - self.target)[1] * dy.sum(), {}


def _huber(e: Array) -> tuple[Array, Array]:
    small = np.abs(e) < 1
    return np.where(small, 0.5 * e**2, np.abs(e) - 0.5), np.where(small, e, np.sign(e))


DIFFERENCES: dict[str, Callable[[Array], tuple[Array, Array]]] = {
    "absolute error": lambda e: (np.abs(e), np.sign(e)),
    "Huber loss": _huber,
    "log-cosh loss": lambda e: (np.logaddexp(e, -e) - np.log(2.0), np.tanh(e)),
}


class Hinge(Operation):
    """c * sum max(0, 1 + h_j - h_t) over the classes j that are not the right one t."""

    word = "hinge loss"

    def __init__(self, target: Array, factor: float) -> None:
        self.target, self.factor = target, factor

    def _margins(self, h: Array) -> Array:
        own = (h * self.target).sum(axis=1, keepdims=True)
        return np.maximum(0.0, 1 + h - own) * (1 - self.target)

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return np.asarray(self.factor * self._margins(h).sum())

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        hit = (self._margins(h) > 0).astype(np.float64)
        own = 0.0 if slip else self.target * hit.sum(axis=1, keepdims=True)
        return self.factor * (hit - own) * dy.sum(), {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        return [Slip("own", "unknown", "the score of the right class itself gets no gradient")]


class Focal(Operation):
    """-c * sum t (1 - p)^2 log p with p = softmax(h)."""

    word = "focal loss of scores"

    def __init__(self, target: Array, factor: float, power: float) -> None:
        self.target, self.factor, self.power = target, factor, power

    def _softmax(self, h: Array) -> Array:
        e = np.exp(h - h.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def forward(self, values: Values, h: Array) -> Array:
        del values
        p = (self._softmax(h) * self.target).sum(axis=1)
        return np.asarray(-self.factor * ((1 - p) ** self.power * np.log(p)).sum())

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        p, g = self._softmax(h), self.power
        q = (p * self.target).sum(axis=1, keepdims=True)
        by_p = self.target * (g * (1 - q) ** (g - 1) * np.log(q) - (1 - q) ** g / q) * self.factor * dy.sum()
        if slip == "missing":
            return by_p, {}
        if slip == "diagonal":
            return by_p * p * (1 - p), {}
        return p * (by_p - (by_p * p).sum(axis=1, keepdims=True)), {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        return [
            Slip("diagonal", "softmax-diagonal-only", DIAGONAL),
            Slip("missing", "activation-derivative-missing", "the derivative of the softmax is missing"),
        ]
