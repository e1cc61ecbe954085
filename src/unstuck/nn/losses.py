"""Losses: what a network is trained to make small (kernels and formulas: `kernels/losses.py`)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import DataError, ShapeError
from unstuck.nn.checks import numbers
from unstuck.nn.kernels import table as codes
from unstuck.nn.program import Shape


@dataclass(frozen=True)
class Loss:
    """A loss, averaged over samples (and, except for cross-entropy, over outputs), as in PyTorch."""

    @property
    def type(self) -> str:
        """Name of the loss, as in PyTorch."""
        return type(self).__name__

    @property
    def kind(self) -> int:
        """Its code in the interpreter."""
        raise NotImplementedError

    @property
    def per_output(self) -> bool:
        """Whether the mean runs over outputs too."""
        return True

    def prepare(self, targets: NDArray[np.generic], output: Shape, samples: int) -> NDArray[np.float64]:
        """Targets as the kernels read them: (N, outputs), or (N, 1) class numbers for cross-entropy.

        Integer targets (N,) for several outputs are classes and become one-hot.

        Raises:
            ShapeError: number or shape of targets does not fit the network's output.
            DataError: NaN, or labels out of range.
        """
        targets = numbers("targets", targets)
        size = int(np.prod(output))
        if targets.shape[:1] != (samples,):
            msg = f"{self.type} needs a target for each of {samples} samples, got shape {targets.shape}"
            raise ShapeError(msg)
        if targets.ndim == 1 and size > 1 and np.issubdtype(targets.dtype, np.integer):
            return np.eye(size)[_classes(self.type, targets, size)]
        flat = targets.reshape(samples, -1).astype(np.float64)
        if flat.shape[1] != size:
            msg = f"{self.type} needs targets of shape {(samples, *output)}, got {targets.shape}"
            raise ShapeError(msg)
        if not np.isfinite(flat).all():
            msg = f"{self.type}: {int((~np.isfinite(flat)).sum())} targets are NaN or infinite"
            raise DataError(msg)
        if self.kind in {codes.BINARY, codes.BINARY_LOGITS} and (flat.min() < 0 or flat.max() > 1):
            msg = f"{self.type} needs targets in 0..1, found {flat.min():g}..{flat.max():g}"
            raise DataError(msg)
        return flat


def _classes(loss: str, labels: NDArray[np.generic], classes: int) -> NDArray[np.int64]:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        msg = f"{loss}: labels must lie in 0..{classes - 1} for {classes} outputs, found {low}..{high}"
        raise DataError(msg)
    return labels.astype(np.int64)


@dataclass(frozen=True)
class MSELoss(Loss):
    """Mean over samples and outputs of (y - t)^2. Targets: the output's shape, or classes (made one-hot)."""

    @property
    def kind(self) -> int:
        return codes.SQUARED


@dataclass(frozen=True)
class _ClassLoss(Loss):
    """A loss whose targets are (N,) classes."""

    @property
    def per_output(self) -> bool:
        return False

    def prepare(self, targets: NDArray[np.generic], output: Shape, samples: int) -> NDArray[np.float64]:
        targets = numbers("targets", targets)
        if len(output) != 1:
            msg = f"{self.type} needs a network whose output is (N, classes), this one gives (N, {output})"
            raise ShapeError(msg)
        if targets.shape != (samples,):
            msg = f"{self.type} needs classes of shape ({samples},), got targets of shape {targets.shape}"
            raise ShapeError(msg)
        if not np.issubdtype(targets.dtype, np.integer):
            if not np.array_equal(targets, np.round(targets.astype(np.float64))):
                msg = f"{self.type} needs whole numbers as classes, got {targets.dtype}, as {targets[0]!r}"
                raise DataError(msg)
            targets = targets.astype(np.int64)
        return _classes(self.type, targets, output[0]).astype(np.float64)[:, None]


@dataclass(frozen=True)
class CrossEntropyLoss(_ClassLoss):
    """Mean over samples of -log softmax(scores)[class]. Targets: (N,) classes in 0..C-1."""

    @property
    def kind(self) -> int:
        return codes.CROSS_ENTROPY


@dataclass(frozen=True)
class NLLLoss(_ClassLoss):
    """Mean over samples of -y[class], y the logarithms of probabilities. Targets: (N,) classes in 0..C-1.

    After a `LogSoftmax` it is the CrossEntropyLoss of what goes into that.
    """

    @property
    def kind(self) -> int:
        return codes.LIKELIHOOD


@dataclass(frozen=True)
class BCELoss(Loss):
    """Mean over samples and outputs of -(t log y + (1 - t) log(1 - y)), y in 0..1, logarithms >= -100."""

    @property
    def kind(self) -> int:
        return codes.BINARY


@dataclass(frozen=True)
class BCEWithLogitsLoss(Loss):
    """BCELoss of sigmoid(y), computed without overflow."""

    @property
    def kind(self) -> int:
        return codes.BINARY_LOGITS
