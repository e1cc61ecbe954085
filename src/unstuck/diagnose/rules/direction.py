"""Rules on where a training is driven: away from its goal, or towards targets of another size."""

import math
from typing import Final

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.byhand import driven_down
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import output_layer, typical
from unstuck.diagnose.outcome import constant_loss, falls_short, learning_curve, outcome, part_loss
from unstuck.diagnose.paths import classes, loss_name
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.diagnose.terms import maximised
from unstuck.trace.recording import Recording

_NEVER_NEGATIVE: Final = frozenset(
    {"CrossEntropyLoss", "MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss", "BCELoss"}
)
"""Losses that are 0 or more, whatever the answers (binary cross entropy: for targets in 0..1)."""
_SHARE: Final = 0.1
"""What minus a loss has for a constant answer / at the start."""
_DISTANCES: Final = frozenset({"MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss"})


@rule(
    "OUT009",
    "flipped-sign",
    severity="error",
    needs=("loss",),
    explains={
        "LRN007": "any",
        "LRN001": "any",
        "LRN002": "any",
        "GRD002": "any",
        "GRD003": "any",
        "GRD004": "any",
        "ACT002": "any",
        "ACT003": "any",
        "ACT005": "any",
        "OUT010": "any",
    },
    from_step_0=False,
    preview=False,
)
def flipped_sign(trace: Recording, bounds: Bounds) -> list[Finding]:  # noqa: PLR0911  (one for each way to stay silent)
    """The loss is driven the wrong way: it is maximised, or its sign was flipped before the backward pass."""
    if part := maximised(trace, bounds):
        return [part]
    loss = loss_name(trace)
    losses = trace.series("loss").values
    finite = losses[np.isfinite(losses)]
    if finite.size < 3 and not (finite.size and _minus_one(trace)):
        raise NotChecked("it needs three finite losses at least")
    if trace.has("constant_falls") and not trace.has("baseline_loss"):
        return _bottomless(trace, bounds) or _minus_forgotten(trace)
    if not loss:
        raise NotChecked("it is not known which loss was used")
    if loss not in _NEVER_NEGATIVE | {"NLLLoss"} or outcome(trace, bounds.outcome).word == "learned":
        return []
    output = output_layer(trace)
    remade = output is not None and trace.last("remade", output.name) == 1
    if output is None or not output.trainable or (output.optimised is False and not remade):
        return []  # somebody else's network judges: what is trained may well be meant to make its loss worse
    if loss == "BCEWithLogitsLoss" and not _within(trace, 0.0, 1.0):
        return []
    if loss == "NLLLoss" and not (bounds.outcome.failed and _minus_one(trace)):
        return []  # of raw scores it may be negative; where that is known (OUT003), the factor tells
    rises = trace.meta.optimizer_options.get("maximize") == 1 and finite[-1] > max(finite[0], 0.0)
    negative = _negated(trace) and bool((finite < 0).all()) and finite[-1] < finite[0]
    # with terms that are not known beside it, only a fall without an end is sure
    endless = part_loss(trace) < 0 and finite[-1] < -bounds.outcome.exploded * max(abs(finite[0]), 1e-12)
    negative = negative or endless
    driven = (rises or negative) and _gets_worse(trace)
    if not driven and not _no_better(trace, finite, bounds):
        return []
    how = (
        f"The optimiser maximises: {loss} rises from {finite[0]:.3g} to {finite[-1]:.3g}."
        if rises and driven
        else f"{loss} cannot be negative, but the backward pass began with {finite[0]:.3g} and falls to "
        f"{finite[-1]:.3g}: its sign was flipped, and the answers get worse with every step."
        if driven
        else f"{loss} cannot be negative, but every backward pass began with a negative number "
        f"({finite[-1]:.3g} at the end): its sign was flipped. Something else keeps it from getting far."
    )
    evidence = Evidence("loss", float(finite[-1]), ">" if rises else "<", 0.0)
    # no other fault makes such a loss negative
    return [_flipped(f"{how} Minimise the loss as it is.", evidence, 0.95 if driven else 0.85, apart=("",))]


