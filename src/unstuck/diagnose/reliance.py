"""Whether what was learned needs the input: the loss with the inputs, or the targets, of other samples."""

import math
from typing import NamedTuple

import numpy as np

from unstuck.diagnose.bounds import OutcomeBounds
from unstuck.trace.recording import Recording, Series
from unstuck.trace.structure import INPUT

LOOKS = 3
"""Last measurements that must agree."""
ALONE = 5
"""No single one of them may exceed 1 by more than so many times what their mean may."""
RECENT = 0.3
"""Part of the steps after which the last of them must lie: five are made for every factor of ten."""
ROUNDING = 1e-5
"""Change of the answers / their deviation that rounding explains."""
FORCED = 0.9
"""Share of an input's numbers that are the targets of the place before, as a decoder is told them."""
MOVED = 0.9
"""A loss that fell below this part of what it was by then has learned something since."""


class Unneeded(NamedTuple):
    """An input without which the training would have come as far."""

    name: str
    """Of the model's argument; "" for all of them."""
    times: float
    """Loss with that of other samples / loss."""
    step: int
    """Where this was measured last."""
    ignored: bool = False
    """Whether no answer ever depended on its own sample's: something cuts it or makes it one for all."""
    forced: bool = False
    """Whether another input holds the targets of the place before: what is learned without it is grammar."""

    @property
    def excused(self) -> bool:
        """Whether it may say nothing, and a sound network does without it."""
        return bool(self.name) and not self.ignored and not self.forced


def unneeded(trace: Recording, curve: Series, bounds: OutcomeBounds) -> Unneeded | None:
    """An input that the answers make no use of, by what the loss says; None where each one counts.

    A network that writes captions learns words and their order without a look at the picture, and its loss
    falls far below that of any constant answer. With the pictures of other samples it stays the same then.

    Args:
        trace: what was measured.
        curve: the loss over the training.
        bounds: by how much the loss must grow for an input to count.
    """
    names = [name for name in trace.layers("shuffled.loss") if name.startswith(f"{INPUT}.")]
    told = [(name.removeprefix(f"{INPUT}."), trace.series("shuffled.loss", name)) for name in names]
    for name, series in [("", trace.series("dealt.loss")), *told]:
        late = series.values[-LOOKS:]
        if late.size < LOOKS or not np.isfinite(late).all() or series.steps[-1] < RECENT * trace.steps:
            continue
        most = bounds.counts - 1
        if float(np.mean(late)) - 1 > most or float(np.max(late)) - 1 > ALONE * most:
            continue
        if not _moved(curve, int(series.steps[-1])):
            changes = trace.series("shuffled.answer", f"{INPUT}.{name}").values if name else np.empty(0)
            ignored = changes.size >= LOOKS and bool((changes <= ROUNDING).all())
            forced = any((trace.last("forced", one) or 0) >= FORCED for one in trace.layers("forced"))
            return Unneeded(name, float(np.mean(late)), int(series.steps[-1]), ignored, forced)
    return None


def _moved(curve: Series, step: int) -> bool:
    """Whether the loss fell clearly after a step."""
    if curve.values.size < LOOKS:
        return False
    then = float(np.interp(step, curve.steps, curve.values))
    end = float(np.mean(curve.values[-2:]))
    return not math.isfinite(end) or (then > 0 and end < MOVED * then)
