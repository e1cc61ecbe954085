"""Charts of a trial: how often each arm succeeds, and where each of its runs ended."""

import math
from collections.abc import Callable, Mapping, Sequence

from unstuck.prove.subject import Runs
from unstuck.report.charts import WIDTH, Canvas
from unstuck.report.numbers import fit, short
from unstuck.study.statistics import wilson

LEFT, ROW = 152, 26
KINDS = {"proved": "third", "harmful": "fourth"}


def arms_chart(arms: Mapping[str, Runs], verdicts: Mapping[str, str]) -> str:
    """Share of the runs that succeed, with 95 % intervals, one line an arm.

    Args:
        arms: by name, in the order in which they are drawn.
        verdicts: of those that have one, by the same names.

    Returns:
        SVG; empty without runs.
    """
    arms = {name: runs for name, runs in arms.items() if len(runs)}
    if not arms:
        return ""
    canvas = Canvas("Share of the runs that succeed, by arm", ROW * len(arms) + 62)
    left, right, top = LEFT, WIDTH - 48, 8
    bottom = top + ROW * len(arms)

    def x(share: float) -> float:
        return left + (right - left) * share

    for share in (0.0, 0.5, 1.0):
        canvas.line(x(share), top, x(share), bottom, "grid")
        canvas.text(x(share), bottom + 17, f"{100 * share:.0f} %", anchor="middle")
    for number, (name, runs) in enumerate(arms.items()):
        y = top + ROW * number + ROW / 2
        interval = wilson(runs.successes, len(runs))
        told = f"{runs.successes}/{len(runs)}"
        canvas.text(left - 10, y + 4, fit(name, 18), anchor="end")
        kind = KINDS.get(verdicts.get(name, ""), "first")
        canvas.line(x(interval.low), y, x(interval.high), y, f"curve {kind}")
        note = f"{name}: {told} succeed, 95 % interval {interval.low:.0%} to {interval.high:.0%}"
        canvas.dot(x(runs.successes / len(runs)), y, f"dot solid {kind}", note)
        canvas.text(right + 10, y + 4, told, "strong")
    canvas.text((left + right) / 2, bottom + 38, "runs that succeed, 95 % interval", "axis", "middle")
    return canvas.svg()


def runs_chart(arms: Mapping[str, Runs], bound: float | None = None) -> str:
    """The loss with which every run ended, one line an arm.

    Args:
        arms: by name.
        bound: of the loss in the criterion; None where it is about something else.

    Returns:
        SVG; empty where no run ended with a number.
    """
    arms = {name: runs for name, runs in arms.items() if len(runs)}
    ended = [float(loss) for runs in arms.values() for loss in runs.loss if math.isfinite(loss)]
    if not ended:
        return ""
    known = [*ended, *([] if bound is None else [bound])]
    low, high = min(known), max(known)
    log = low > 0 and high > 20 * low
    scale = math.log10 if log else float
    low, high = scale(low), scale(high)
    margin = 0.04 * (high - low) or 0.5
    low, high = low - margin, high + margin
    canvas = Canvas("Loss with which each run ended, by arm", ROW * len(arms) + 62)
    left, right, top = LEFT, WIDTH - 48, 8
    bottom = top + ROW * len(arms)

    def x(value: float) -> float:
        return left + (right - left) * (scale(value) - low) / (high - low)

    for place in (0.0, 0.5, 1.0):
        at = low + margin + (high - low - 2 * margin) * place
        value = 10.0**at if log else at
        canvas.line(x(value), top, x(value), bottom, "grid")
        canvas.text(x(value), bottom + 17, short(value, 2), anchor="end" if place == 1 else "middle")
    for number, (name, runs) in enumerate(arms.items()):
        y = top + ROW * number + ROW / 2
        canvas.text(left - 10, y + 4, fit(name, 18), anchor="end")
        _ends(canvas, name, runs, y, lambda loss: x(loss) if math.isfinite(loss) else right + 14)
    if any(not math.isfinite(loss) for runs in arms.values() for loss in runs.loss):
        canvas.text(right + 2, bottom + 17, "none")
    if bound is not None:
        canvas.line(x(bound), top - 4, x(bound), bottom, "constant")
    axis = f"loss at the end{', logarithmic' if log else ''}"
    canvas.text((left + right) / 2, bottom + 38, axis, "axis", "middle")
    return canvas.svg()


def _ends(canvas: Canvas, name: str, runs: Runs, y: float, x: Callable[[float], float]) -> None:
    columns: Sequence[tuple[float, bool]] = list(zip(runs.loss.tolist(), runs.success.tolist(), strict=True))
    for run, (loss, success) in enumerate(columns, 1):
        told = f"{short(loss)}, success" if success else short(loss) if math.isfinite(loss) else "no number"
        spread = ((run % 3) - 1) * 4  # runs that ended alike do not hide each other
        canvas.dot(
            x(loss), y + spread, "dot first" if success else "dot second", f"{name}, run {run}: {told}"
        )
