"""The loss of a few members of a study by epoch, as inline SVG."""

import math

import numpy as np

from unstuck.report.charts import WIDTH, Canvas
from unstuck.report.numbers import short
from unstuck.report.study_charts import OUTCOMES
from unstuck.study.trajectories import Trajectories

POINTS = 120
KINDS: dict[str, str] = dict(zip(OUTCOMES, ("third", "second", "fourth", "fourth"), strict=True))


def trajectory_chart(found: Trajectories) -> str:
    """Loss over epochs, both on logarithmic axes: a line for each member, coloured by how it ended.

    Args:
        found: members; losses that are 0 or not finite are left out.

    Returns:
        SVG; empty when there is nothing to draw.
    """
    loss = np.where(np.isfinite(found.loss) & (found.loss > 0), found.loss, np.nan)
    if not np.isfinite(loss).sum(axis=1).max(initial=0) > 1:
        return ""
    epochs = found.epochs + 1.0
    seen = np.isfinite(loss).any(axis=0)
    last = math.log10(epochs[seen][-1])
    low, high = math.log10(np.nanmin(loss)), math.log10(np.nanmax(loss))
    low, high = min(low, math.ceil(high) - 1), max(high, math.floor(low) + 1)  # one power of ten at least
    canvas = Canvas("Loss of a few members by epoch", 256)
    left, right, top, bottom = 44, WIDTH - 12, 28, 192

    def x(epoch: float) -> float:
        return left + (right - left) * math.log10(epoch) / (last or 1)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (math.log10(value) - low) / (high - low)

    powers = range(math.ceil(low), math.floor(high) + 1)
    for power in powers[:: -(-len(powers) // 6)]:
        canvas.line(left, y(10.0**power), right, y(10.0**power), "grid")
        canvas.text(left - 6, y(10.0**power) + 4, short(10.0**power), anchor="end")
    for power in range(int(last) + 1):
        anchor = "start" if power == 0 else "end" if power > last - 0.3 else "middle"
        canvas.text(x(10.0**power), bottom + 17, short(10.0**power), anchor=anchor)
    canvas.text((left + right) / 2, bottom + 36, "epoch", "axis", "middle")
    canvas.text(4, 13, "loss, mean of each epoch", "axis")
    for member, ending in zip(loss, found.outcome, strict=True):
        there = np.flatnonzero(np.isfinite(member))
        if there.size > POINTS:  # evenly as they are drawn, on the logarithmic axis
            ranks = np.unique(np.geomspace(1, there.size, POINTS).astype(int)) - 1
            there = there[ranks]
        points = [(x(float(epochs[column])), y(float(member[column]))) for column in there]
        canvas.path(points, f"curve thin {KINDS[ending]}")
    place = float(left)
    for ending in OUTCOMES:
        if ending in found.outcome:
            canvas.line(place, bottom + 52, place + 16, bottom + 52, f"curve {KINDS[ending]}")
            words = f"{ending} ({found.outcome.count(ending)})"
            canvas.text(place + 20, bottom + 56, words)
            place += 36 + 7.0 * len(words)
    return canvas.svg()
