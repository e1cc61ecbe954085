"""What is told of a study, in the terminal and on a page: names, its table, its maps and curves."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from unstuck.report.numbers import NOTHING, count, short
from unstuck.study.file import shown
from unstuck.study.odds import Odds
from unstuck.study.result import CellResult, StudyResult
from unstuck.study.statistics import Count, wilson

MOST_MAPS = 6
"""Maps of one study that are drawn; more are left to JSON."""
_LEFT_OUT = ("train.optimizer.", "train.", "network.", "data.", "study.")


def name(path: str) -> str:
    """A factor's path without what is clear anyway.

    Example:
        >>> name("train.optimizer.lr"), name("network.layers.1.type"), name("init.order")
        ('lr', 'layers.1.type', 'init.order')
    """
    return next((path.removeprefix(begin) for begin in _LEFT_OUT if path.startswith(begin)), path)


def setting(result: StudyResult) -> str:
    """What was trained, how often, and how much of it is there."""
    design = result.design
    section = design.study.settings.study
    there = sum(cell.count.trials for cell in result.cells)
    planned = len(design.cells) * design.seeds
    part = "" if there == planned else f"; {there} of {planned} members are finished"
    cells = count(len(design.cells), "cell")
    return f"{cells} of {count(design.seeds, 'member')}, at most {section.epochs} epochs each{part}"


HEADS = ("p", "95 %", "success", "stuck", "dead", "diverged", "epochs")
"""Columns behind the factors."""
ENDS = "Stuck: finite, but no success; dead: an output or a whole layer inactive on all data; diverged: NaN."
LEGEND = f"p: share of the members that succeed, with Wilson's interval; epochs: median over those. {ENDS}"


def varied(result: StudyResult) -> list[str]:
    """Paths of the factors that take more than one value."""
    return [path for path, values in result.design.study.factors.items() if len(values) > 1]


def row(cell: CellResult, paths: Sequence[str]) -> tuple[str, ...]:
    """A line of the table."""
    interval = wilson(cell.count.successes, cell.count.trials)
    ended = cell.outcomes
    return (
        *(shown(cell.factors[path]) for path in paths),
        f"{cell.count.rate:.3f}",
        f"{interval.low:.3f} to {interval.high:.3f}",
        *(str(ended[word]) if ended[word] else NOTHING for word in ("success", "stuck", "dead", "diverged")),
        NOTHING if cell.median_epochs is None else short(cell.median_epochs, 4),
    )


def maps(result: StudyResult) -> list[Odds]:
    """Success over two factors, for each combination of the others."""
    paths = varied(result)
    if len(paths) < 2:
        return []
    factors = result.design.study.factors
    column = max(paths, key=lambda path: (_numeric(factors[path]), len(factors[path])))
    line = max((path for path in paths if path != column), key=lambda path: len(factors[path]))
    rest = [path for path in paths if path not in {column, line}]
    found: list[Odds] = []
    for values in itertools.product(*(factors[path] for path in rest)):
        fixed = dict(zip(rest, values, strict=True))
        cells = [cell for cell in result.cells if _agrees(cell, fixed)]
        where = ", ".join(f"{name(path)} = {shown(value)}" for path, value in fixed.items())
        found.append(_map(result, (column, line), cells, f"Success where {where}" if where else "Success"))
    return found[:MOST_MAPS]


def _map(result: StudyResult, paths: tuple[str, str], cells: Sequence[CellResult], title: str) -> Odds:
    column, line = paths
    factors = result.design.study.factors
    return Odds(
        title,
        "",
        (name(column), name(line)),
        tuple(shown(value) for value in factors[column]),
        tuple(shown(value) for value in factors[line]),
        {(shown(cell.factors[column]), shown(cell.factors[line])): cell.count for cell in cells},
    )


def curves(result: StudyResult) -> list[tuple[str, Mapping[str, list[tuple[float, Count]]]]]:
    """For each numeric factor, success over it: a curve for each combination of the others."""
    found: list[tuple[str, Mapping[str, list[tuple[float, Count]]]]] = []
    paths = varied(result)
    for path in paths:
        if not _numeric(result.design.study.factors[path]):
            continue
        own: dict[str, list[tuple[float, Count]]] = {}
        for cell in result.cells:
            others = ", ".join(shown(cell.factors[other]) for other in paths if other != path)
            own.setdefault(others or "all", []).append((float(cell.factors[path]), cell.count))
        found.append((name(path), {key: sorted(points, key=lambda p: p[0]) for key, points in own.items()}))
    return found


def ended(result: StudyResult) -> list[tuple[str, Mapping[str, int]]]:
    """How the members of each cell ended."""
    paths = varied(result)
    return [
        (", ".join(shown(cell.factors[path]) for path in paths) or "all", cell.outcomes)
        for cell in result.cells
    ]


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _agrees(cell: CellResult, fixed: Mapping[str, Any]) -> bool:
    return all(cell.factors[path] == value for path, value in fixed.items())
