"""Does it learn? The loss at the end against that of the best constant prediction, or the user's own goal."""

import math
import re
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from unstuck.diagnose.begun import got_no_further
from unstuck.diagnose.bounds import OutcomeBounds
from unstuck.diagnose.reliance import Unneeded, unneeded
from unstuck.diagnose.singles import of_singles
from unstuck.trace.recording import Recording, Series

Word = Literal["learned", "not learned", "diverged", "unknown"]

_CONSTANT = 1e-12
"""Variance over inputs / mean square that rounding explains."""
_TRIED = 3
"""Measured steps at which a constant answer must have been found."""
_PAIRS, _STUDENT = 5, 4.6
"""Batches that are compared, and Student's 99.5 % for so many."""
_GOAL = re.compile(r"([a-z_]+)\s*(<=|>=|<|>)\s*([-+0-9.eE]+)")


class Outcome(msgspec.Struct, frozen=True):
    """How a training ended, as far as its trace tells. Losses are NaN where they were not measured."""

    word: Word
    start: float = math.nan
    final: float = math.nan
    baseline: float = math.nan
    because: str = ""
    """What leads to the word, in a sentence."""
    spare: str = ""
    """The input that answers depend on and are no better for, if that alone makes it "not learned"."""

    @property
    def fraction(self) -> float:
        """Final loss / loss of the best constant prediction; NaN when undefined."""
        return self.final / self.baseline if self.baseline > 0 else math.nan


def outcome(trace: Recording, bounds: OutcomeBounds) -> Outcome:
    """Judge a training by its loss, never by the fall of the loss alone.

    Falling to the loss of the best constant prediction is not learning: with squared error a network that
    only learns the classes' frequencies loses two thirds of its loss that way.

    Args:
        trace: what was measured.
        bounds: when a loss counts as clearly below the constant prediction's.

    Returns:
        The word and the losses that gave it. "unknown" when there is no loss, no constant prediction to
        compare with, or too few updates to expect anything.
    """
    start, final = _losses(trace)
    baseline = constant_loss(trace)
    word, because = _judge(trace, Outcome("unknown", start, final, baseline), bounds)
    ended = Outcome(word, start, final, baseline, because)
    spare = _spare(trace, ended, bounds)
    if spare is None:
        return ended
    whose = f"the {spare.name} of other samples" if spare.name else "other samples"
    because = f"{because}, and with {whose} it would be the same"
    return Outcome("not learned", start, final, baseline, because, spare.name if spare.excused else "")


def excused(ended: Outcome) -> Outcome:
    """The same, if no fault was found that keeps an input from being used: it may say nothing.

    Noise that is drawn anew, features that are of no use: a sound network learns without them all there is.
    """
    return msgspec.structs.replace(ended, word="learned") if ended.spare else ended


def unproven(trace: Recording, ended: Outcome, bounds: OutcomeBounds) -> bool:
    """Whether enough was seen to expect something, and yet nobody can say whether it learned.

    Two networks against each other, a loss made of several terms: what may be a fault is then worth knowing
    only, since no harm was measured.
    """
    return ended.word == "unknown" and trace.steps >= bounds.few_steps


def stands_still(trace: Recording, ended: Outcome, gain: float) -> bool:
    """Whether the loss is of unknown kind and ended where it began.

    Args:
        trace: what was measured.
        ended: its outcome.
        gain: change, as part of the first loss, from which on it moved.
    """
    if ended.word != "unknown" or not math.isnan(ended.baseline):
        return False
    curve = learning_curve(trace).values
    return curve.size >= 4 and bool(
        abs(float(np.mean(curve[-2:]) - np.mean(curve[:2]))) <= gain * abs(float(curve[0]))
    )


