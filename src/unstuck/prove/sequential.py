"""A trial that looks at its results on the way: all treatments a little, then those that lead."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from unstuck.diagnose.remedies import parse
from unstuck.errors import UnstuckError
from unstuck.prove.arms import compare
from unstuck.prove.looks import FIRST, SINGLE, Look, least_seeds, plan_looks
from unstuck.prove.subject import Prefetching, Runs, Subject
from unstuck.prove.treatments import Proposal
from unstuck.prove.trial import Detail, TrialProgress, TrialResult
from unstuck.prove.verdict import ALPHA, Arms, Decision, decide, needed_seeds, state, tell_rival

UNDECIDED = Decision("not shown", 1.0, 1.0)


@dataclass(frozen=True)
class SequentialTrial:
    """Which treatments are tried on which subject, over at most which seeds: fixed beforehand.

    Every treatment gets a few seeds. Those that lead (or do harm) go on to the first look; a treatment that
    is decided there, or that leads no more, stops. What was left behind is "not shown" and still counts in
    the family, so that stopping early claims no more than the trial may.

    Args:
        subject: what trains.
        treatments: ids, each tried once; the family over which the error is held at 5 %.
        seeds: at most these, in this order; the same seed pairs the arms.
        rivals: treatment -> treatment of the nearest rival cause, run where the treatment is proved.
        codes: treatment -> code of the finding that it answers.
        combine: whether the two best are tried together when no single one is proved; a fifth of the error
            is kept for that.

    Raises:
        UnstuckError: nothing to treat, no seeds, a seed twice.
    """

    subject: Subject
    treatments: Sequence[str]
    seeds: Sequence[int]
    rivals: Mapping[str, str] = field(default_factory=dict[str, str])
    codes: Mapping[str, str] = field(default_factory=dict[str, str])
    combine: bool = False

    def __post_init__(self) -> None:
        """Refuse trials that can say nothing, and seeds that would be counted twice."""
        if not self.treatments:
            raise UnstuckError("treatments: found none, expected at least one: there is nothing to treat")
        if not self.seeds:
            raise UnstuckError("seeds: found none, expected at least one")
        if len(set(self.seeds)) < len(self.seeds):
            raise UnstuckError(
                "seeds: found one twice, expected distinct seeds: a run repeated is no evidence"
            )

    @property
    def single_alpha(self) -> float:
        """What single treatments may spend."""
        return ALPHA * (SINGLE if self.combine and len(set(self.treatments)) > 1 else 1.0)

    @classmethod
    def of(
        cls,
        subject: Subject,
        proposals: Iterable[Proposal],
        seeds: Sequence[int],
        *,
        combine: bool = False,
    ) -> "SequentialTrial":
        """A trial of what a diagnosis proposes, see `treatments.choose`."""
        known = {proposal.treatment: proposal for proposal in proposals}
        return cls(
            subject=subject,
            treatments=tuple(known),
            seeds=seeds,
            rivals={name: one.rival for name, one in known.items() if one.rival},
            codes={name: one.code for name, one in known.items()},
            combine=combine,
        )

    @property
    def criterion(self) -> str:
        """The rule of judgement in full, to be printed before the first run."""
        looks = plan_looks(len(self.seeds), len(set(self.treatments)), self.single_alpha)
        when = " and ".join(
            filter(None, (", ".join(str(look.seeds) for look in looks[:-1]), f"{looks[-1].seeds}"))
        )
        return (
            f"A run succeeds when {self.subject.criterion}. A treatment is proved when it succeeds for more "
            f"of the same seeds than the unchanged program, judged after {when} seeds (exact paired test, "
            f"Holm over all treatments and both directions, the looks together p < {ALPHA:g}), the interval "
            "of the difference lies above 0, and it beats the sham change as well "
            f"({self.subject.sham.summary}). Harmful is the same downwards."
        )

    def run(self, progress: TrialProgress | None = None) -> TrialResult:
        """Run until all is decided. Ctrl-C ends the trial and leaves what the finished runs show."""
        return _Course(self, progress).result()


class _Course:
    """One pass through a trial."""

    def __init__(self, trial: SequentialTrial, progress: TrialProgress | None) -> None:
        self.trial = trial
        self.subject = trial.subject
        self.progress = progress
        self.treatments = tuple(dict.fromkeys(trial.treatments))
        self.refused: dict[str, str] = {}
        self.together = ""
        """The combination that was tried."""
        self.made: dict[str | None, int] = {}
        """Arm -> how many seeds of it were run, from the first on."""
        self.decisions: dict[str, tuple[Decision, Look]] = {}
        self.arms: dict[str | None, Runs] = {}

    def result(self) -> TrialResult:
        interrupted = False
        try:
            self._course()
        except KeyboardInterrupt:
            interrupted = True
        needed = needed_seeds(max(len(self.treatments), 1))
        tried = (*self.treatments, *([self.together] if self.together else []))
        told = [name for name in tried if self.made.get(name) and self.made.get(None)]
        for name in told:
            self.decisions.setdefault(name, (UNDECIDED, Look(self.made[name], ALPHA)))
        arms = {name: self._arms(name) for name in told}
        return TrialResult(
            verdicts=tuple(
                state(
                    name,
                    self._code(name),
                    arms[name],
                    self.decisions[name][0],
                    1 - self.decisions[name][1].alpha,
                )
                for name in told
            ),
            details={
                name: Detail(
                    self.decisions[name][0].helps,
                    self.decisions[name][0].harms,
                    tell_rival(arms[name]),
                    arms[name].cost,
                    arms[name].runs,
                )
                for name in told
            },
            criterion=self.trial.criterion,
            unchanged=self._runs(None) if self.made.get(None) else None,
            warnings=tuple(self._warnings(needed, interrupted)),
            refused=self.refused,
            needed_seeds=needed,
            seconds=sum(self._runs(arm).cost for arm in self.made),
            runs=sum(self.made.values()),
            interrupted=interrupted,
        )

    # ---- the course of the trial

    def _course(self) -> None:
        self._refuse()
        if not self.treatments:
            return
        looks = plan_looks(len(self.trial.seeds), len(self.treatments), self.trial.single_alpha)
        alive = list(self.treatments)
        first = min(FIRST, looks[0].seeds)
        self._make([None, self.subject.sham.id, *alive], first)
        if looks[0].seeds > first:
            alive = self._leaders(alive)
        for look in looks:
            if not alive:
                break
            self._make([None, self.subject.sham.id, *alive], look.seeds)
            alive = self._judge(alive, look)
        if self.trial.combine:
            self._try_together()
        self._run_rivals()

    def _try_together(self) -> None:
        """Two treatments at once, where no single one is proved: the best two of different kinds."""
        if any(decision.word == "proved" for decision, _ in self.decisions.values()):
            return
        harmless = [name for name in self.treatments if self._gain(name) >= 0 and "+" not in name]
        ranked = sorted(harmless, key=lambda name: -self._gain(name) / self.made[name])
        second = next((one for one in ranked[1:] if parse(one).kind != parse(ranked[0]).kind), None)
        alpha = ALPHA - self.trial.single_alpha
        if second is None or alpha <= 0 or self._runs(None).successes == self.made[None]:
            return
        look = Look(min(least_seeds(1, alpha) + 2, len(self.trial.seeds)), alpha)
        together = f"{ranked[0]}+{second}"
        self._make([None, self.subject.sham.id, together], look.seeds)
        if self.subject.refuses(together) is None:
            self.together = together
            self._judge([together], look, family=1)

    def _refuse(self) -> None:
        """Treatments that the subject cannot take are no part of the family."""
        everything = dict.fromkeys([*self.treatments, *self.trial.rivals.values()])
        if isinstance(self.subject, Prefetching):
            first = self.trial.seeds[:1]
            self.subject.prefetch(
                [(arm, seed) for arm in (None, *everything) for seed in first], self._tell("looking")
            )
        for treatment in everything:
            reason = self.subject.refuses(treatment)
            if reason is not None:
                self.refused[treatment] = reason
        self.treatments = tuple(one for one in self.treatments if one not in self.refused)

    def _make(self, arms: Sequence[str | None], count: int) -> None:
        """Run some arms for the first so many seeds."""
        seeds = self.trial.seeds[:count]
        arms = list(dict.fromkeys(arms))
        if isinstance(self.subject, Prefetching):
            # by seed, not by arm: cut short, it leaves pairs
            self.subject.prefetch(
                [(arm, seed) for seed in seeds for arm in arms], self._tell(f"{len(seeds)} seeds")
            )
        for arm in arms:
            if self.made.get(arm, 0) < count:
                self.arms[arm] = self.subject.run(arm, seeds, self._tell(arm or "unchanged"))
                self.made[arm] = count

    def _leaders(self, treatments: Sequence[str]) -> list[str]:
        """Those that changed at least half as many seeds, for good or ill, as the best of them; else all."""
        moved = {name: self._gain(name) for name in treatments}
        best, worst = max(moved.values()), -min(moved.values())
        if best <= 0 and worst <= 0:
            return list(treatments)
        return [
            name
            for name, gain in moved.items()
            if (gain > 0 and 2 * gain >= best) or (gain < 0 and best <= 0 and -2 * gain >= worst)
        ]

    def _gain(self, treatment: str) -> int:
        count = self.made[treatment]
        return self._runs(treatment, count).successes - self._runs(None, count).successes

    def _judge(self, alive: Sequence[str], look: Look, family: int | None = None) -> list[str]:
        """Decide what can be decided; the rest goes on if it moved anything and nothing is proved yet."""
        arms = [self._arms(name) for name in alive]
        confidence = 1 - look.alpha
        decisions = decide(
            against_unchanged=[compare(arm.unchanged, arm.treated, confidence) for arm in arms],
            against_sham=[compare(arm.sham, arm.treated, confidence) for arm in arms],
            family=len(self.treatments) if family is None else family,
            spent=look.alpha,
        )
        for name, decision in zip(alive, decisions, strict=True):
            self.decisions[name] = (decision, look)
        if any(decision.word == "proved" for decision in decisions):
            return []
        return [
            name
            for name, decision in zip(alive, decisions, strict=True)
            if decision.word == "not shown" and self._gain(name) != 0
        ]

    def _run_rivals(self) -> None:
        """The nearest rival cause of what is proved, over the same seeds."""
        for name, (decision, _) in self.decisions.items():
            rival = self._rival(name)
            if decision.word == "proved" and rival is not None and self.made.get(rival, 0) < self.made[name]:
                self._make([rival], self.made[name])

    # ---- arms

    def _runs(self, arm: str | None, count: int | None = None) -> Runs:
        runs = self.arms[arm]
        n = len(runs) if count is None else count
        return Runs(runs.success[:n], runs.loss[:n], runs.outcome[:n], runs.seconds[:n])

    def _rival(self, treatment: str) -> str | None:
        rival = self.trial.rivals.get(treatment)
        return None if rival in self.refused or rival == treatment else rival

    def _arms(self, treatment: str) -> Arms:
        """A treatment's arms, all of the same seeds; its rival's is absent where it has not run them."""
        count, rival = self.made[treatment], self._rival(treatment)
        sham = self.subject.sham.id
        count = min(count, self.made.get(sham, 0), self.made.get(None, 0))
        known = rival is not None and self.made.get(rival, 0) >= count
        return Arms(
            unchanged=self._runs(None, count),
            sham=self._runs(sham, count),
            treated=self._runs(treatment, count),
            rival=self._runs(rival, count) if known else None,
            rival_treatment=rival or "",
        )

    def _code(self, treatment: str) -> str:
        return self.trial.codes.get(treatment) or self.trial.codes.get(treatment.partition("+")[0], "")

    def _tell(self, what: str) -> "_Tell":
        return _Tell(self.progress, what)

    def _warnings(self, needed: int, interrupted: bool) -> Iterator[str]:
        """What weakens the trial, one line each."""
        seeds, tried = len(self.trial.seeds), len(self.treatments)
        sham = self.subject.sham.id
        if tried and seeds < needed:
            yield (
                f"{seeds} seeds cannot prove anything for {tried} treatments, whatever happens: at least "
                f"{needed} are needed."
            )
        if self.made.get(None) and self.made.get(sham):
            count = min(self.made[None], self.made[sham])
            before, after = self._runs(None, count), self._runs(sham, count)
            effect = compare(before, after)
            if 2 * min(effect.helps, effect.harms) < ALPHA:
                yield (
                    f"The sham change alone moved successes from {before.successes} to {after.successes} of "
                    f"{count}: chance has hit once in twenty; use other seeds, or more."
                )
            proved = any(decision.word == "proved" for decision, _ in self.decisions.values())
            if not proved and before.successes == count:
                yield f"The unchanged program succeeds for all {count} seeds: there is nothing to improve."
        if interrupted:
            done = sum(name in self.decisions for name in self.treatments)
            yield f"Interrupted: {done} of {tried} treatments were judged."


@dataclass(frozen=True)
class _Tell:
    """Progress of a stage, with its name."""

    progress: TrialProgress | None
    what: str

    def __call__(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(self.what, done, total)
