"""A controlled trial: the same seeds unchanged, with a sham change, treated, and with a rival's treatment."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from unstuck.diagnose.finding import Verdict
from unstuck.errors import UnstuckError
from unstuck.prove.arms import compare
from unstuck.prove.carry.result import OnEngine
from unstuck.prove.subject import Runs, Subject
from unstuck.prove.treatments import Proposal
from unstuck.prove.verdict import ALPHA, Arms, Decision, decide, needed_seeds, state, tell_rival
from unstuck.study.statistics import Interval, wilson

TrialProgress = Callable[[str, int, int], None]
"""Called as `progress(arm, runs done, runs planned)`."""


@dataclass(frozen=True)
class Detail:
    """What stands behind one verdict besides its counts: adjusted p-values, the rival, the cost."""

    helps: float
    harms: float
    rival: str
    """Whether the trial tells this cause from its rival, in one line; empty without a rival arm."""
    seconds: float
    """What the verdict's arms took, those shared with other verdicts included."""
    runs: int


@dataclass(frozen=True)
class TrialResult(Sequence[Verdict]):
    """The verdicts in the order of the treatments, and what must be known to read them.

    It is a sequence of its verdicts: of all treatments, or, when the trial was interrupted, of those whose
    arm was finished.
    """

    verdicts: tuple[Verdict, ...]
    details: Mapping[str, Detail]
    """Treatment -> what stands behind its verdict."""
    criterion: str
    unchanged: Runs | None
    """The runs without any change, in the order of the seeds; None when not even these were finished."""
    warnings: tuple[str, ...]
    refused: Mapping[str, str]
    """Treatments that the subject cannot take, each with the reason. They are no part of the family."""
    needed_seeds: int
    seconds: float
    """What all runs of the trial took; an arm shared by several verdicts counts once."""
    runs: int
    interrupted: bool
    arms: Mapping[str, Runs] = field(default_factory=dict[str, Runs])
    """All arms that were run, by their treatment: "unchanged" first, then "sham"."""
    engine: OnEngine | None = None
    """What training on the engine adds; None where it was not asked for."""

    @property
    def success_rate(self) -> Interval | None:
        """Wilson's interval (95 %) of the unchanged program's chance of success."""
        return None if self.unchanged is None else wilson(self.unchanged.successes, len(self.unchanged))

    @property
    def decisive(self) -> bool:
        """Whether help could have been proved: as many seeds fail unchanged as the proof needs.

        If not, "not shown" says nothing about a treatment, and no finding may be demoted for it.
        """
        return (
            self.unchanged is not None and len(self.unchanged) - self.unchanged.successes >= self.needed_seeds
        )

    def __len__(self) -> int:
        """How many verdicts there are."""
        return len(self.verdicts)

    def __getitem__(self, index: int) -> Verdict:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices
        """The verdict at `index`, in the order of the treatments."""
        return self.verdicts[index]

    def __iter__(self) -> Iterator[Verdict]:
        """The verdicts in the order of the treatments."""
        return iter(self.verdicts)


@dataclass(frozen=True)
class Trial:
    """Which treatments are tried on which subject, over which seeds, against which rivals: fixed beforehand.

    Args:
        subject: what trains.
        treatments: ids, each tried once; the family over which the error is held at 5 %.
        seeds: one run of every arm a seed; the same seed pairs the arms.
        rivals: treatment -> treatment of the nearest rival cause. Run and told, no claim is made for it.
        codes: treatment -> code of the finding that it answers.

    Raises:
        UnstuckError: nothing to treat, no seeds, a seed twice.
    """

    subject: Subject
    treatments: Sequence[str]
    seeds: Sequence[int]
    rivals: Mapping[str, str] = field(default_factory=dict[str, str])
    codes: Mapping[str, str] = field(default_factory=dict[str, str])

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

    @classmethod
    def of(cls, subject: Subject, proposals: Iterable[Proposal], seeds: Sequence[int]) -> "Trial":
        """A trial of what a diagnosis proposes, see `treatments.choose`."""
        known = {proposal.treatment: proposal for proposal in proposals}
        return cls(
            subject=subject,
            treatments=tuple(known),
            seeds=seeds,
            rivals={name: proposal.rival for name, proposal in known.items() if proposal.rival},
            codes={name: proposal.code for name, proposal in known.items()},
        )

    @property
    def criterion(self) -> str:
        """The rule of judgement in full, to be printed before the first run."""
        return (
            f"A run succeeds when {self.subject.criterion}. A treatment is proved when it succeeds for more "
            f"of the same {len(self.seeds)} seeds than the unchanged program (exact paired test, Holm over "
            f"all treatments and both directions, p < {ALPHA:g}), the 95 % interval of the difference lies "
            f"above 0, and it beats the sham change as well ({self.subject.sham.summary}). Harmful is the "
            "same downwards."
        )

    def run(self, progress: TrialProgress | None = None) -> TrialResult:
        """Run all arms and judge. Ctrl-C ends the trial and leaves the verdicts of the finished treatments.

        A treatment that was not reached still counts in the family, so a trial cut short claims no more than
        a whole one would.
        """
        return _Run(self, progress).result()


