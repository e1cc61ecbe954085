"""Which arms of a trial were run, for how many of its seeds: always the first ones, so that arms pair up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unstuck.prove.subject import Prefetching, Runs, Subject
from unstuck.prove.trial import TrialProgress
from unstuck.prove.verdict import Arms


@dataclass
class Ledger:
    """The runs of a trial that grows on the way.

    Args:
        subject: what trains.
        seeds: in this order; every arm has run the first so many of them.
        rivals: treatment -> treatment of the nearest rival cause.
        progress: told of the runs.
    """

    subject: Subject
    seeds: Sequence[int]
    rivals: Mapping[str, str]
    progress: TrialProgress | None = None
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Treatments that the subject cannot take, with the reason."""
    _arms: dict[str | None, Runs] = field(default_factory=dict[str | None, Runs])
    _asked: list[str | None] = field(default_factory=list[str | None])

    def made(self, arm: str | None) -> int:
        """For how many seeds an arm was run."""
        return len(self._arms[arm]) if arm in self._arms else 0

    def look(self, treatments: Sequence[str]) -> list[str]:
        """Those of some treatments that the subject can take; one run each is made where only that tells."""
        treatments = list(dict.fromkeys(treatments))
        if isinstance(self.subject, Prefetching):
            pairs = [(arm, self.seeds[0]) for arm in (None, *treatments)]
            self.subject.prefetch(pairs, self._tell("looking"))
        for treatment in treatments:
            reason = self.subject.refuses(treatment)
            if reason is not None:
                self.refused[treatment] = reason
        return [one for one in treatments if one not in self.refused]

    def make(self, arms: Sequence[str | None], count: int) -> None:
        """Run some arms for the first so many seeds; what was run is not run again."""
        seeds = self.seeds[:count]
        self._asked = arms = list(dict.fromkeys(arms))
        if isinstance(self.subject, Prefetching):
            # by seed, not by arm: cut short, it leaves pairs
            pairs = [(arm, seed) for seed in seeds for arm in arms]
            self.subject.prefetch(pairs, self._tell(f"{len(seeds)} seeds"))
        for arm in arms:
            if self.made(arm) < len(seeds):
                self._arms[arm] = self.subject.run(arm, seeds, self._tell(arm or "unchanged"))

    def keep_finished(self) -> None:
        """After an interruption: the runs that were finished of what was being made."""
        if not isinstance(self.subject, Prefetching):
            return
        for arm in self._asked:
            count = self.subject.finished(arm, self.seeds)
            if count > self.made(arm):
                self._arms[arm] = self.subject.run(arm, self.seeds[:count])

    def runs(self, arm: str | None, count: int | None = None) -> Runs:
        """An arm's runs of the first so many seeds."""
        runs = self._arms[arm]
        return runs if count is None else runs.first(count)

    def gain(self, treatment: str) -> int:
        """Successes with a treatment, less those without it for the same seeds."""
        count = self.made(treatment)
        return self.runs(treatment).successes - self.runs(None, count).successes

    def rival(self, treatment: str) -> str | None:
        """The rival of a treatment, unless the subject refused it."""
        rival = self.rivals.get(treatment)
        return None if rival in self.refused or rival == treatment else rival

    def arms(self, treatment: str) -> Arms:
        """A treatment's arms."""
        count, rival, sham = self.made(treatment), self.rival(treatment), self.subject.sham.id
        count = min(count, self.made(None))
        known = rival is not None and self.made(rival) > 0
        return Arms(
            unchanged=self.runs(None, count),
            sham=self.runs(sham if self.made(sham) else None, min(count, self.made(sham))),
            treated=self.runs(treatment, count),
            rival=self.runs(rival, count) if known else None,
            rival_treatment=rival or "",
        )

    def named(self) -> dict[str, Runs]:
        """All arms, the unchanged one first; the sham is called so."""
        names = {None: "unchanged", self.subject.sham.id: "sham"}
        return {names.get(arm) or str(arm): runs for arm, runs in self._arms.items() if len(runs)}

    @property
    def total(self) -> int:
        """All runs."""
        return sum(map(len, self._arms.values()))

    @property
    def seconds(self) -> float:
        """What all runs took."""
        return sum(runs.cost for runs in self._arms.values())

    def _tell(self, what: str) -> "_Tell":
        return _Tell(self.progress, what)


@dataclass(frozen=True)
class _Tell:
    """Progress of a stage, with its name."""

    progress: TrialProgress | None
    what: str

    def __call__(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.what, done, total)
