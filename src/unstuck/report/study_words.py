"""What is told of a study, in the terminal and on a page: names, its table, its maps and curves."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, cast

from unstuck.report.numbers import NOTHING, count, short
from unstuck.study.boundary import Direction, logistic_boundary
from unstuck.study.comparisons import SAME, Comparison, comparisons, numeric
from unstuck.study.file import shown
from unstuck.study.odds import Odds
from unstuck.study.prediction import predicted_limit
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


def told(value: Any) -> str:
    """A factor's value in few characters.

    Example:
        >>> told({"scheme": "uniform", "low": -1.0, "high": 1.0}), told([0.0, 0.5, 1.0]), told(0.5)
        ('uniform low=-1 high=1', '0 0.5 1', '0.5')
    """
    if isinstance(value, Mapping):
        parts = cast("Mapping[str, Any]", value)
        words = [
            told(part) if key in {"scheme", "type"} else f"{key}={told(part)}" for key, part in parts.items()
        ]
        return " ".join(words)
    if isinstance(value, list):
        return " ".join(told(part) for part in cast("list[Any]", value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}"
    return shown(value)


def setting(result: StudyResult) -> str:
    """What was trained, how often, and how much of it is there."""
    design = result.design
    section = design.study.settings.study
    there = sum(cell.count.trials for cell in result.cells)
    planned = len(design.cells) * design.seeds
    part = "" if there == planned else f"; {there} of {planned} members are finished"
    cells = count(len(design.cells), "cell")
    return f"{cells} of {count(design.seeds, 'member')}, at most {section.epochs} epochs each{part}"


FAILURES = ("stuck", "dead", "diverged")
ENDS = "Stuck: finite, but no success; dead: an output or a whole layer inactive on all data; diverged: NaN."
LEGEND = f"p: share of the members that succeed, with Wilson's interval; epochs: median over those. {ENDS}"


def varied(result: StudyResult) -> list[str]:
    """Paths of the factors that take more than one value."""
    return [path for path, values in result.design.study.factors.items() if len(values) > 1]


def heads(result: StudyResult) -> tuple[str, ...]:
    """Heads of the table: the factors, then what was counted. Endings that never occur are left out."""
    return (*map(name, varied(result)), "p", "95 %", *_endings(result), "epochs")


def rows(result: StudyResult) -> list[tuple[str, ...]]:
    """The table, a line for each cell."""
    paths, endings = varied(result), _endings(result)
    return [_row(cell, paths, endings) for cell in result.cells]


def _endings(result: StudyResult) -> list[str]:
    return [word for word in FAILURES if any(cell.outcomes[word] for cell in result.cells)]


def _row(cell: CellResult, paths: Sequence[str], endings: Sequence[str]) -> tuple[str, ...]:
    interval = wilson(cell.count.successes, cell.count.trials)
    return (
        *(told(cell.factors[path]) for path in paths),
        f"{cell.count.rate:.3f}",
        f"{interval.low:.3f} to {interval.high:.3f}",
        *(str(cell.outcomes[word]) if cell.outcomes[word] else NOTHING for word in endings),
        NOTHING if cell.median_epochs is None else short(cell.median_epochs, 4),
    )


def maps(result: StudyResult) -> list[Odds]:
    """Success over two factors, for each combination of the others."""
    paths = varied(result)
    if len(paths) < 2:
        return []
    factors = result.design.study.factors
    column = max(paths, key=lambda path: (numeric(factors[path]), len(factors[path])))
    line = max((path for path in paths if path != column), key=lambda path: len(factors[path]))
    rest = [path for path in paths if path not in {column, line}]
    found: list[Odds] = []
    for values in itertools.product(*(factors[path] for path in rest)):
        fixed = dict(zip(rest, values, strict=True))
        cells = [cell for cell in result.cells if _agrees(cell, fixed)]
        where = ", ".join(f"{name(path)} = {told(value)}" for path, value in fixed.items())
        found.append(_map(result, (column, line), cells, f"Success where {where}" if where else "Success"))
    return found[:MOST_MAPS]


def _map(result: StudyResult, paths: tuple[str, str], cells: Sequence[CellResult], title: str) -> Odds:
    column, line = paths
    factors = result.design.study.factors
    return Odds(
        title,
        "",
        (name(column), name(line)),
        tuple(told(value) for value in factors[column]),
        tuple(told(value) for value in factors[line]),
        {(told(cell.factors[column]), told(cell.factors[line])): cell.count for cell in cells},
    )


def curves(result: StudyResult) -> list[tuple[str, Mapping[str, list[tuple[float, Count]]]]]:
    """For each numeric factor, success over it: a curve for each combination of the others."""
    return [
        (name(path), {key: [(value, cell.count) for value, cell in points] for key, points in along.items()})
        for path, along in _along(result)
    ]


def _along(result: StudyResult) -> list[tuple[str, dict[str, list[tuple[float, CellResult]]]]]:
    """For each numeric factor the cells by its value, apart for each combination of the others."""
    found: list[tuple[str, dict[str, list[tuple[float, CellResult]]]]] = []
    paths = varied(result)
    for path in paths:
        if not numeric(result.design.study.factors[path]):
            continue
        own: dict[str, list[tuple[float, CellResult]]] = {}
        for cell in result.cells:
            others = ", ".join(told(cell.factors[other]) for other in paths if other != path)
            own.setdefault(others or "all", []).append((float(cell.factors[path]), cell))
        found.append((path, {key: sorted(points, key=lambda p: p[0]) for key, points in own.items()}))
    return found


def boundaries(result: StudyResult) -> list[str]:
    """Where half of the members succeed along each numeric factor, where that lies within what was tried."""
    lines: list[str] = []
    for path, along in _along(result):
        for key, points in along.items():
            values, counts = [value for value, _ in points], [cell.count for _, cell in points]
            log = min(values) > 0
            best = max(range(len(points)), key=lambda i: counts[i].rate)
            sides: tuple[tuple[Direction, list[Count]], ...] = (
                ("rising", counts[: best + 1]),
                ("falling", counts[best:]),
            )
            for direction, side in sides:
                if len(points) < 3 or not min(one.rate for one in side) < 0.5 < counts[best].rate:
                    continue
                found = logistic_boundary(values, counts, log=log, direction=direction)
                if found.value is None:
                    continue
                ends = f"{short(found.low)} to {short(found.high)}"
                where = "fewer below" if direction == "rising" else "fewer above"
                if direction == "falling" and path == "train.optimizer.lr":
                    where += _theory(result, points[best][1])
                who = "" if key == "all" else f"{key}: "
                lines.append(f"{who}half succeed at {name(path)} = {short(found.value)} ({ends}), {where}")
    return lines


COMPARED = (
    "Each value against the first of its factor, seed by seed; the intervals hold together at 95 %. "
    f"The same: all of the interval lies within {SAME:g}."
)


_SUCCESS = {
    "more": "more succeed",
    "fewer": "fewer succeed",
    "the same": "no difference that matters",
    "undecided": "undecided, more seeds would tell",
}


def differences(result: StudyResult) -> list[str]:
    """For each value that was compared with the first of its factor, what it does in how many settings."""
    own: dict[tuple[str, str], list[Comparison]] = {}
    for one in comparisons(result):
        key = (one.factor, f"{name(one.factor)}: {told(one.value)} against {told(one.against)}")
        own.setdefault(key, []).append(one)
    return [f"{title}: {_sum_up(all_of_it)}" for (_, title), all_of_it in own.items()]


def _sum_up(found: Sequence[Comparison]) -> str:
    if len(found) == 1:
        return f"{found[0].difference:+.3f} ({_ends(found[0])}): {_SUCCESS[found[0].word]}"
    parts: list[str] = []
    for word in ("more", "fewer", "the same", "undecided"):
        own = [one for one in found if one.word == word]
        if own:
            far = max(own, key=lambda one: abs(one.difference))
            most = f" ({far.difference:+.2f} at most)" if word in {"more", "fewer"} else ""
            succeed = " succeed" if word in {"more", "fewer"} else ""
            parts.append(f"{word}{succeed} in {len(own)}{most}")
    return f"{', '.join(parts)} of {len(found)} settings"


def compared(result: StudyResult) -> list[tuple[str, ...]]:
    """A line for each comparison: factor, values, the other factors, difference, interval, in a word."""
    return [
        (
            name(one.factor),
            f"{told(one.value)} against {told(one.against)}",
            ", ".join(f"{name(path)} {told(one.where[path])}" for path in varied(result) if path in one.where)
            or NOTHING,
            f"{one.difference:+.3f}",
            _ends(one),
            one.word,
        )
        for one in comparisons(result)
    ]


def _ends(one: Comparison) -> str:
    return f"{one.interval.low:+.3f} to {one.interval.high:+.3f}"


def _theory(result: StudyResult, found: CellResult) -> str:
    """The predicted boundary, where there is a prediction."""
    limit = predicted_limit(result.design.cells[found.number])
    return "" if limit is None else f"; theory: unstable above {short(limit, 2)} (2 / λmax at the start)"


def ended(result: StudyResult) -> list[tuple[str, Mapping[str, int]]]:
    """How the members of each cell ended."""
    paths = varied(result)
    return [
        (", ".join(told(cell.factors[path]) for path in paths) or "all", cell.outcomes)
        for cell in result.cells
    ]


def _agrees(cell: CellResult, fixed: Mapping[str, Any]) -> bool:
    return all(cell.factors[path] == value for path, value in fixed.items())
