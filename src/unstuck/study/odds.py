"""How often trainings succeed, by two factors: what a map shows."""

from collections.abc import Mapping
from dataclasses import dataclass

from unstuck.study.statistics import Count


@dataclass(frozen=True)
class Odds:
    """How often a training succeeds, by two factors."""

    title: str
    about: str
    """What it shows, in a sentence or two."""
    names: tuple[str, str]
    """Of the factor along the columns and of that along the rows."""
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    counts: Mapping[tuple[str, str], Count]
    """By (column, row)."""
