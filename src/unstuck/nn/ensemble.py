"""What becomes of an ensemble: arrays over its members, as far as they fit the memory."""

import warnings
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.layout import aligned
from unstuck.nn.network import Sequential
from unstuck.nn.training import Training

HISTORY_BYTES = 2**27
"""Losses of all epochs are kept up to this size; beyond, those of every 2nd, 4th, ... epoch."""
MEMORY_SHARE = 0.5
"""Of the memory that is free, parameters may take so much; beyond, they are not kept."""


@dataclass(frozen=True)
class EnsembleResult:
    """What became of many networks of one architecture; axis 0 counts members, in the seeds' order."""

    training: Training
    seeds: NDArray[np.uint64]
    loss: NDArray[np.float64]
    """(members, columns): mean loss of the batches of an epoch, each before its update; NaN after the end."""
    loss_epochs: NDArray[np.int64]
    """(columns,): the epochs that `loss` tells of: all, unless that took too much memory."""
    final_loss: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    """NaN where the targets are no classes."""
    outcome: NDArray[np.str_]
    """success, diverged, dead or stuck; "" for a member that was not trained to its end."""
    epochs: NDArray[np.int64]
    parameters: NDArray[np.floating] | None = field(repr=False)
    """(members, numbers): each member's flat array, its running statistics included; None where they did not
    fit the memory."""

    @classmethod
    def empty(cls, training: Training, seeds: NDArray[np.uint64]) -> "EnsembleResult":
        """Room for the results of members that are yet to be trained."""
        count, stride = len(seeds), 1
        while count * -(-training.epochs // stride) * 8 > HISTORY_BYTES and stride < training.epochs:
            stride *= 2
        epochs = np.arange(0, training.epochs, stride)
        return cls(
            training=training,
            seeds=seeds,
            loss=np.full((count, epochs.size), np.nan),
            loss_epochs=epochs,
            final_loss=np.full(count, np.nan),
            accuracy=np.full(count, np.nan),
            outcome=np.full(count, "", dtype="<U8"),
            epochs=np.zeros(count, dtype=np.int64),
            parameters=room_for(training, count),
        )

    @property
    def stride(self) -> int:
        """Epochs from one loss that is kept to the next."""
        return int(self.loss_epochs[1]) if self.loss_epochs.size > 1 else self.training.epochs

    @property
    def success(self) -> NDArray[np.bool_]:
        """(members,): which of them met the criterion."""
        return self.outcome == "success"

    def __len__(self) -> int:
        """Members."""
        return len(self.seeds)

    def member(self, index: int) -> Sequential:
        """One member as a network of its own.

        Raises:
            UnstuckError: the parameters were not kept.
        """
        if self.parameters is None:
            msg = (
                f"the parameters of {len(self)} members did not fit the memory and were not kept; "
                f"train this one alone, with seeds=[{self.seeds[index]}]: it has the same bits"
            )
            raise UnstuckError(msg)
        values = self.training.layout.all_views(self.parameters[index])
        return Sequential(dict(self.training.network.layers)).load(values, self.parameters.dtype.type)


class EnsembleInterrupted(KeyboardInterrupt):
    """Ctrl-C while an ensemble was trained: `result` holds the members that were finished."""

    def __init__(self, result: EnsembleResult) -> None:
        super().__init__(
            f"interrupted: {int((result.outcome != '').sum())} of {len(result)} members finished"
        )
        self.result = result


def room_for(training: Training, count: int) -> NDArray[np.floating] | None:
    """Memory for the parameters of so many members; None, and a warning, where they would take too much."""
    needed = count * training.layout.size * training.dtype.itemsize
    if needed > MEMORY_SHARE * free_memory():
        warnings.warn(
            f"the parameters of {count} members take {needed / 2**30:.1f} GiB, over half of the free memory; "
            f"they are trained some at a time, and their parameters are not kept",
            stacklevel=2,
        )
        return None
    return aligned((count, training.layout.size), training.dtype)


def free_memory() -> int:
    """Bytes of memory that are free; a guess of 4 GiB where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123  a pseudo-file
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 2**30
