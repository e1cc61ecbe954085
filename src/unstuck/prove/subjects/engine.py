"""Networks of the engine as subjects: a treatment gives another `Training`, all else stays the same."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unstuck.diagnose.remedies import parse
from unstuck.errors import UnstuckError
from unstuck.nn.training import Training
from unstuck.prove.subject import Progress, RunCache, Runs, Sham
from unstuck.prove.subjects.engine_treatments import Refusal, apply, reshuffle

RESHUFFLED = "order=reshuffled"
"""Id of the sham: order that carries no meaning is another one."""


@dataclass(frozen=True)
class EngineSubject:
    """A training of the engine that takes treatments. Runs are kept: asking again for the same is free.

    The same seed gives the same order of the samples in every arm, and the same numbers for the weights that
    a treatment does not draw anew (unless it makes the layers before them draw more or fewer than they did).

    Args:
        training: the unchanged one; its `success` is the criterion of every arm.
        name: what reports call it.
        threads: worker threads; None: what the engine chooses.

    Example:
        >>> from unstuck import nn
        >>> x = np.array([[0.0], [1.0]], np.float32)
        >>> net = nn.Sequential(nn.Linear(1, 2), nn.Sigmoid())
        >>> training = Training(net, (x, np.array([0, 1])), nn.MSELoss(), nn.SGD(lr=0.5), batch_size=1)
        >>> subject = EngineSubject(training)
        >>> subject.treated("lr*10").optimizer.lr
        5.0
        >>> subject.refuses("activation=relu")
        'there is no hidden activation to replace'
    """

    training: Training
    name: str = "network"
    threads: int | None = None
    _cache: RunCache = field(default_factory=RunCache, repr=False, compare=False)
    _treated: dict[str, Training] = field(default_factory=dict[str, Training], repr=False, compare=False)

    @property
    def criterion(self) -> str:
        """When a run succeeds, in words."""
        if self.training.success is None:
            return "its final training loss is below half of the best constant prediction's"
        bounds = [
            f"{key} {'>=' if key == 'accuracy' else '<='} {bound:g}"
            for key, bound in self.training.success.items()
        ]
        return f"{' and '.join(bounds)} on its training data"

    @property
    def sham(self) -> Sham:
        """Another shuffling and another order of draws, as far as this training has either."""
        _, changed = reshuffle(self.training)
        return Sham(RESHUFFLED, " and ".join(changed) or "the same again: nothing in this training is random")

    def treated(self, treatment: str | None) -> Training:
        """The training with one treatment.

        Args:
            treatment: its id, see `remedies.parse`; None: the unchanged one.

        Raises:
            UnstuckError: an id that cannot be read, or a treatment that this training refuses.
        """
        if treatment is None:
            return self.training
        key = str(parse(treatment))
        if key not in self._treated:
            try:
                self._treated[key] = apply(self.training, parse(treatment))
            except Refusal as refusal:
                raise UnstuckError(f"treatment {treatment!r}: {refusal}") from None
        return self._treated[key]

    def refuses(self, treatment: str) -> str | None:
        """Why this training cannot take a treatment, or None when it can.

        Raises:
            UnstuckError: an id that cannot be read.
        """
        try:
            apply(self.training, parse(treatment))
        except Refusal as refusal:
            return str(refusal)
        return None

    def run(self, treatment: str | None, seeds: Sequence[int], progress: Progress | None = None) -> Runs:
        """Train once a seed with one treatment (None: unchanged); seeds already run are not run again.

        Raises:
            UnstuckError: an unreadable or refused treatment, a seed out of range.
        """
        training = self.treated(treatment)
        key = None if treatment is None else str(parse(treatment))
        missing = self._cache.missing(key, seeds)
        if missing:
            known = len(seeds) - len(missing)

            def tell(share: float) -> None:
                if progress is not None:
                    progress(known + int(share * len(missing)), len(seeds))

            start = time.perf_counter()
            result = training.run(seeds=missing, threads=self.threads, progress=tell)
            self._cache.add(key, missing, _runs(result, time.perf_counter() - start))
        return self._cache.runs(key, seeds)


def _runs(result: Any, seconds: float) -> Runs:
    """Read an ensemble's result. Its members ran side by side: each is given an equal share of the time."""
    success = np.asarray(result.success, dtype=np.bool_)
    return Runs(
        success=success,
        loss=np.asarray(result.final_loss, dtype=np.float64),
        outcome=tuple(str(outcome) for outcome in result.outcome),
        seconds=np.full(success.size, seconds / success.size),
    )
