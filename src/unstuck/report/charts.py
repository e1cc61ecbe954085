"""Charts as inline SVG: a curve of the loss, bars of its shares, steps on a logarithmic axis."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from unstuck.report.numbers import fit, percent, scientific, short
from unstuck.report.words import YARDSTICK
from unstuck.trace.recording import Series

WIDTH = 350
NAMES = 84
"""Room for the layers' names, left of their bars."""
POINTS = 160
"""Points of a drawn curve, at most."""


@dataclass
class Canvas:
    """An SVG that is being drawn; colours come from the page's classes, so that it follows its theme."""

    title: str
    height: int
    parts: list[str] = field(default_factory=list[str])

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """Draw a straight line."""
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """Draw a rectangle."""
        size = f'width="{max(width, 0):.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}/>')

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Write text; whatever it holds is escaped."""
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def path(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """Draw a line through points."""
        told = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{kind}" points="{told}"/>')

    def dot(self, x: float, y: float, kind: str, note: str) -> None:
        """Draw a dot with a note for the pointer."""
        self.parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(note)}</title></circle>'
        )

    def piece(self, x: float, y: float, width: float, height: float, kind: str, note: str) -> None:
        """Draw a rectangle with a note for the pointer."""
        size = f'width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}><title>{escape(note)}</title></rect>'
        )

    def field(self, x: float, y: float, width: float, height: float, share: float, note: str) -> None:
        """Draw a field of a map, the more opaque the larger its share; a frame shows where it is 0."""
        size = f'width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(
            f'<rect class="field" x="{x:.1f}" y="{y:.1f}" {size} fill-opacity="{share:.3f}">'
            f"<title>{escape(note)}</title></rect>"
        )

    def area(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        """Fill a polygon."""
        told = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polygon class="{kind}" points="{told}"/>')

    def svg(self) -> str:
        """The finished drawing."""
        label = escape(self.title, quote=True)
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{label}">'
            f"<title>{escape(self.title)}</title>{''.join(self.parts)}</svg>"
        )


def loss_chart(curve: Series, constant: float) -> str:
    """The loss by update, with the loss of the best constant prediction as a dashed line.

    Args:
        curve: loss by step; values that are not finite interrupt nothing, they are left out.
        constant: NaN leaves the dashed line out.

    Returns:
        SVG; empty when there is nothing to draw.
    """
    points = [(int(s), float(v)) for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)]
    if len(points) < 2:
        return ""
    points = _thinned(points)
    canvas = Canvas("Loss by update, beside that of the best constant prediction", 236)
    left, right, top, bottom = 40, WIDTH - 10, 28, 192
    low = min(0.0, *(value for _, value in points))
    known = [constant] if math.isfinite(constant) else []
    ticks = _ticks(low, max([value for _, value in points] + known))
    last = points[-1][0] or 1

    def x(step: float) -> float:
        return left + (right - left) * step / last

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    for tick in ticks:
        canvas.line(left, y(tick), right, y(tick), "grid")
        canvas.text(left - 6, y(tick) + 4, short(tick), anchor="end")
    for step in (0, last / 2, last):
        anchor = "end" if step == last else "middle" if step else "start"
        canvas.text(x(step), bottom + 17, f"{step:.0f}", anchor=anchor)
    canvas.text((left + right) / 2, bottom + 36, "updates", "axis", "middle")
    canvas.text(4, 13, "loss", "axis")
    canvas.path(((x(step), y(value)) for step, value in points), "curve")
    for value in known:
        canvas.line(left, y(value), right, y(value), "constant")
        below = value > (ticks[0] + ticks[-1]) * 0.85
        canvas.text(
            right - 2,
            y(value) + (15 if below else -6),
            f"constant prediction {short(value)}",
            "strong",
            "end",
        )
    return canvas.svg()


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = -(-len(points) // POINTS)
    return [*points[:-1:stride], points[-1]]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about five of them."""
    if not high > low:
        high = low + 1
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def share_chart(shares: Sequence[tuple[str, float | None]]) -> str:
    """Bars of each layer's share of the change of the loss; those below 0 point to the left.

    Args:
        shares: layer and share of 1; None where it is undefined.

    Returns:
        SVG; empty when no share is defined.
    """
    known = [share for _, share in shares if share is not None and math.isfinite(share)]
    if not known:
        return ""
    canvas = Canvas("Share of the change of the loss by layer", 26 * len(shares) + 40)
    low, high = min(0.0, *known), max(1e-9, *known)
    left, right = NAMES + 8, WIDTH - 66
    zero = left + (right - left) * -low / (high - low)
    for row, (name, share) in enumerate(shares):
        y = 10 + 26 * row
        canvas.text(NAMES, y + 13, fit(name, 12), anchor="end")
        size = (right - left) * abs(share or 0.0) / (high - low) if share in known else 0.0
        canvas.box(zero - size if (share or 0) < 0 else zero, y, size, 18, "bar")
        canvas.text(max(zero, zero + (size if (share or 0) > 0 else 0)) + 6, y + 13, percent(share), "strong")
    canvas.line(zero, 4, zero, 26 * len(shares) + 8, "base")
    canvas.text(
        (left + right) / 2, 26 * len(shares) + 28, "share of the change of the loss", "axis", "middle"
    )
    return canvas.svg()


def step_chart(rows: Sequence[tuple[str, float | None, float | None]], marks: tuple[str, str]) -> str:
    """Relative size of a step by layer on a logarithmic axis, with the yardstick that people quote as a band.

    Args:
        rows: layer, and its ratio of a step to its weights for one or two settings; None where undefined.
        marks: what the two settings are called; the second may be empty.

    Returns:
        SVG; empty when there is no ratio above 0.
    """
    known = [value for _, *values in rows for value in values if value and math.isfinite(value)]
    if not known:
        return ""
    canvas = Canvas("Size of a step relative to the weights by layer", 30 * len(rows) + 78)
    low = math.floor(math.log10(min(*known, *YARDSTICK)))
    high = math.ceil(math.log10(max(*known, max(YARDSTICK) * 1.01)))
    left, right, top = NAMES + 22, WIDTH - 14, 26
    bottom = top + 30 * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * (math.log10(value) - low) / (high - low)

    canvas.box(x(min(YARDSTICK)), top, x(max(YARDSTICK)) - x(min(YARDSTICK)), bottom - top, "band")
    canvas.text((x(min(YARDSTICK)) + x(max(YARDSTICK))) / 2, top - 8, "quoted 1e-4 to 1e-3", "axis", "middle")
    stride = max(1, math.ceil((high - low) / 5))
    for power in range(low, high + 1, stride):
        canvas.line(x(10.0**power), top, x(10.0**power), bottom, "grid")
        canvas.text(x(10.0**power), bottom + 16, f"1e{power}" if power else "1", anchor="middle")
    canvas.text((left + right) / 2, bottom + 36, "change of a step / weights", "axis", "middle")
    for number, (name, *values) in enumerate(rows):
        y = top + 30 * number + 15
        canvas.text(NAMES, y + 4, fit(name, 12), anchor="end")
        canvas.line(left, y, right, y, "grid")
        for kind, mark, value in zip(("first", "second"), marks, values, strict=True):
            if not mark or value is None or not math.isfinite(value):
                continue
            at = x(value) if value > 0 else left - 10
            canvas.dot(at, y, f"dot {kind}", f"{name}, {mark}: {scientific(value)}")
    return canvas.svg()
