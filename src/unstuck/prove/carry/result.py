"""What training on the engine adds to a trial: more seeds, told beside the verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from unstuck.prove.arms import compare
from unstuck.prove.subject import Runs
from unstuck.study.statistics import Interval


@dataclass(frozen=True)
class Carried:
    """One treatment over seeds that PyTorch did not run."""

    treatment: str
    before: Runs
    after: Runs
    agrees: str
    """What was compared with PyTorch, in words."""

    @property
    def difference(self) -> Interval:
        """Of the chance of success, treated less unchanged; 95 %."""
        return compare(self.before, self.after).interval

    def __str__(self) -> str:
        """In one line.

        Example:
            >>> import numpy as np
            >>> runs = Runs(np.ones(2, bool), np.zeros(2), ("success",) * 2, np.zeros(2))
            >>> str(Carried("lr*2", runs, runs, "5 of 5 torch runs end alike")).split(";")[0]
            'lr*2: 2/2 of other seeds succeed, 2/2 without, difference -0.66 to +0.66'
        """
        low, high = self.difference.low, self.difference.high
        return (
            f"{self.treatment}: {self.after.successes}/{len(self.after)} of other seeds succeed, "
            f"{self.before.successes}/{len(self.before)} without, difference {low:+.2f} to {high:+.2f}; "
            f"{self.agrees}"
        )


@dataclass(frozen=True)
class OnEngine:
    """All that the engine could train, and why not the rest."""

    carried: tuple[Carried, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Treatment (or "unchanged", where nothing could be) -> reason."""
    seconds: float = 0.0

    @property
    def lines(self) -> list[str]:
        """For a report: one line each."""
        told = [f"on the engine, {one}" for one in self.carried]
        for name, why in self.refused.items():
            what = "" if name == UNCHANGED else f"{name}: "
            told.append(f"not carried over to the engine: {what}{why}")
        return told

    @property
    def values(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "carried": [
                {
                    "treatment": one.treatment,
                    "before": {"successes": one.before.successes, "trials": len(one.before)},
                    "after": {"successes": one.after.successes, "trials": len(one.after)},
                    "difference": [one.difference.low, one.difference.high],
                    "agreement": one.agrees,
                }
                for one in self.carried
            ],
            "not_carried": dict(self.refused),
            "seconds": self.seconds,
        }


UNCHANGED = "unchanged"
