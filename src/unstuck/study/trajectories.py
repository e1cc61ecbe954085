"""The loss of a few members by epoch: how those that succeed differ from those that do not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck.study.design import SHARD_WORK, work_of_a_member
from unstuck.study.result import CellResult, StudyResult

MEMBERS = 12
CELLS = 3
WORK = SHARD_WORK / 6
"""Of one cell's few members, at most: some ten seconds."""


@dataclass(frozen=True)
class Trajectories:
    """The first members of a cell, trained again."""

    factors: Mapping[str, Any]
    outcome: tuple[str, ...]
    """(members,) how each ended."""
    epochs: NDArray[np.int64]
    """(columns,): the epochs that `loss` tells of."""
    loss: NDArray[np.float64]
    """(members, columns): mean over an epoch; NaN after the end."""


def trajectories(result: StudyResult) -> list[Trajectories]:
    """Of the cells whose outcome is least certain, the first members' loss.

    Rows hold how a member ended, and its seed: it is trained again, bit for bit, to see the way there.

    Args:
        result: a study; cells whose few members take long are left out.

    Returns:
        At most three cells, those nearest to half of the members succeeding first.
    """
    mixed = [cell for cell in result.cells if 0 < cell.count.successes < cell.count.trials]
    chosen = sorted(mixed, key=lambda cell: abs(cell.count.rate - 0.5))
    few = [cell for cell in chosen if work_of_a_member(result.design.cells[cell.number]) * MEMBERS <= WORK]
    return [_again(result, cell) for cell in few[:CELLS]]


def _again(result: StudyResult, cell: CellResult) -> Trajectories:
    members = min(MEMBERS, result.design.seeds)
    trained: Any = result.design.cells[cell.number].training.run(seeds=range(members))
    return Trajectories(
        cell.factors, tuple(str(word) for word in trained.outcome), trained.loss_epochs, trained.loss
    )
