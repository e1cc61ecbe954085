"""What theory says of a cell before anything is trained."""

from unstuck import nn
from unstuck.nn.theory.rate_limit import rate_limit
from unstuck.study.cell import Cell

SEEDS = 40
"""Initialisations that the prediction is the median of."""
MOST_SAMPLES, MOST_PARAMETERS = 64, 5000
"""Larger ones take too long for a line of text."""


def predicted_limit(cell: Cell) -> float | None:
    """The learning rate above which descent on single samples is unstable at the start: 2 / λmax.

    Args:
        cell: of a study.

    Returns:
        None where the prediction does not hold (plain descent on single samples by the squared error) or
        would take long.

    Example:
        >>> from unstuck.study.design import Design
        >>> from unstuck.study.file import read
        >>> study = read({
        ...     "study": {"name": "line", "seeds": 1, "epochs": 1},
        ...     "data": {"points": [0.0, 2.0]},
        ...     "network": {"layers": [{"type": "Linear", "out": 1, "bias": False}]},
        ...     "train": {"loss": "MSELoss", "optimizer": {"lr": 0.1}, "batch_size": 1},
        ... })
        >>> predicted_limit(Design.of(study).cells[0])
        0.25
    """
    training = cell.training
    optimizer = training.optimizer
    plain = type(optimizer) is nn.SGD and not optimizer.momentum and not optimizer.weight_decay
    small = training.samples.count <= MOST_SAMPLES and training.layout.size <= MOST_PARAMETERS
    if not plain or not small or training.batch != 1 or training.loss.type != "MSELoss":
        return None
    found = rate_limit(
        training.network,
        training.inputs,
        seeds=range(SEEDS),
        init=training.init,
        loss_scale=training.loss_scale,
    )
    return found.median
