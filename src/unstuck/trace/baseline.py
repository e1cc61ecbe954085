"""Predictions against targets, and what the best constant prediction would reach."""

import numpy as np
import numpy.typing as npt

from unstuck.trace.measure import Array, Values, by_row, variation

Labels = npt.NDArray[np.int64]

BINARY = {"BCELoss": 0.5, "BCEWithLogitsLoss": 0.0}
"""Losses of a yes/no output, with the output that stands for "undecided"."""
CLASSES = frozenset({"CrossEntropyLoss", "NLLLoss"})
DISTANCES = frozenset({"MSELoss", "L1Loss"})
FUNCTIONS = (
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
)
"""PyTorch's losses that compare answers with targets, as functions."""


def class_labels(targets: Array) -> Labels | None:
    """Targets as class numbers (N,), from integers (N,), (N, 1) or one-hot rows (N, C); None otherwise.

    Example:
        >>> class_labels(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist()
        [1, 0]
    """
    array = np.asarray(targets)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1 and array.size and np.issubdtype(array.dtype, np.integer):
        return array.astype(np.int64)
    if array.ndim == 2 and array.size and bool(np.all((array == 0) | (array == 1))):
        return array.argmax(axis=1).astype(np.int64) if bool(np.all(array.sum(axis=1) == 1)) else None
    return None


def majority(labels: Labels) -> float:
    """Share of the commonest class."""
    return float(np.unique(labels, return_counts=True)[1].max() / labels.size)


def baseline_loss(
    loss_name: str | None, targets: Array, n_classes: int | None, weights: Array | None = None
) -> float | None:
    """Loss of the best constant prediction.

    With m the mean target of each output: −Σ m log m for cross entropy, the mean binary entropy of m
    for binary cross entropy, the mean variance of the targets for MSELoss, their mean distance to the median
    for L1Loss.

    Args:
        loss_name: class name, such as "MSELoss".
        targets: class numbers (N,), or numbers (N,) or (N, outputs).
        n_classes: number of outputs that class numbers are one-hot encoded for; None or 1: the targets are
            what the output is compared with.
        weights: (n_classes,), how much each class counts in the cross entropy's weighted mean.

    Returns:
        The loss; None for another loss, no targets, targets that are not finite, or labels outside
        0..n_classes−1.

    Example:
        >>> round(baseline_loss("CrossEntropyLoss", np.array([0, 1, 1, 0]), 2), 6)
        0.693147
    """
    if loss_name not in CLASSES | BINARY.keys() | DISTANCES or np.size(targets) == 0:
        return None
    wanted = _outputs_wanted(np.asarray(targets), n_classes, as_classes=loss_name in CLASSES)
    if wanted is None or not np.isfinite(wanted).all():
        return None
    if loss_name in DISTANCES:
        apart = np.abs(wanted - np.median(wanted, axis=0)) if loss_name == "L1Loss" else wanted.var(axis=0)
        return float(np.mean(apart))
    mean = wanted.mean(axis=0)
    if weights is not None and loss_name in CLASSES and np.shape(weights) == mean.shape:
        counts = mean * weights
        mean = counts / counts.sum() if counts.sum() > 0 else mean
    if bool(np.any(mean < 0)) or (loss_name in BINARY and bool(np.any(mean > 1))):
        return None
    if loss_name in CLASSES:
        return float(np.sum(_surprise(mean)))
    return float(np.mean(_surprise(mean) + _surprise(1 - mean)))


def accuracy(outputs: Array, labels: Labels, loss_name: str | None = None) -> float | None:
    """Share of samples classified right; a tie counts as wrong.

    Args:
        outputs: (N, C) scores; (N,) or (N, 1) for a yes/no output, whose loss must then be known.
        labels: (N,) class numbers.
        loss_name: class name of the loss.
    """
    scores = by_row(outputs)
    if len(scores) != len(labels) or scores.size == 0:
        return None
    if scores.shape[1] == 1:
        middle = BINARY.get(loss_name or "")
        if middle is None:
            return None
        right = np.where(labels == 1, scores[:, 0] > middle, scores[:, 0] < middle)
        return float(np.mean(right & ((labels == 0) | (labels == 1))))
    known = (labels >= 0) & (labels < scores.shape[1])
    rows = np.arange(len(labels))
    column = np.where(known, labels, 0)
    own = scores[rows, column].copy()
    others = scores.copy()
    others[rows, column] = -np.inf
    return float(np.mean(known & (own > others.max(axis=1))))  # a NaN anywhere makes this false


def prediction_stats(
    outputs: Array,
    *,
    targets: Array | None = None,
    loss_name: str | None = None,
    task: str | None = None,
) -> Values:
    """output_variation and, as far as they are defined, predicted_classes, accuracy, baseline_loss.

    Args:
        outputs: (N, ...), the network's last output.
        targets: of the same N samples.
        loss_name: class name of the loss.
        task: "classification", "regression" or None when that is not known.
    """
    values: Values = {"output_variation": variation(outputs)}
    flat = by_row(outputs)
    labels = None if targets is None or task == "regression" else class_labels(targets)
    classifies = task == "classification" or labels is not None or loss_name in CLASSES
    if classifies and outputs.ndim == 2 and flat.shape[1] > 1:
        finite = bool(np.isfinite(flat).all())
        values["predicted_classes"] = float(np.unique(flat.argmax(axis=1)).size) if finite else None
    if targets is None or outputs.ndim > 2:
        return values
    if labels is not None:
        share = accuracy(flat, labels, loss_name)
        if share is not None:
            values["accuracy"] = share
    baseline = baseline_loss(loss_name, targets, flat.shape[1])
    if baseline is not None:
        values["baseline_loss"] = baseline
    return values


def target_stats(targets: Array, *, loss_name: str | None, outputs: int) -> Values:
    """target.min, target.max, target.mean and target.std, of what the outputs are compared with.

    Args:
        targets: class numbers (N,), or numbers (N,) or (N, outputs).
        loss_name: class name of the loss: one that measures a distance gets class numbers as one-hot rows.
        outputs: of a sample.
    """
    distance = loss_name in DISTANCES
    wanted = _outputs_wanted(np.asarray(targets), outputs, as_classes=False) if distance else by_row(targets)
    if wanted is None or wanted.size == 0:
        return {}
    with np.errstate(all="ignore"):
        return {
            "target.min": float(wanted.min()),
            "target.max": float(wanted.max()),
            "target.mean": float(wanted.mean()),
            "target.std": float(wanted.std()),
        }


def _outputs_wanted(
    targets: npt.NDArray[np.generic], n_classes: int | None, *, as_classes: bool
) -> npt.NDArray[np.float64] | None:
    """Targets as (N, outputs): one-hot for class numbers, else as they are."""
    numbers = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
    integer = np.issubdtype(targets.dtype, np.integer)
    if numbers.ndim == 1 and integer and (as_classes or (n_classes or 1) > 1):
        labels = numbers.astype(np.int64)
        count = n_classes if n_classes and n_classes > 1 else int(labels.max()) + 1
        if int(labels.min()) < 0 or int(labels.max()) >= count:
            return None
        return (labels[:, None] == np.arange(count)).astype(np.float64)
    if as_classes and numbers.ndim == 1:
        return None
    return by_row(targets.astype(np.float64))


def _surprise(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """−p log p, 0 at 0."""
    return -p * np.log(np.where(p > 0, p, 1.0))
