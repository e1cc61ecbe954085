"""The table of a trial's verdicts, for pages."""

from unstuck.prove.trial import TrialResult
from unstuck.report import words
from unstuck.report.numbers import NOTHING
from unstuck.report.page import Grid


def trial_grid(trial: TrialResult, interval: str = "difference, 95 %") -> Grid:
    """The table of a trial's verdicts.

    Args:
        trial: whose.
        interval: head of the column of intervals.
    """
    rows: list[tuple[str, ...]] = []
    for verdict in trial:
        low, high = verdict.difference
        rival = verdict.arms.get("rival")
        rows.append(
            (
                verdict.treatment,
                words.rate(verdict.before),
                words.rate(verdict.after),
                f"{100 * low:+.0f} to {100 * high:+.0f} %",
                verdict.verdict,
                words.rate(verdict.arms["sham"]) if "sham" in verdict.arms else NOTHING,
                f"{words.rate(rival)} {rival.treatment}" if rival is not None else NOTHING,
            )
        )
    heads = ("treatment", "before", "after", interval, "verdict", "sham", "rival")
    return Grid(heads, tuple(rows), text=(4, 6))


def trial_notes(trial: TrialResult) -> tuple[str, ...]:
    """What weakens a trial, what it could not try, and what the engine adds."""
    refused = (f"Not tried: {treatment}: {why}" for treatment, why in trial.refused.items())
    engine = trial.engine.lines if trial.engine is not None else ()
    return (*trial.warnings, *refused, *(line[:1].upper() + line[1:] for line in engine))
