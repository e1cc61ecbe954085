"""Classes beside the commonest one: are their samples named, and do the scores tell them apart?"""

import numpy as np

from unstuck.trace.baseline import BINARY, Labels
from unstuck.trace.measure import Array, Values, by_row

RARE = 1 / 3
"""Share of the other classes above which no class is the rule and the others the exception."""


def minority_stats(outputs: Array, targets: Array, labels: Labels | None, loss_name: str | None) -> Values:
    """minority.share, and where that is small minority.samples, minority.recall and minority.apart.

    With m the score of the commonest class minus the largest other one, minority.apart is the chance that a
    sample of another class has a smaller m than one of the commonest class, ties counted half (the area
    under the ROC curve): 0.5 says that the scores know nothing of it, 1 that a threshold would tell all.

    Args:
        outputs: (N, C) scores; (N,) or (N, 1) for a yes/no output.
        targets: of the same samples, for a yes/no output 0 and 1 of any type.
        labels: (N,) class numbers; None where the targets are no whole numbers.
        loss_name: class name of the loss.

    Returns:
        {} where there are no classes.

    Example:
        >>> scores, labels = np.array([[2.0, 0], [3, 0], [4, 0], [1, 0]]), np.array([0, 0, 0, 1])
        >>> minority_stats(scores, labels, labels, "CrossEntropyLoss")
        {'minority.share': 0.25, 'minority.samples': 1.0, 'minority.recall': 0.0, 'minority.apart': 1.0}
    """
    scores = by_row(outputs)
    single = scores.shape[1] == 1
    known = _yes_no(targets) if single else labels
    if known is None or len(known) != len(scores) or len(known) < 2 or not np.isfinite(scores).all():
        return {}
    if single:
        middle = BINARY.get(loss_name or "")
        if middle is None:
            return {}
        scores = np.hstack([np.full_like(scores, middle), scores])
    if int(known.min()) < 0 or int(known.max()) >= scores.shape[1]:
        return {}
    commonest = int(np.bincount(known).argmax())
    others = known != commonest
    values: Values = {"minority.share": float(np.mean(others))}
    if not 0 < float(np.mean(others)) <= RARE:
        return values
    rest = np.delete(scores, commonest, axis=1).max(axis=1)
    margin = scores[:, commonest] - rest
    named = scores.argmax(axis=1) == known
    values["minority.samples"] = float(np.sum(others))
    values["minority.recall"] = float(np.mean(named[others]))
    pairs = margin[~others][None, :] - margin[others][:, None]
    values["minority.apart"] = float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)
    return values


def _yes_no(targets: Array) -> Labels | None:
    numbers = np.asarray(targets).reshape(-1)
    if not numbers.size or not bool(np.all((numbers == 0) | (numbers == 1))):
        return None
    return numbers.astype(np.int64)
