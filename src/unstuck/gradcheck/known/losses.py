"""Losses: one number from predictions and targets."""

import numpy as np

from unstuck.gradcheck.known.operation import Operation, Result, Slip
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


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
