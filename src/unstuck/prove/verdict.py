"""From compared arms to verdicts: what a trial may call proved, and how many seeds that takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from unstuck.diagnose.finding import ArmCount, Verdict
from unstuck.errors import UnstuckError
from unstuck.prove.arms import Comparison, compare
from unstuck.prove.subject import Runs
from unstuck.study.statistics import holm

ALPHA = 0.05
"""The chance that a trial of useless treatments calls any of them proved or harmful."""

Word = Literal["proved", "harmful", "not shown"]


@dataclass(frozen=True)
class Arms:
    """The arms that one verdict rests on; without a rival where there is none.

    Unchanged and treated are of the same seeds. Sham and rival are of the same, or of the first of them where
    these sufficed.
    """

    unchanged: Runs
    sham: Runs
    treated: Runs
    rival: Runs | None = None
    rival_treatment: str = ""

    @property
    def cost(self) -> float:
        """Seconds of the arms' runs, those shared with other verdicts included."""
        rival = 0.0 if self.rival is None else self.rival.cost
        return self.unchanged.cost + self.sham.cost + self.treated.cost + rival

    @property
    def runs(self) -> int:
        """How many runs the arms are made of."""
        rival = 0 if self.rival is None else len(self.rival)
        return len(self.unchanged) + len(self.sham) + len(self.treated) + rival


class Decision(NamedTuple):
    """The word for one treatment, with the adjusted p-values of help and of harm that gave it."""

    word: Word
    helps: float
    harms: float


def needed_seeds(n_treatments: int) -> int:
    r"""The fewest seeds with which a trial of this many treatments can prove anything.

    In the clearest case every one of $k$ seeds changes, so the one-sided exact p-value is $2^{-k}$. Holm's
    first step over $m$ treatments, each tested for help and for harm, asks for

    $$2m\,2^{-k} < 0.05$$

    Args:
        n_treatments: treatments in the trial, at least 1.

    Returns:
        The smallest such $k$. A treatment that rescues only some seeds needs $k$ *rescued* ones.

    Raises:
        UnstuckError: fewer than one treatment.

    Example:
        >>> needed_seeds(1), needed_seeds(12)
        (6, 9)
    """
    if n_treatments < 1:
        raise UnstuckError(f"n_treatments: found {n_treatments}, expected at least 1")
    # 2m / 0.05 = 40 m is never a power of two, so the rounding of the logarithm cannot decide.
    return math.ceil(math.log2(2 * n_treatments / ALPHA))


def decide(
    against_unchanged: Sequence[Comparison],
    against_sham: Sequence[Comparison],
    family: int | None = None,
    spent: float = ALPHA,
) -> list[Decision]:
    """Judge every treatment of a trial.

    *Proved*: the exact test for help is below 0.05 after Holm over all treatments in both directions, the
    interval of the difference lies above 0, and the treatment beats the sham as well (exact test below 0.05;
    a further condition needs no adjustment: it can only take verdicts away). *Harmful* is the same downwards,
    *not shown* the rest, which does not say that the treatment does nothing.

    Args:
        against_unchanged: each treated arm against the unchanged one.
        against_sham: each treated arm, in the same order, against the sham.
        family: treatments that the trial set out to try, if some were not reached; they count as p = 1.
        spent: the part of 0.05 that this look at the results may use, where a trial looks more than once.
            The p-values are raised accordingly, so that they are compared with 0.05 all the same.

    Returns:
        One decision a treatment, in the order given.

    Raises:
        UnstuckError: a family smaller than the treatments given.

    References:
        S. Holm, 1979, Scandinavian Journal of Statistics 6:65-70.
        R. L. Berger, 1982, Technometrics 24:295-300 (several conditions at once need no adjustment).
    """
    tried = len(against_unchanged)
    planned = tried if family is None else family
    if planned < tried:
        raise UnstuckError(
            f"family: found {planned}, expected at least the {tried} treatments that were tried"
        )
    helps = [comparison.helps for comparison in against_unchanged]
    harms = [comparison.harms for comparison in against_unchanged]
    adjusted = holm([*helps, *harms, *[1.0] * (2 * (planned - tried))])
    adjusted = np.minimum(adjusted * (ALPHA / spent), 1.0)
    return [
        Decision(_word(unchanged, sham, float(help_p), float(harm_p)), float(help_p), float(harm_p))
        for unchanged, sham, help_p, harm_p in zip(
            against_unchanged, against_sham, adjusted[:tried], adjusted[tried : 2 * tried], strict=True
        )
    ]


def _word(unchanged: Comparison, sham: Comparison, helps: float, harms: float) -> Word:
    if helps < ALPHA and unchanged.interval.low > 0 and sham.helps < ALPHA:
        return "proved"
    if harms < ALPHA and unchanged.interval.high < 0 and sham.harms < ALPHA:
        return "harmful"
    return "not shown"


def state(treatment: str, code: str, arms: Arms, decision: Decision, confidence: float = 0.95) -> Verdict:
    """Write a decision down with the counts behind it.

    Args:
        treatment: its id.
        code: of the finding that it answers.
        arms: what was run.
        decision: what they showed.
        confidence: of the interval: 0.95, or more where the trial looks more than once.

    Returns:
        The verdict; its interval is of P(success treated) - P(success unchanged).
    """
    interval = compare(arms.unchanged, arms.treated, confidence).interval
    others = {"sham": _count(arms.sham)}
    if arms.rival is not None:
        others["rival"] = _count(arms.rival, arms.rival_treatment)
    return Verdict(
        treatment=treatment,
        code=code,
        before=_count(arms.unchanged),
        after=_count(arms.treated),
        difference=(interval.low, interval.high),
        verdict=decision.word,
        arms=others,
    )


def tell_rival(arms: Arms, level: float = ALPHA) -> str:
    """In one line, whether the trial tells this cause from its rival; empty without a rival arm.

    Args:
        arms: of the treatment.
        level: the p-value below which it does: less than 0.05 where the rival is looked at more than once.
    """
    if arms.rival is None:
        return ""
    against = compare(arms.rival, arms.treated.first(len(arms.rival)))
    gave = f"the rival {arms.rival_treatment} gave {arms.rival.successes} of {len(arms.rival)}"
    if against.helps < level:
        return f"{gave}: this cause and not that one"
    if against.harms < level:
        return f"{gave}, which is more than this treatment: look there first"
    return f"{gave}: the trial does not tell the two causes apart"


def _count(runs: Runs, treatment: str = "") -> ArmCount:
    return ArmCount(runs.successes, len(runs), treatment)
