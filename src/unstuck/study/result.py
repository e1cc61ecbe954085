"""What a study found: rows of members, and for each cell how many succeeded."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unstuck import wiring
from unstuck.errors import UnstuckError
from unstuck.study.design import Design
from unstuck.study.shard import OUTCOMES
from unstuck.study.statistics import Count, wilson
from unstuck.study.store import Store, stored_study
from unstuck.trace.storage import connect


@dataclass(frozen=True)
class CellResult:
    """How the members of one cell ended."""

    number: int
    """Its place in the design."""
    factors: Mapping[str, Any]
    count: Count
    outcomes: Mapping[str, int]
    """success, stuck, diverged, dead: how many."""
    median_epochs: float | None
    """Over the members that succeeded; None where none did."""

    def to_dict(self) -> dict[str, Any]:
        """The cell as JSON tells it; low and high are Wilson's interval (95 %)."""
        interval = wilson(self.count.successes, self.count.trials)
        return {
            **self.factors,
            "trials": self.count.trials,
            "successes": self.count.successes,
            "p": self.count.rate,
            "low": interval.low,
            "high": interval.high,
            "median_epochs": self.median_epochs,
        }


@dataclass(frozen=True)
class StudyResult:
    """The finished part of a study.

    Args:
        design: its cells.
        store: where its rows are.
        notes: what is worth knowing of how it ran.
    """

    design: Design
    store: Store
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, root: Path) -> "StudyResult":
        """What a folder holds, finished or not.

        Raises:
            UnstuckError: no results of a study.
        """
        design = Design.of(stored_study(root))
        store = Store(root, design)
        return cls(design, store)

    @cached_property
    def files(self) -> dict[str, int]:
        """Paths of finished shards, in the order of the design, and the number of each one's cell."""
        whole = self.store.finished(self.design.shards)
        return {
            str(self.store.path(shard)): shard.cell.number
            for shard in self.design.shards
            if shard.name in whole
        }

    @property
    def finished(self) -> bool:
        """Whether every member is there."""
        return len(self.files) == len(self.design.shards)

    def relation(self) -> Any:
        """All members as a DuckDB relation: factors, seed, success, outcome, epochs, loss, accuracy.

        Raises:
            UnstuckError: nothing is finished yet.
        """
        if not self.files:
            raise UnstuckError(f"{self.store.root}: nothing is finished yet")
        return connect().read_parquet(list(self.files))

    def arrow(self) -> Any:
        """All members as an Arrow table; needs pyarrow."""
        return self.relation().arrow()

    def df(self) -> Any:
        """All members as a pandas data frame; needs pandas."""
        return self.relation().df()

    @cached_property
    def cells(self) -> tuple[CellResult, ...]:
        """Those of which members are finished, in the order of the design."""
        if not self.files:
            return ()
        rows = (
            connect()
            .execute(
                "SELECT filename, outcome, epochs FROM read_parquet(?, filename = true)", [list(self.files)]
            )
            .fetchall()
        )
        ended: dict[int, list[tuple[str, int]]] = {}
        for path, outcome, epochs in rows:
            ended.setdefault(self.files[path], []).append((outcome, epochs))
        return tuple(self._cell(number, ended[number]) for number in sorted(ended))

    def _cell(self, number: int, ended: list[tuple[str, int]]) -> CellResult:
        epochs = [epochs for outcome, epochs in ended if outcome == "success"]
        return CellResult(
            number,
            self.design.cells[number].factors,
            Count(len(epochs), len(ended)),
            {word: sum(outcome == word for outcome, _ in ended) for word in OUTCOMES},
            float(statistics.median(epochs)) if epochs else None,
        )

    def counts(self) -> dict[int, tuple[int, int]]:
        """By the number of a cell: successes and members."""
        return {cell.number: (cell.count.successes, cell.count.trials) for cell in self.cells}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"cells": [cell.to_dict() for cell in self.cells]}

    def __rich__(self) -> Any:
        """As the terminal shows it."""
        return wiring.call("study_rich", self)

    def _repr_html_(self) -> str:
        return wiring.call("study_html", self)
