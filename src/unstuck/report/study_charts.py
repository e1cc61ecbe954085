"""Charts of a study as inline SVG: a map over two factors, curves over one, and how the members ended."""

import math
from collections.abc import Mapping, Sequence

from unstuck.report.charts import WIDTH, Canvas
from unstuck.report.numbers import count, fit, short
from unstuck.study.odds import Odds
from unstuck.study.statistics import Count, wilson

OUTCOMES = ("success", "stuck", "dead", "diverged")
"""How a member may end, in the order of the bars."""
KINDS = ("first", "second", "third", "fourth")
"""Classes of the page for several curves; more are not drawn."""
DECADES = 0.9
"""A factor whose values span so many powers of ten gets a logarithmic axis."""

Curve = Sequence[tuple[float, Count]]


def rate(counted: Count) -> str:
    """A success rate with two decimals, without the 0 before the point.

    Example:
        >>> rate(Count(11, 20)), rate(Count(20, 20)), rate(Count(0, 20)), rate(Count(1, 1000))
        ('.55', '1', '0', '.00')
    """
    if counted.successes in {0, counted.trials}:
        return str(counted.successes // counted.trials)
    return f"{min(counted.rate, 0.99):.2f}".removeprefix("0")


def phase_diagram(odds: Odds) -> str:
    """Success by two factors: the darker a field, the more members succeeded.

    Args:
        odds: fields that are missing stay empty.

    Returns:
        SVG; empty when there is nothing to draw.
    """
    names, columns, rows, counts = odds.names, odds.columns, odds.rows, odds.counts
    if not counts:
        return ""
    chars = min(max(map(len, (names[1], *rows))), 20)
    left, height = 14 + 6.8 * chars, 30
    wide = (WIDTH - left - 20) / len(columns)
    stride = math.ceil(30 / wide)  # where fields are narrow, not every one can be named
    named = {number: column for number, column in enumerate(columns) if number % stride == 0}
    room = max(int(wide * stride / 7), 3)
    lines = 2 if max(map(len, named.values())) > room else 1  # long names take turns on two lines
    top = 30 + 14 * lines
    canvas = Canvas(f"Success by {names[0]} and {names[1]}", top + height * len(rows) + 8)
    canvas.text(left, 14, fit(names[0], 36), "axis")
    canvas.text(left - 8, top - 10, fit(names[1], chars), "axis", "end")
    for place, (number, column) in enumerate(named.items()):
        y = top - 10 - 14 * (place % 2 == 0) * (lines - 1)
        canvas.text(left + wide * (number + 0.5), y, fit(column, room * lines), anchor="middle")
    for line, row in enumerate(rows):
        y = top + height * line
        canvas.text(left - 8, y + height / 2 + 5, fit(row, chars), anchor="end")
        for number, column in enumerate(columns):
            counted = counts.get((column, row))
            if counted is None:
                continue
            interval = wilson(counted.successes, counted.trials)
            note = (
                f"{names[0]} {column}, {names[1]} {row}: {counted.successes} of {counted.trials}, "
                f"{interval.low:.3f} to {interval.high:.3f}"
            )
            x = left + wide * number
            canvas.field(x, y, wide - 2, height - 2, counted.rate, note)
            if wide >= 26:
                kind = "on" if counted.rate > 0.5 else "strong"
                canvas.text(x + wide / 2 - 1, y + height / 2 + 4, rate(counted), kind, "middle")
    return canvas.svg()


def success_chart(factor: str, curves: Mapping[str, Curve]) -> str:
    """Success over a numeric factor, each curve with the band of its 95 % intervals.

    Args:
        factor: its name.
        curves: by what they are called, points by rising value of the factor; four of them at most.

    Returns:
        SVG; empty when no curve has two points.
    """
    drawn = {name: list(curve) for name, curve in curves.items() if len(curve) > 1}
    if not drawn or len(drawn) > len(KINDS):
        return ""
    values = sorted({value for curve in drawn.values() for value, _ in curve})
    logarithmic = values[0] > 0 and math.log10(values[-1] / values[0]) >= DECADES
    scale = math.log10 if logarithmic else float
    low, high = scale(values[0]), scale(values[-1])
    left, right, top, bottom = 40, WIDTH - 14, 28, 192
    legend = len(drawn) > 1
    canvas = Canvas(f"Success by {factor}", 240 + 18 * len(drawn) * legend)

    def x(value: float) -> float:
        return left + (right - left) * (scale(value) - low) / (high - low)

    def y(share: float) -> float:
        return bottom - (bottom - top) * share

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        canvas.line(left, y(share), right, y(share), "grid")
        canvas.text(left - 6, y(share) + 4, f"{share:g}", anchor="end")
    before = -math.inf
    for value in values:
        if x(value) - before > 34:
            before = x(value)
            canvas.text(before, bottom + 17, short(value, 2), anchor="middle")
    canvas.text((left + right) / 2, bottom + 38, fit(factor, 36), "axis", "middle")
    canvas.text(4, 13, "share of the members that succeed", "axis")
    for number, (kind, (name, curve)) in enumerate(zip(KINDS, drawn.items(), strict=False)):
        intervals = [(value, wilson(one.successes, one.trials)) for value, one in curve]
        above = [(x(value), y(interval.high)) for value, interval in intervals]
        below = [(x(value), y(interval.low)) for value, interval in reversed(intervals)]
        canvas.area([*above, *below], f"region {kind}")
        canvas.path([(x(value), y(one.rate)) for value, one in curve], f"curve {kind}")
        for value, one in curve:
            note = f"{name}, {factor} {short(value)}: {one.successes} of {one.trials}"
            canvas.dot(x(value), y(one.rate), f"dot solid {kind}", note)
        if legend:
            line = bottom + 56 + 18 * number
            canvas.line(left, line - 4, left + 22, line - 4, f"curve {kind}")
            canvas.text(left + 28, line, fit(name, 40), "strong")
    return canvas.svg()


def outcome_chart(rows: Sequence[tuple[str, Mapping[str, int]]]) -> str:
    """How the members of each cell ended, as parts of a bar.

    Args:
        rows: name of a cell, and how many members ended how (see `OUTCOMES`).

    Returns:
        SVG; empty without rows.
    """
    if not rows:
        return ""
    left, right, height = 128, WIDTH - 8, 24
    canvas = Canvas("How the members ended", height * len(rows) + 34)
    for line, (name, ended) in enumerate(rows):
        y, total, x = 4 + height * line, sum(ended.values()), float(left)
        canvas.text(left - 8, y + 14, fit(name, 18), anchor="end")
        for outcome in OUTCOMES:
            share = ended.get(outcome, 0) / total if total else 0.0
            if share > 0:
                note = f"{name}: {outcome} {ended[outcome]} of {count(total, 'member')}"
                canvas.piece(x, y, (right - left) * share, height - 6, f"outcome {outcome}", note)
                x += (right - left) * share
    x = 8.0
    for outcome in OUTCOMES:
        y = height * len(rows) + 12
        canvas.box(x, y, 10, 10, f"outcome {outcome}")
        canvas.text(x + 14, y + 10, outcome)
        x += 30 + 7.0 * len(outcome)
    return canvas.svg()
