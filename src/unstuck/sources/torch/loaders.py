"""Which batches a data loader handed out between two steps: do its passes go on, or begin anew every time?"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unstuck.trace.measure import Values


class Loaders:
    """Counts steps that began a new pass of a data loader with several batches.

    Loaders are told apart by how many batches they have and how large these are: a program may make a new one
    for every step.
    """

    def __init__(self) -> None:
        """Nothing handed out yet."""
        self.meant = False
        """Whether the program was told to use the same batch again: then nothing is counted."""
        self.sizes: set[int] = set()
        """So many samples were asked for, and lie on the first axis of what was handed out."""
        self._now: dict[tuple[int, int], int] = {}
        self._anew: dict[tuple[int, int], int] = {}
        self._steps = 0

    def handed(self, iterator: Any, data: Any) -> None:
        """A loader's iterator handed out a batch.

        Args:
            iterator: of `torch.utils.data.DataLoader`, which has counted this batch.
            data: the batch.
        """
        asked = getattr(getattr(iterator, "_index_sampler", None), "batch_size", None)
        samples = samples_of(data)
        if asked == samples and samples:
            self.sizes.add(samples)
        if self.meant or getattr(iterator, "_IterableDataset_len_called", None) is not None:
            return
        try:
            batches = len(iterator)
        except (TypeError, NotImplementedError):
            return  # a stream: nobody knows its length
        place = getattr(iterator, "_num_yielded", 0)
        if batches > 1 and place and samples:
            key = batches, samples
            self._now[key] = max(self._now.get(key, 0), place)

    def end_step(self) -> None:
        """The batches since the last step were its own."""
        self._steps += 1
        for key, last in self._now.items():
            self._anew[key] = self._anew.get(key, 0) + (last == 1)
        self._now.clear()

    def values(self, samples: int) -> Values:
        """What the loader did whose batches have so many samples as the model was given; {} if none has.

        Args:
            samples: of the step's batch.
        """
        fitting = [key for key in self._anew if key[1] == samples]
        if not fitting or not self._steps:
            return {}
        key = max(fitting, key=lambda one: self._anew[one])
        return {"loader.batches": float(key[0]), "loader.anew": self._anew[key] / self._steps}


def samples_of(data: Any) -> int:
    """Samples of a batch, as its first tensor tells; 0 if it has none."""
    if isinstance(data, torch.Tensor):
        return int(data.shape[0]) if data.dim() else 0
    parts: Sequence[Any] = ()
    if isinstance(data, Mapping):
        parts = list(data.values())
    elif isinstance(data, (list, tuple)):
        parts = data
    return next((found for one in parts if (found := samples_of(one))), 0)