def classifies(trace: Recording, least: float) -> bool:
    """Whether classes are told apart although the loss may not show it: a few sure mistakes cost any amount.

    Args:
        trace: what was measured.
        least: part of what there is to gain over naming the commonest class, that must be gained late.

    Returns:
        True if the batches of the last third show it by three standard errors.
    """
    right, facts = trace.series("accuracy").values, trace.structure.loss_facts
    late, majority = right[-(right.size // 3) :], trace.first("data.majority")
    if late.size < _TRIED or majority is None or facts is None or not facts.input_shape:
        return False
    samples = late.size * max(facts.input_shape[0], 1)
    bound = majority + least * (1 - majority)
    return float(np.mean(late)) - 3 * math.sqrt(0.25 / samples) > bound


def falls_short(ended: Outcome, bounds: OutcomeBounds) -> bool:
    """Whether much is left to learn: not learned, diverged, or hardly better than the best constant."""
    return ended.word in {"not learned", "diverged"} or (
        ended.word == "learned" and ended.fraction > bounds.well_learned
    )


def _judge(trace: Recording, ended: Outcome, bounds: OutcomeBounds) -> tuple[Word, str]:  # noqa: C901, PLR0911  (one return for each way to end)
    final, baseline = ended.final, ended.baseline
    if bounds.failed and not _diverged(trace, ended, bounds):
        return "not learned", "another fault keeps it from learning"
    met = _goal_met(trace)
    compared = f"the loss ended at {final:.3g}, the best constant prediction has {baseline:.3g}"
    if _diverged(trace, ended, bounds):
        return "diverged", f"the loss ended at {final:.3g}"
    if met is not None:
        return "learned", f"the goal {met} was met"
    if _GOAL.search(trace.meta.goal or "") and not math.isnan(final):
        return "not learned", f"the goal {trace.meta.goal} was missed: the loss ended at {final:.3g}"
    if math.isnan(final):
        return "unknown", "no loss was measured"
    if math.isnan(baseline):
        return _by_part(trace, ended, bounds)
    tried = _tried(trace)
    # otherwise computed there, from losses that are never negative
    if baseline < 0 and trace.meta.kind == "torch" and not tried.size:
        return "unknown", f"the loss was multiplied by a negative number: {compared}"
    least = (1 - bounds.learned) * abs(baseline)
    if _too_few_singles(trace, final, baseline, least):
        return "unknown", f"{compared}, as far as single samples show: too few to tell"
    clearly = final - baseline < -max(least, _noise(trace, tried))
    if clearly or (tried.size and (_paired(trace, least) or _below_all(trace, tried, bounds))):
        if _constant_answer(trace) and trace.steps >= bounds.few_steps:
            return "not learned", f"{compared}, and the answer is the same whatever the input"
        if got_no_further(trace, _constants(trace), bounds):
            return "not learned", f"{compared}, but that is where it began: nothing was learned since"
        return "learned", compared
    if trace.meta.examined:
        return "unknown", f"{compared} after {trace.steps} updates on one batch: too few to tell"
    return (
        ("unknown", f"only {trace.steps} updates were seen")
        if trace.steps < bounds.few_steps
        else (
            "not learned",
            compared,
        )
    )


def _spare(trace: Recording, ended: Outcome, bounds: OutcomeBounds) -> Unneeded | None:
    """An input that what was learned does not need, where something is left to learn and no goal was met."""
    if ended.word != "learned" or _goal_met(trace) is not None or trace.steps < bounds.few_steps:
        return None
    if not ended.final > bounds.solved * ended.baseline:
        return None
    return unneeded(trace, learning_curve(trace), bounds)


def _too_few_singles(trace: Recording, final: float, baseline: float, least: float) -> bool:
    """Whether a loss seems to be below the constant's, which is known from too few single samples."""
    if trace.has("full_loss") or not trace.has("loss_factor"):
        return False
    single = of_singles(trace)
    return single is not None and baseline - 3 * single.error <= final < baseline - least


def part_loss(trace: Recording) -> float:
    """The best constant answer's loss in the known term of a sum; NaN where there is no such sum."""
    values = trace.series("part_baseline").values
    return float(np.median(values)) if values.size else math.nan


def _by_part(trace: Recording, ended: Outcome, bounds: OutcomeBounds) -> tuple[Word, str]:
    """Without a best constant prediction: a sum of a known loss and of terms that are not known may tell.

    Below what a constant answer has in the known term alone, something was learned. Where the whole sum never
    fell below its start, nothing was: at the start no answer depends on its input much.
    """
    part, curve = part_loss(trace), learning_curve(trace).values
    missing = "the best constant prediction is not known"
    if not part > 0 or curve.size < 4 or trace.steps < bounds.few_steps or trace.meta.examined:
        return "unknown", missing
    start, end = float(np.mean(curve[:2])), float(np.mean(curve[-2:]))
    if ended.final < bounds.learned * part and end < start:
        return "learned", (
            f"the loss ended at {ended.final:.3g}, the best constant prediction has {part:.3g} in one of its "
            "terms alone"
        )
    if start > 0 and end > bounds.exploded * start:
        return "diverged", f"the loss ended at {end:.3g}"
    if start > 0 and (end > bounds.stays * start or end > ended.start / bounds.well_learned):
        return "not learned", f"the loss ended at {end:.3g}, it began with {ended.start:.3g}"
    return "unknown", missing


def _constant_answer(trace: Recording) -> bool:
    """Whether the answer was the same for all inputs at the last three measured steps.

    No such answer is better than the best of its kind: that it seems so is the noise of single batches.
    """
    varies = trace.series("output_variation").values[-3:]
    return varies.size == 3 and bool((varies <= _CONSTANT).all())


def constant_loss(trace: Recording) -> float:
    """Loss of the best constant prediction; NaN when it was not measured.

    Own training loops measure it batch by batch, hence the median; on batches of one sample a constant is
    always right, and its loss of 0 says nothing: there the targets of many steps tell. A constant fitted to
    N samples of a batch does better there than on all data, by (C-1)/2N for the entropy of C classes (Miller,
    1955) and by 1/N of the variance: that is added where the batch is known.
    """
    values = trace.series("baseline_loss").values
    if not values.size:
        tried = _tried(trace)
        return float(np.median(tried)) if tried.size else math.nan
    median = float(np.median(values))
    facts = trace.structure.loss_facts
    if median == 0:
        single = of_singles(trace)
        return single.loss if single is not None else math.nan
    if math.isnan(median):
        return math.nan
    if trace.has("full_loss") or facts is None or len(facts.input_shape) != 2 or facts.input_shape[0] < 2:
        return median
    batch, outputs = facts.input_shape
    if trace.structure.loss in {"CrossEntropyLoss", "NLLLoss"}:
        return max(median, min(median + (outputs - 1) / (2 * batch), math.log(max(outputs, 2))))
    return median * batch / (batch - 1) if trace.structure.loss == "MSELoss" else median


def _constants(trace: Recording) -> Series:
    """Losses of the best constant answer, wherever they are from."""
    known = trace.series("baseline_loss")
    return known if known.values.size else trace.series("constant_loss")


def _tried(trace: Recording) -> npt.NDArray[np.float64]:
    """Losses of the best constant answer where it had to be found by trying; empty where it is known.

    Of the later half of the steps: such a loss may change its weights on the way.
    """
    if trace.series("baseline_loss").values.size:
        return np.zeros(0)
    values = trace.series("constant_loss").values
    values = values[np.isfinite(values)]
    return values[values.size // 2 :] if values.size >= _TRIED else np.zeros(0)


def _noise(trace: Recording, tried: npt.NDArray[np.float64]) -> float:
    """How far the end must lie below what trying found: three standard errors of both."""
    tail = _late(trace)
    if not tried.size or not tail.size:
        return 0.0
    error = float(np.var(tail)) / tail.size + 1.57 * float(np.var(tried)) / tried.size  # 1.57: of a median
    return 3 * math.sqrt(error) if math.isfinite(error) else 0.0


def _paired(trace: Recording, least: float) -> bool:
    """Whether the last measured batches were each clearly below the constant that is best for that batch.

    Batches differ from each other, by outliers for instance; the two losses of one batch differ less.
    """
    constants, losses = trace.series("constant_loss"), trace.series("loss")
    own = dict(zip(losses.steps.tolist(), losses.values.tolist(), strict=True))
    apart = np.array(
        [
            own[step] - value
            for step, value in zip(constants.steps.tolist(), constants.values.tolist(), strict=True)
            if step in own
        ]
    )[-_PAIRS:]
    if apart.size < _PAIRS or not np.isfinite(apart).all():
        return False
    error = float(np.std(apart, ddof=1)) / math.sqrt(apart.size)
    return float(np.mean(apart)) < -max(least, _STUDENT * error)


def _below_all(trace: Recording, tried: npt.NDArray[np.float64], bounds: OutcomeBounds) -> bool:
    """Whether the end lies clearly below every constant that was found late.

    What they scatter by may be drift: an agent's returns grow, and their best constant's loss with them.
    """
    tail = _late(trace)
    if tried.size < _PAIRS or tail.size < _PAIRS:
        return False
    most = float(np.mean(tail)) + 3 * float(np.std(tail, ddof=1)) / math.sqrt(tail.size)
    lowest = float(np.min(tried))
    return most < lowest - (1 - bounds.learned) * abs(lowest)


def learning_curve(trace: Recording) -> Series:
    """The loss over the fixed sample; where there is none, means of twenty stretches of batch losses."""
    full = trace.series("full_loss")
    if full.values.size:
        return full
    batches = trace.series("loss")
    stretches = np.array_split(np.arange(batches.values.size), min(20, max(1, batches.values.size)))
    ends = np.array([stretch[-1] for stretch in stretches if stretch.size], dtype=np.int64)
    means = np.array([float(np.mean(batches.values[stretch])) for stretch in stretches if stretch.size])
    return Series(batches.steps[ends], means)


def _losses(trace: Recording) -> tuple[float, float]:
    """Start and end: over the fixed sample where it was measured, else over the last tenth of the batches."""
    full = trace.series("full_loss").values
    if full.size:
        return float(full[0]), float(full[-1])
    batches = trace.series("loss").values
    if not batches.size:
        return math.nan, math.nan
    return float(batches[0]), float(np.mean(_late(trace)))


def _late(trace: Recording) -> npt.NDArray[np.float64]:
    """Losses of the last tenth of the batches."""
    batches = trace.series("loss").values
    return batches[-max(1, batches.size // 10) :]


def _diverged(trace: Recording, ended: Outcome, bounds: OutcomeBounds) -> bool:
    batches = trace.series("loss").values
    if batches.size and not math.isfinite(batches[-1]):
        return True
    if not trace.series("full_loss").values.size and not batches.size:
        return False
    if not math.isfinite(ended.final):
        return True
    # A loss of unknown kind may grow for good reasons: two networks against each other, a term faded in. Only
    # one with a known constant answer is judged by its size, or one that somebody's own loop logged.
    if not math.isfinite(ended.baseline) and trace.meta.kind in {"torch", "keras"}:
        return False
    # a constant target has a baseline of 0, and then nothing can be a multiple of it
    reference = max(abs(ended.start), abs(ended.baseline) if math.isfinite(ended.baseline) else 0.0)
    return reference > 0 and ended.final > bounds.exploded * reference


def _goal_met(trace: Recording) -> str | None:
    """The user's goal if every part of it holds at the end, else None."""
    goal = trace.meta.goal or ""
    parts = _GOAL.findall(goal)
    for quantity, relation, bound in parts:
        value = _goal_value(trace, quantity)
        below = value < float(bound) or (relation == "<=" and value == float(bound))
        above = value > float(bound) or (relation == ">=" and value == float(bound))
        if math.isnan(value) or not (below if relation.startswith("<") else above):
            return None
    return goal if parts else None


def _goal_value(trace: Recording, quantity: str) -> float:
    if quantity == "loss":
        return _losses(trace)[1]
    return _number(trace.last(quantity)) if quantity == "accuracy" else math.nan


def _number(value: float | None) -> float:
    return math.nan if value is None else value
