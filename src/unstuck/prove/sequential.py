"""A trial that looks at its results on the way: all treatments a little, then those that lead."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from unstuck.diagnose.remedies import parse
from unstuck.errors import UnstuckError
from unstuck.prove.arms import Comparison, compare
from unstuck.prove.ledger import Ledger
from unstuck.prove.looks import FIRST, SINGLE, Look, least_seeds, plan_looks
from unstuck.prove.subject import Subject
from unstuck.prove.treatments import Proposal
from unstuck.prove.trial import Detail, TrialProgress, TrialResult
from unstuck.prove.verdict import ALPHA, Decision, decide, needed_seeds, state, tell_rival

UNDECIDED = Decision("not shown", 1.0, 1.0)
SHAM_FIRST = least_seeds(1, 2 * ALPHA)
"""Seeds of the sham that suffice where it never succeeds and the treatment always does; else it gets all."""
RIVAL_LEVEL = ALPHA / 2
"""The rival is looked at twice at most."""
RIVAL_FIRST = least_seeds(1, 2 * RIVAL_LEVEL)


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

    @property
    def least_runs(self) -> int:
        """What it takes where one treatment always helps and nothing else ever does."""
        arms = len(set(self.treatments))
        look = plan_looks(len(self.seeds), arms, self.single_alpha)[0].seeds
        return 2 * look + sum(min(count, look) for count in (SHAM_FIRST, RIVAL_FIRST, *[FIRST] * (arms - 1)))

    @property
    def most_runs(self) -> int:
        """Every arm and every rival for every seed."""
        return (2 * len(set(self.treatments)) + 2) * len(self.seeds)

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
        self.ledger = Ledger(trial.subject, trial.seeds, trial.rivals, progress)
        self.sham = trial.subject.sham.id
        self.treatments = tuple(dict.fromkeys(trial.treatments))
        self.together = ""
        """The combination that was tried."""
        self.decisions: dict[str, tuple[Decision, Look]] = {}

    def result(self) -> TrialResult:
        interrupted = False
        try:
            self._course()
        except KeyboardInterrupt:
            interrupted = True
            self.ledger.keep_finished()
        ledger = self.ledger
        needed = needed_seeds(max(len(self.treatments), 1))
        tried = (*self.treatments, *([self.together] if self.together else []))
        told = [name for name in tried if ledger.made(name) and ledger.made(None)]
        for name in told:
            self.decisions.setdefault(name, (UNDECIDED, Look(ledger.made(name), ALPHA)))
        arms = {name: ledger.arms(name) for name in told}
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
                    tell_rival(arms[name], RIVAL_LEVEL),
                    arms[name].cost,
                    arms[name].runs,
                )
                for name in told
            },
            criterion=self.trial.criterion,
            unchanged=ledger.runs(None) if ledger.made(None) else None,
            warnings=tuple(self._warnings(needed, interrupted)),
            refused=ledger.refused,
            needed_seeds=needed,
            seconds=ledger.seconds,
            runs=ledger.total,
            interrupted=interrupted,
            arms=ledger.named(),
        )

    # ---- the course of the trial

    def _course(self) -> None:
        self.treatments = tuple(self.ledger.look(self.treatments))  # what is refused is no part of the family
        if not self.treatments:
            return
        looks = plan_looks(len(self.trial.seeds), len(self.treatments), self.trial.single_alpha)
        alive = list(self.treatments)
        first = min(FIRST, looks[0].seeds)
        self.ledger.make([None, self.sham, *alive], first)
        if looks[0].seeds > first:
            alive = self._leaders(alive)
        for look in looks:
            if not alive:
                break
            self.ledger.make([None, *alive], look.seeds)
            alive = self._judge(alive, look)
        if self.trial.combine:
            self._try_together()
        self._run_rivals()

    def _leaders(self, treatments: Sequence[str]) -> list[str]:
        """Those that changed at least half as many seeds, for good or ill, as the best of them; else all."""
        moved = {name: self.ledger.gain(name) for name in treatments}
        best, worst = max(moved.values()), -min(moved.values())
        if best <= 0 and worst <= 0:
            return list(treatments)
        return [
            name
            for name, gain in moved.items()
            if (gain > 0 and 2 * gain >= best) or (gain < 0 and best <= 0 and -2 * gain >= worst)
        ]

    def _try_together(self) -> None:
        """Two treatments at once, where no single one is proved: the best two of different kinds."""
        if any(decision.word == "proved" for decision, _ in self.decisions.values()):
            return
        ledger = self.ledger
        harmless = [name for name in self.treatments if ledger.gain(name) >= 0 and "+" not in name]
        ranked = sorted(harmless, key=lambda name: -ledger.gain(name) / ledger.made(name))
        second = next((one for one in ranked[1:] if parse(one).kind != parse(ranked[0]).kind), None)
        alpha = ALPHA - self.trial.single_alpha
        if second is None or alpha <= 0 or ledger.runs(None).successes == ledger.made(None):
            return
        look = Look(min(least_seeds(1, alpha) + 2, len(self.trial.seeds)), alpha)
        together = f"{ranked[0]}+{second}"
        if not ledger.look([together]):
            return
        ledger.make([None, together], look.seeds)
        self.together = together
        self._judge([together], look, family=1)

    def _judge(self, alive: Sequence[str], look: Look, family: int | None = None) -> list[str]:
        """Decide what can be decided; the rest goes on if it moved anything and nothing is proved yet."""
        ledger, confidence = self.ledger, 1 - look.alpha
        family = len(self.treatments) if family is None else family
        arms = [ledger.arms(name) for name in alive]
        unchanged = [compare(arm.unchanged, arm.treated, confidence) for arm in arms]
        # the sham can only take a verdict away: it is asked about those that have one
        likely = decide(unchanged, unchanged, family, look.alpha)
        sham = [
            self._against_sham(name, look) if decision.word != "not shown" else comparison
            for name, decision, comparison in zip(alive, likely, unchanged, strict=True)
        ]
        decisions = decide(unchanged, sham, family, look.alpha)
        for name, decision in zip(alive, decisions, strict=True):
            self.decisions[name] = (decision, look)
        if any(decision.word == "proved" for decision in decisions):
            return []
        return [
            name
            for name, decision in zip(alive, decisions, strict=True)
            if decision.word == "not shown" and ledger.gain(name) != 0
        ]

    def _against_sham(self, treatment: str, look: Look) -> Comparison:
        """A treatment against the sham: over a few seeds where these are clear, else over all of the look."""
        found = None
        for count in (min(SHAM_FIRST, look.seeds), look.seeds):
            self.ledger.make([self.sham], count)
            arms = self.ledger.arms(treatment)
            found = compare(arms.sham, arms.treated.first(len(arms.sham)), 1 - look.alpha)
            if min(found.helps, found.harms) < ALPHA:
                break
        assert found is not None  # noqa: S101  (the loop has two turns)
        return found

    def _run_rivals(self) -> None:
        """The nearest rival cause of what is proved: over a few seeds where these tell."""
        for name, (decision, _) in self.decisions.items():
            rival = self.ledger.rival(name)
            if decision.word != "proved" or rival is None or not self._takes(rival):
                continue
            for count in (min(RIVAL_FIRST, self.ledger.made(name)), self.ledger.made(name)):
                self.ledger.make([rival], count)
                arms = self.ledger.arms(name)
                if arms.rival is not None:
                    found = compare(arms.rival, arms.treated.first(len(arms.rival)))
                    if min(found.helps, found.harms) < RIVAL_LEVEL:
                        break

    def _takes(self, rival: str) -> bool:
        return self.ledger.made(rival) > 0 or bool(self.ledger.look([rival]))

    # ---- what is told

    def _code(self, treatment: str) -> str:
        return self.trial.codes.get(treatment) or self.trial.codes.get(treatment.partition("+")[0], "")

    def _warnings(self, needed: int, interrupted: bool) -> Iterator[str]:
        """What weakens the trial, one line each."""
        seeds, tried, ledger = len(self.trial.seeds), len(self.treatments), self.ledger
        if tried and seeds < needed:
            yield (
                f"{seeds} seeds cannot prove anything for {tried} treatments, whatever happens: at least "
                f"{needed} are needed."
            )
        if ledger.made(None) and ledger.made(self.sham):
            count = min(ledger.made(None), ledger.made(self.sham))
            before, after = ledger.runs(None, count), ledger.runs(self.sham, count)
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
            done = sum(
                name in self.decisions and self.decisions[name][0] is not UNDECIDED
                for name in self.treatments
            )
            yield f"Interrupted: {done} of {tried} treatments were judged."