def _minus_forgotten(trace: Recording) -> list[Finding]:
    """Of a likelihood of yes and no that the program writes out itself, with a floor of its own (a clamp)."""
    losses = trace.series("loss").values
    if loss_name(trace) or not driven_down(trace):
        return []
    summary = (
        "The loss is the likelihood of yes and no, written out (y log p + (1 - y) log(1 - p)), and it is "
        f"below 0 at every step ({losses[0]:.3g} at first, {losses[-1]:.3g} at the end): its minus is "
        "missing, and the answers are driven away from the labels."
    )
    return [_flipped(summary, Evidence("loss", float(losses[-1]), "<", 0.0), 0.9, apart=("",))]


def _flipped(summary: str, evidence: Evidence, confidence: float, apart: tuple[str, ...] = ()) -> Finding:
    return Finding(
        code="OUT009",
        name="flipped-sign",
        severity="error",
        layer=None,
        step=0,
        confidence=confidence,
        summary=summary,
        evidence=(evidence,),
        rival=(
            "LRN001 learning-rate-too-high: then a smaller rate helps; here it only goes wrong more slowly."
        ),
        apart=apart,
    )


def _no_better(trace: Recording, losses: np.ndarray, bounds: Bounds) -> bool:
    """Whether this loss alone was negated, and its size stays at that of the best constant answer or above.

    Where another fault keeps the weights where they are, it does not get worse either.
    """
    if not _minus_one(trace) or trace.steps < bounds.outcome.few_steps:
        return False
    if trace.has("accuracy") and not _gets_worse(trace):
        return False
    best = float(np.median(trace.series("baseline_loss").values))
    tail = losses[-max(1, losses.size // 10) :]
    return float(np.mean(tail)) <= bounds.outcome.learned * best


def _minus_one(trace: Recording) -> bool:
    """Whether the backward passes began with this loss alone, times -1 and nothing else.

    A constant answer's loss, times the factor that was used, is known of a program's own losses. A reward, or
    a weight that changes, gives it another size than the loss can have.
    """
    best, targets = trace.series("baseline_loss").values, trace.series("target.std").values
    if trace.meta.kind != "torch" or not best.size or not bool((best < 0).all()):
        return False
    if loss_name(trace) in _DISTANCES:
        usual = float(np.median(targets)) if targets.size else math.nan
        limit = 2 * max(usual, usual**2)
    else:
        limit = 1.1 * math.log(max(classes(trace), 2))
    return -float(best.min()) <= limit


def _bottomless(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A loss of unknown kind, computed again with one answer for all samples: turned round, it would be one.

    What is to be minimised has a floor. A number that answers can drive down without an end, but not up, is
    minus a loss. One that they can drive both ways is no loss at all (a critic's mark, a return), and says
    nothing.
    """
    losses = trace.series("loss").values
    losses = losses[np.isfinite(losses)]
    falls, rises = trace.series("constant_falls").values[:3], trace.series("constant_rises").values
    known = rises.size and falls.size
    open_below = bool(known and (falls == 1).all() and float(rises[0]) == 0)
    third = max(losses.size // 3, 1)
    first, middle, last = losses[:third], losses[third : 2 * third], losses[-third:]
    start, end = float(np.mean(losses[:3])), float(np.mean(losses[-max(third // 3, 1) :]))
    constant = constant_loss(trace)
    size = max(abs(start), abs(constant) if math.isfinite(constant) else 0.0)
    # faster and faster, far below any constant answer and below 0 all the way: nothing with a floor does that
    gathers = float(np.median(middle) - np.median(last)) >= float(np.median(first) - np.median(middle)) > 0
    endless = (
        not (falls == 1).any()
        and gathers
        and constant < -_SHARE * abs(start)  # a difference of two scores has 0 there, and may be meant so
        and bool((losses[third:] < 0).all())
        and end < -bounds.outcome.exploded * size < 0
    )
    output = output_layer(trace)
    if output is None or not output.trainable or output.optimised is False:
        return []
    if not (open_below or endless) or trace.steps < bounds.outcome.few_steps or not end < start:
        return []
    how = (
        "One and the same answer for all samples can drive this number down without an end, but not up: "
        f"it is minus a loss. It went from {start:.3g} to {end:.3g}."
        if open_below
        else f"The number falls faster and faster, from {start:.3g} to {end:.3g}: it has no floor, as if the "
        "sign of the loss were flipped."
    )
    summary = f"{how} Minimise the loss as it is: minus the logarithm of a likelihood, for instance."
    return [_flipped(summary, Evidence("loss", end, "<", start), 0.9 if open_below else 0.8)]


def _negated(trace: Recording) -> bool:
    """Whether this loss alone was multiplied by a negative number; own loops tell nothing but its value."""
    best = trace.series("baseline_loss").values
    if trace.meta.kind == "torch":  # where further terms or weights of samples come in, it is not measured
        # of batches of one class the best constant has 0: minus 0, if it was negated
        return bool(best.size) and bool(np.signbit(best).all())
    return True


def _within(trace: Recording, low: float, high: float) -> bool:
    least, most = trace.first("target.min"), trace.first("target.max")
    return least is not None and most is not None and low <= least and most <= high


def _gets_worse(trace: Recording) -> bool:
    """Whether what is left of the answers' quality agrees: no better than guessing, or far out of range."""
    hits = trace.series("accuracy").values
    if hits.size:
        guessing = min(max(float(np.mean(hits[:3])), 1 / max(classes(trace), 2)), 0.5)
        facts = trace.structure.loss_facts
        seen = 3 * (facts.target_shape[0] if facts is not None and facts.target_shape else 1)
        return float(np.mean(hits[-3:])) <= guessing + 2 * math.sqrt(guessing * (1 - guessing) / seen)
    if loss_name(trace) == "BCELoss":  # its answers stay within 0..1, whatever happens
        last, best = trace.last("loss"), trace.series("baseline_loss").values
        return last is None or not best.size or abs(last) > 2 * abs(float(np.median(best)))
    low, high = trace.series("output.min").values, trace.series("output.max").values
    if not low.size or not high.size:
        return True
    reach = max(abs(trace.first("target.min") or 0.0), abs(trace.first("target.max") or 0.0), 1e-12)
    return not max(abs(float(low[-1])), abs(float(high[-1]))) <= reach


@rule(
    "OUT008",
    "unscaled-target",
    severity="warning",
    needs=("target.mean", "target.std", "output.min", "output.max"),
    explains={
        "LRN007": "any",
        "OUT010": "any",
        "LRN001": "any",
        "LRN002": "any",
        "GRD002": "any",
        "GRD004": "any",
        "ACT002": "any",
        "ACT003": "any",
        "ACT005": "any",
    },
    preview=False,
)
def unscaled_target(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Targets lie far from where the network's answers start, and it does not get there."""
    loss = loss_name(trace)
    if not loss:
        raise NotChecked("it is not known which loss was used")
    ended = outcome(trace, bounds.outcome)
    if loss not in _DISTANCES or not falls_short(ended, bounds.outcome):
        return []
    if ended.word == "learned" and not _on_the_way(trace, bounds.output.late):
        return []  # it was there in good time: what is left is noise, or has other causes
    mean, spread = typical(trace, "target.mean"), typical(trace, "target.std")
    reach = max(abs(trace.first("output.min") or 0.0), abs(trace.first("output.max") or 0.0), 1.0)
    size = math.hypot(mean, spread)
    if not size > bounds.output.far * reach:
        return []
    baseline = constant_loss(trace)
    first = trace.first("loss")
    apart = first is not None and baseline > 0 and first > baseline
    return [
        Finding(
            code="OUT008",
            name="unscaled-target",
            severity="warning",
            layer=None,
            step=0,
            confidence=0.9,
            summary=(
                f"The targets have mean {mean:.4g} and standard deviation {spread:.3g}; the answers start "
                "within "
                f"{reach:.2g} of 0."
                + (
                    f" The loss starts at {first / baseline:.3g} times that of the mean itself."
                    if apart and first is not None
                    else ""
                )
                + " Subtract the mean, divide by the standard deviation, and undo it when you predict."
            ),
            evidence=(
                Evidence("target.mean", mean),
                Evidence(
                    "target.std", spread, ">", bounds.output.far * reach if spread > abs(mean) else None
                ),
            ),
            rival=(
                "LRN002 learning-rate-too-low: a higher rate gets to the mean sooner, but the gradient's "
                "size stays "
                "that of the targets."
            ),
        )
    ]


def _on_the_way(trace: Recording, late: float) -> bool:
    """Whether the loss stood above that of the best constant answer for this part of the training."""
    curve = learning_curve(trace)
    return float(np.mean(curve.values > constant_loss(trace))) > late
