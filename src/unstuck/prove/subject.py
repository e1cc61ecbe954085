"""A subject of a trial: what trains, takes one treatment at a time, and says how each seed ended."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError

Progress = Callable[[int, int], None]
"""Called as `progress(done, total)` while runs are made."""


class Sham(NamedTuple):
    """A change that should do nothing: what it is called as a treatment, and in words."""

    id: str
    summary: str


@dataclass(frozen=True)
class Runs:
    """How one arm ended: one entry a seed, in the order of the seeds asked for.

    Args:
        success: (n,) bool, whether the criterion was met.
        loss: (n,) final loss, NaN where it was not finite.
        outcome: n words: success, diverged, dead or stuck.
        seconds: (n,) what each run took.

    Raises:
        UnstuckError: the four do not have one entry a seed.
    """

    success: NDArray[np.bool_]
    loss: NDArray[np.float64]
    outcome: tuple[str, ...]
    seconds: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse arms whose columns do not belong together: pairs would be mixed up silently."""
        sizes = (self.success.size, self.loss.size, len(self.outcome), self.seconds.size)
        if len(set(sizes)) > 1:
            raise UnstuckError(
                f"runs: found {sizes} entries of success, loss, outcome and seconds, expected as many of each"
            )

    def __len__(self) -> int:
        """How many seeds were run."""
        return len(self.outcome)

    def first(self, count: int) -> "Runs":
        """The runs of the first so many seeds; of all where there are no more."""
        return Runs(self.success[:count], self.loss[:count], self.outcome[:count], self.seconds[:count])

    @property
    def successes(self) -> int:
        """How many seeds met the criterion."""
        return int(np.count_nonzero(self.success))

    @property
    def cost(self) -> float:
        """Seconds of all its runs."""
        return float(self.seconds.sum())


@runtime_checkable
class Subject(Protocol):
    """What a trial needs of a subject; how a treatment is carried out is the subject's own affair."""

    @property
    def name(self) -> str:
        """What the subject is called in reports."""
        ...

    @property
    def criterion(self) -> str:
        """In words, when a run counts as a success. Fixed before the first run, the same for every arm."""
        ...

    @property
    def sham(self) -> Sham:
        """The change that should do nothing; its id is a treatment that `run` takes."""
        ...

    def refuses(self, treatment: str) -> str | None:
        """Why this treatment cannot be carried out here, or None when it can.

        Raises:
            UnstuckError: the treatment's id cannot be read.
        """
        ...

    def run(self, treatment: str | None, seeds: Sequence[int], progress: Progress | None = None) -> Runs:
        """Train once a seed, unchanged (None) or with one treatment. The same seed pairs the arms."""
        ...


@runtime_checkable
class Prefetching(Protocol):
    """A subject that makes many runs at a time, of several arms."""

    def prefetch(self, pairs: Sequence[tuple[str | None, int]], progress: Progress | None = None) -> None:
        """Make runs, pairs of a treatment (None: unchanged) and a seed, so that `run` finds them made."""
        ...

    def finished(self, treatment: str | None, seeds: Sequence[int]) -> int:
        """For how many of the first seeds an arm is made already, without a gap."""
        ...


class _Run(NamedTuple):
    success: bool
    loss: float
    outcome: str
    seconds: float


@dataclass
class RunCache:
    """Runs already made, by treatment and seed, so that an arm shared by several treatments is run once.

    Example:
        >>> cache = RunCache()
        >>> one = Runs(np.array([True]), np.array([0.1]), ("success",), np.array([2.0]))
        >>> cache.add("lr*10", [7], one)
        >>> cache.missing("lr*10", [7, 8])
        [8]
    """

    _made: dict[tuple[str | None, int], _Run] = field(default_factory=dict)

    def missing(self, treatment: str | None, seeds: Sequence[int]) -> list[int]:
        """Which of `seeds` have not been run with this treatment."""
        return [seed for seed in seeds if (treatment, seed) not in self._made]

    def add(self, treatment: str | None, seeds: Sequence[int], runs: Runs) -> None:
        """Keep what was run."""
        columns = zip(seeds, runs.success, runs.loss, runs.outcome, runs.seconds, strict=True)
        for seed, success, loss, outcome, seconds in columns:
            self._made[treatment, seed] = _Run(bool(success), float(loss), outcome, float(seconds))

    def runs(self, treatment: str | None, seeds: Sequence[int]) -> Runs:
        """The runs of `seeds`, in that order; all of them must have been made."""
        made = [self._made[treatment, seed] for seed in seeds]
        return Runs(
            success=np.array([run.success for run in made], dtype=np.bool_),
            loss=np.array([run.loss for run in made], dtype=np.float64),
            outcome=tuple(run.outcome for run in made),
            seconds=np.array([run.seconds for run in made], dtype=np.float64),
        )
