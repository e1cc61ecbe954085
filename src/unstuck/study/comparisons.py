"""What one value of a factor does against another: differences between cells, seed by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unstuck.study.families import single_confidence
from unstuck.study.result import StudyResult
from unstuck.study.statistics import Interval, PairedTable, paired_table
from unstuck.trace.storage import connect

Word = Literal["more", "fewer", "the same", "undecided"]
SAME = 0.05
"""The largest difference of success rates of no importance."""
FEW = 3
"""A numeric factor with more values than this is told by its boundary, and not value by value."""


@dataclass(frozen=True)
class Comparison:
    """One value of a factor against its first value, all other factors as they are."""

    factor: str
    value: Any
    against: Any
    where: Mapping[str, Any]
    """The other factors."""
    difference: float
    """Success rate with `value` minus that with `against`, over the seeds that both have."""
    interval: Interval
    """Newcombe's, paired by seed; those of all comparisons of a study hold together at 95 %."""
    pairs: int

    @property
    def word(self) -> Word:
        """What the interval shows; "the same" is shown too: all of it is within 0.05 of none."""
        if self.interval.low > 0:
            return "more"
        if self.interval.high < 0:
            return "fewer"
        return "the same" if self.interval.low > -SAME and self.interval.high < SAME else "undecided"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "factor": self.factor,
            "value": self.value,
            "against": self.against,
            "where": dict(self.where),
            "pairs": self.pairs,
            "difference": self.difference,
            "low": self.interval.low,
            "high": self.interval.high,
            "verdict": self.word,
        }


def comparisons(result: StudyResult) -> tuple[Comparison, ...]:
    """Every value of a factor that is a choice against its first value, in each setting of the others.

    Seed 7 of one cell draws what seed 7 of the other draws, where the change allows: so they are compared in
    pairs. The intervals are Bonferroni's, because cells share their seeds.

    Args:
        result: a study, finished or not; cells without a finished member are left out.

    Returns:
        In the order of the design; none where every factor is a row of numbers.

    References:
        R. G. Newcombe, 1998, Statistics in Medicine 17:2635-2650, method 10.
        D. J. Schuirmann, 1987, J. Pharmacokinetics and Biopharmaceutics 15:657-680 ("the same").
    """
    pairs = _pairs(result)
    if not pairs:
        return ()
    ended = _ended(result)
    there = [(path, one, other) for path, one, other in pairs if one in ended and other in ended]
    tables = [_table(ended[one], ended[other]) for _, one, other in there]
    shared = [(*pair, table) for pair, table in zip(there, tables, strict=True) if table is not None]
    if not shared:
        return ()
    each = single_confidence(len(shared), method="bonferroni")
    cells = result.design.cells
    return tuple(
        Comparison(
            path,
            cells[other].factors[path],
            cells[one].factors[path],
            {key: value for key, value in cells[one].factors.items() if key != path},
            (table.only_after - table.only_before) / sum(table),
            table.gain(each),
            sum(table),
        )
        for path, one, other, table in shared
    )


def numeric(values: Sequence[Any]) -> bool:
    """Whether a factor's values are numbers, and not choices."""
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _pairs(result: StudyResult) -> list[tuple[str, int, int]]:
    """A factor, the cell with its first value, and one that differs from it in this factor alone."""
    cells, factors = result.design.cells, result.design.study.factors
    places = {_place(cell.factors): cell.number for cell in cells}
    found: list[tuple[str, int, int]] = []
    for path, values in factors.items():
        if numeric(values) and len(values) > FEW:
            continue
        for cell in cells:
            first = places[_place({**cell.factors, path: values[0]})]
            if first != cell.number:
                found.append((path, first, cell.number))
    return found


def _place(factors: Mapping[str, Any]) -> str:
    return repr(sorted(factors.items(), key=lambda item: item[0]))


def _ended(result: StudyResult) -> dict[int, tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Of each cell that has members: their seeds, rising, and which succeeded."""
    if not result.files:
        return {}
    rows = (
        connect()
        .execute(
            "SELECT filename, seed, success FROM read_parquet(?, filename = true) ORDER BY seed",
            [list(result.files)],
        )
        .fetchnumpy()
    )
    paths, which = np.unique(np.asarray(rows["filename"], dtype=str), return_inverse=True)
    numbers = np.array([result.files[str(path)] for path in paths])[which]
    seeds, success = np.asarray(rows["seed"], np.int64), np.asarray(rows["success"], np.bool_)
    return {
        int(number): (seeds[numbers == number], success[numbers == number]) for number in np.unique(numbers)
    }


def _table(
    one: tuple[NDArray[np.int64], NDArray[np.bool_]], other: tuple[NDArray[np.int64], NDArray[np.bool_]]
) -> PairedTable | None:
    """How the seeds that both cells have ended, in the first and in the other; None without such a seed."""
    common, first, second = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    return paired_table(one[1][first], other[1][second]) if common.size else None
