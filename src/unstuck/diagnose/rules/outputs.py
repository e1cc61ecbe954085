"""Rules on the network's answers."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import output_layer
from unstuck.diagnose.outcome import constant_loss, learning_curve, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.diagnose.reliance import unneeded
from unstuck.diagnose.terms import left_out
from unstuck.trace.recording import Recording, Series
from unstuck.trace.structure import INPUT

_ROUNDING = 1e-6
"""Variation over inputs / mean square below which it is the rounding that varies."""


@rule(
    "OUT010",
    "constant-prediction",
    severity="error",
    needs=("loss", "output_variation"),
    from_step_0=False,
)
def constant_prediction(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The loss rests at that of the best constant answer, and the answer hardly depends on the input."""
    if part := left_out(trace, bounds):
        return [part]
    losses = learning_curve(trace)
    baseline = constant_loss(trace)
    if trace.steps < bounds.outcome.few_steps or losses.values.size < 3:
        raise NotChecked(f"only {trace.steps} updates were seen, too few to say that the loss rests")
    if math.isnan(baseline):
        raise NotChecked("the loss of the best constant answer is not known")
    if not baseline > 0 or outcome(trace, bounds.outcome).word != "not learned":
        return []
    tolerance = _tolerance(trace, baseline, bounds)
    near = np.abs(losses.values / baseline - 1) <= tolerance
    if not near[-1] or not near[losses.steps >= 0.75 * trace.steps].all():
        return _unneeded_input(trace, bounds, losses, baseline)
    varies, classes = trace.last("output_variation"), trace.last("predicted_classes")
    constant = varies is not None and varies <= bounds.output.constant
    if not constant and classes != 1:
        return []
    leaving = _grows(trace, bounds)
    reached = int(losses.steps[_since(near)])
    accuracy, majority = trace.last("accuracy"), trace.first("data.majority")
    words = ""
    if accuracy is not None and majority is not None and math.isfinite(accuracy):
        words = (
            f" It classifies {accuracy:.0%} right; always naming the commonest class gives {majority:.0%}."
        )
    output = output_layer(trace)
    return [
        Finding(
            code="OUT010",
            name="constant-prediction",
            severity="info" if leaving > 0 else "error",
            layer=None if output is None else output.name,
            step=reached,
            confidence=0.95 if constant else 0.8,
            summary=(
                f"Since step {reached} the loss rests at {losses.values[-1]:.4g}; the best constant answer "
                "has "
                f"{baseline:.4g}. The network answers nearly the same whatever the input: the fall of the "
                "loss "
                f"before that was the mean of the targets being learned.{words}"
                + (
                    f" But the answers depend on the input {leaving:.1f} times as much as at first, and more "
                    "and more: it may be under way; train longer before you judge."
                    if leaving > 0
                    else ""
                )
            ),
            evidence=(
                Evidence(
                    "full_loss" if trace.has("full_loss") else "loss",
                    float(losses.values[-1]),
                    "<=",
                    (1 + tolerance) * baseline,
                ),
                Evidence("output_variation", varies, "<=", bounds.output.constant),
            ),
            rival=(
                "Data without signal (DAT008): there outputs do vary with the input and the training loss "
                "falls by "
                "memorising. This finding says that nothing was learned, not why: look at the other findings "
                "first."
            ),
            location=None if output is None else output.location,
        )
    ]


def _unneeded_input(trace: Recording, bounds: Bounds, losses: Series, baseline: float) -> list[Finding]:
    """The loss is that of answers which are the same whatever one input is."""
    spare = unneeded(trace, losses, bounds.outcome)
    if spare is None or not losses.values[-1] < baseline:
        return []
    what = f"the input {spare.name!r}" if spare.name else "its input"
    quantity, row = ("shuffled.loss", f"{INPUT}.{spare.name}") if spare.name else ("dealt.loss", "")
    swapped = f"{spare.name!r} of other samples" if spare.name else "the targets of other samples"
    nothing = " No answer ever depended on that of its own sample." if spare.ignored else ""
    if spare.forced and spare.name:
        nothing += " Another input holds the targets of the place before: it was learned what follows them."
    return [
        Finding(
            code="OUT010",
            name="constant-prediction",
            severity="info" if spare.excused else "error",
            layer=None,
            step=spare.step,
            confidence=0.8,
            summary=(
                f"What was learned does not need {what}: with {swapped} the loss is "
                f"{spare.times:.3g} times as large. It ended at {losses.values[-1]:.4g}, below the best "
                f"constant answer's {baseline:.4g}, by what can be said without it.{nothing}"
            ),
            evidence=(Evidence(quantity, spare.times, "<=", bounds.outcome.counts, row or None),),
            rival=(
                f"An input that says nothing about the targets leaves the loss as it is, too: then "
                f"{what} is of no use to any network."
            ),
        )
    ]


def _grows(trace: Recording, bounds: Bounds) -> float:
    """How many times as much as at first the answers depend on the input, if that clearly grows; else 0.

    A sound network leaves the plateau of the constant answer as an exponential does: at first nothing is seen
    in the loss, but the share of the answers that depends on the input grows steadily (Saxe et al., 2014).
    """
    values = trace.series("output_variation").values
    values = values[np.isfinite(values)]
    if values.size < 8:
        return 0.0
    early, late = float(np.median(values[: values.size // 2])), float(np.min(values[-2:]))
    top = max(float(np.max(values[: values.size // 2])), _ROUNDING)
    factor = float(values[-1]) / early if early > 0 else 0.0
    return factor if late > top and factor >= bounds.output.leaves else 0.0


def _tolerance(trace: Recording, baseline: float, bounds: Bounds) -> float:
    """How near the constant answer's loss counts as there; more for the means of noisy batches.

    Two standard errors of a mean over a twentieth of the steps, the length of a stretch of `learning_curve`.
    """
    if trace.has("full_loss"):
        return bounds.output.rests
    values = trace.series("loss").values
    late = values[3 * values.size // 4 :]
    error = float(np.std(late)) / math.sqrt(max(values.size / 20, 1.0)) / baseline
    return min(max(bounds.output.rests, 2 * error), 3 * bounds.output.rests)


def _since(near: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    """First index from which on all are true; the last must be."""
    away = np.flatnonzero(~near)
    return int(away[-1]) + 1 if away.size else 0
