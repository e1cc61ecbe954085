"""What other packages say of labelled trainings, counted as what ours says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from labelled import Label
from measure import share

ROWS = (
    "alarm on a healthy training",
    "the fault is named first",
    "... among the first three",
    "it is noticed",
)


@dataclass(frozen=True)
class Said:
    """What one package says of one training: causes that each of its alarms can mean, in its order."""

    label: Label
    causes: Sequence[Collection[str]]

    @property
    def rank(self) -> int:
        """Place of the first that can be read to name the fault, from 1; 0: none."""
        return next((i for i, one in enumerate(self.causes, 1) if set(one) & set(self.label.codes)), 0)


def table(corner: str, told: Mapping[str, Sequence[Said]]) -> list[str]:
    """Lines of a table: false alarms, named first, among three, noticed.

    Args:
        corner: its first cell.
        told: by the heading of its column.
    """
    columns = [_column(found) for found in told.values()]
    return [
        f"| {corner} | {' | '.join(told)} |",
        "|---|" + "---|" * len(told),
        *(f"| {row} | {' | '.join(cells)} |" for row, *cells in zip(ROWS, *columns, strict=True)),
    ]


def _column(found: Sequence[Said]) -> list[str]:
    healthy = [one for one in found if one.label.truth == "healthy"]
    harmed = [one for one in found if one.label.truth == "harmed"]
    return [
        share(sum(bool(one.causes) and not one.rank for one in healthy), len(healthy)),
        share(sum(one.rank == 1 for one in harmed), len(harmed)),
        share(sum(1 <= one.rank <= 3 for one in harmed), len(harmed)),
        share(sum(bool(one.causes) for one in harmed), len(harmed)),
    ]