class _Run:
    """One pass over the arms of a trial."""

    def __init__(self, trial: Trial, progress: TrialProgress | None) -> None:
        self.trial = trial
        self.progress = progress
        self.arms: dict[str | None, Runs] = {}
        treatments = tuple(dict.fromkeys(trial.treatments))
        self.refused = self._refusals((*treatments, *trial.rivals.values()))
        self.treatments = tuple(treatment for treatment in treatments if treatment not in self.refused)
        self.planned: tuple[str | None, ...] = self._plan()

    def result(self) -> TrialResult:
        interrupted = not self._run_arms()
        finished = tuple(treatment for treatment in self.treatments if treatment in self.arms)
        needed = needed_seeds(max(len(self.treatments), 1))
        decisions = self._decisions(finished)
        names = {None: "unchanged", self.trial.subject.sham.id: "sham"}
        return TrialResult(
            verdicts=tuple(
                state(name, self.trial.codes.get(name, ""), self._arms(name), decision)
                for name, decision in decisions.items()
            ),
            details={name: self._detail(name, decision) for name, decision in decisions.items()},
            criterion=self.trial.criterion,
            unchanged=self.arms.get(None),
            warnings=tuple(self._warnings(needed, interrupted)),
            refused=self.refused,
            needed_seeds=needed,
            seconds=sum(arm.cost for arm in self.arms.values()),
            runs=sum(len(arm) for arm in self.arms.values()),
            interrupted=interrupted,
            arms={names.get(arm) or str(arm): runs for arm, runs in self.arms.items()},
        )

    def _refusals(self, treatments: Iterable[str]) -> dict[str, str]:
        reasons = {treatment: self.trial.subject.refuses(treatment) for treatment in treatments}
        return {treatment: reason for treatment, reason in reasons.items() if reason is not None}

    def _rival(self, treatment: str) -> str | None:
        rival = self.trial.rivals.get(treatment)
        return None if rival in self.refused or rival == treatment else rival

    def _plan(self) -> tuple[str | None, ...]:
        """Controls first: nothing can be judged without them. A rival stands right after its treatment."""
        arms: list[str | None] = [None]
        if self.treatments:
            arms.append(self.trial.subject.sham.id)
        for treatment in self.treatments:
            arms.append(treatment)
            rival = self._rival(treatment)
            if rival is not None:
                arms.append(rival)
        return tuple(dict.fromkeys(arms))

    def _run_arms(self) -> bool:
        """Run what is planned; False when the user stopped it."""
        total = len(self.planned) * len(self.trial.seeds)
        try:
            for index, arm in enumerate(self.planned):
                before = index * len(self.trial.seeds)

                def tell(done: int, _total: int, arm: str | None = arm, before: int = before) -> None:
                    if self.progress is not None:
                        self.progress(arm or "unchanged", before + done, total)

                tell(0, total)
                self.arms[arm] = self.trial.subject.run(arm, self.trial.seeds, tell)
                tell(len(self.trial.seeds), total)
        except KeyboardInterrupt:
            return False
        return True

    def _decisions(self, finished: Sequence[str]) -> dict[str, Decision]:
        arms = [self._arms(treatment) for treatment in finished]
        decisions = decide(
            against_unchanged=[compare(arm.unchanged, arm.treated) for arm in arms],
            against_sham=[compare(arm.sham, arm.treated) for arm in arms],
            family=len(self.treatments),
        )
        return dict(zip(finished, decisions, strict=True))

    def _arms(self, treatment: str) -> Arms:
        """The arms of a finished treatment; its rival's is absent where the trial ended between the two."""
        rival = self._rival(treatment)
        return Arms(
            unchanged=self.arms[None],
            sham=self.arms[self.trial.subject.sham.id],
            treated=self.arms[treatment],
            rival=self.arms.get(rival) if rival is not None else None,
            rival_treatment=rival or "",
        )

    def _detail(self, treatment: str, decision: Decision) -> Detail:
        arms = self._arms(treatment)
        return Detail(decision.helps, decision.harms, tell_rival(arms), arms.cost, arms.runs)

    def _warnings(self, needed: int, interrupted: bool) -> Iterator[str]:
        """What weakens the trial, one line each."""
        seeds, tried = len(self.trial.seeds), len(self.treatments)
        unchanged, sham = self.arms.get(None), self.arms.get(self.trial.subject.sham.id)
        if tried and seeds < needed:
            yield (
                f"{seeds} seeds cannot prove anything for {tried} treatments, whatever happens: "
                f"at least {needed} are needed."
            )
        elif unchanged is not None and seeds - unchanged.successes < needed:
            yield (
                f"The unchanged program succeeds for {unchanged.successes} of {seeds} seeds; to prove that "
                f"one of {tried} treatments helps, at least {needed} seeds must fail without it."
            )
        if unchanged is not None and sham is not None:
            effect = compare(unchanged, sham)
            if 2 * min(effect.helps, effect.harms) < ALPHA:
                yield (
                    f"The sham change alone moved successes from {unchanged.successes} to {sham.successes} "
                    f"of {seeds}: these seeds are no fair sample of the program, or chance has hit once in "
                    "twenty; use other seeds, or more."
                )
        if interrupted:
            done = sum(treatment in self.arms for treatment in self.treatments)
            yield f"Interrupted: {done} of {tried} treatments have a verdict."
