"""Rules on what stands between the gradient and the weights: clipping, decay, schedule, epsilon, momentum."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from unstuck.diagnose import reach
from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import line, names, typical, used
from unstuck.diagnose.outcome import falls_short, learning_curve, outcome, stands_still, unproven
from unstuck.diagnose.registry import NotChecked, Where, rule
from unstuck.diagnose.undone import put_back
from unstuck.trace.recording import Recording

_ABOUT = 10.0
"""Clipped at about the usual norm: to a tenth of it, or at ten times."""
_HUGE = 0.1
"""Epsilon above those of all recipes for Adam; a few for RMSprop have 1."""
_FIRST_STEP = reach.SCALED - {"Adadelta", "RAdam"}
"""Those whose first step is about the learning rate (Adadelta's grows with eps, RAdam's begins unscaled)."""
_FAILS: Final[dict[str, Where]] = {"OUT010": "any", "LRN002": "any", "DAT004": "any"}


@rule(
    "GRD007",
    "clipping-always-on",
    severity="warning",
    needs=("clip_ratio",),
    explains={"OUT010": "any", "LRN002": "any", "DAT004": "any", "ACT005": "any"},
    from_step_0=False,
    preview=False,
)
def clipping_always_on(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Nearly every gradient is cut to a small part of itself before the step, so that steps are tiny."""
    ratios = trace.series("clip_ratio").values
    ratios = ratios[np.isfinite(ratios)]
    if ratios.size < 3:
        raise NotChecked("it needs three measured steps at least")
    ended = outcome(trace, bounds.outcome)
    short = falls_short(ended, bounds.outcome) or stands_still(trace, ended, bounds.rate.gain)
    if trace.meta.optimizer in reach.SCALED or not short:
        return []
    share, usual = float(np.mean(ratios < bounds.steps.clipped)), float(np.median(ratios))
    moved = max(
        (
            typical(trace, "update_ratio", node.name) / math.sqrt(used(trace, node))
            for node in reach.trained(trace)
        ),
        default=math.nan,
    )
    pushed = reach.pushed(trace)
    # decay may move the weights all the same
    moved = min((one for one in (moved, pushed) if math.isfinite(one)), default=math.nan)
    # so little that nobody can have got anywhere with it, whatever the gradient was
    nowhere = pushed * trace.steps <= bounds.rate.straight_still
    # once the weights are gone by decay the gradient, too, is too small to be clipped
    if share < bounds.steps.always / (2 if nowhere else 1) or not moved < bounds.rate.slow:
        return []
    return [
        Finding(
            code="GRD007",
            name="clipping-always-on",
            severity="warning",
            layer=None,
            step=0,
            confidence=0.9,
            summary=(
                f"In {share:.0%} of the measured steps the gradient was clipped to less than "
                f"{bounds.steps.clipped:.0%} of its norm, usually to {usual:.1g} of it: no layer moves by "
                "more "
                f"than {moved:.1g} of its weights in a step. {_unscaled(trace, usual)}"
            ),
            evidence=(
                Evidence("clip_ratio", usual, "<", bounds.steps.clipped),
                Evidence("update_ratio", moved, "<", bounds.rate.slow),
            ),
            rival="LRN002 learning-rate-too-low: here the rate is not small, the gradient is cut before it.",
            # what is left would move a sound network: then it is the start that makes gradients too large
            apart=("",) if nowhere and not reach.clipped_force(trace) >= bounds.rate.sensitive else (),
        )
    ]


def _unscaled(trace: Recording, usual: float) -> str:
    """What to do about the clipping; where the cut is about the scale of half precision, that is why."""
    scale = typical(trace, "loss_scale")
    meant = usual * scale
    if scale > 1 and 1 / _ABOUT < meant < _ABOUT:
        return (
            f"Its losses are multiplied by {scale:.3g} for half precision, and what clipping meant to leave "
            f"is divided by it: call scaler.unscale_(optimizer) before clipping, and {meant:.1g} of the norm "
            "is left."
        )
    return "Clip at about the usual norm, or not at all."


@rule(
    "LRN004",
    "schedule-ends-early",
    severity="warning",
    needs=("lr", "loss"),
    explains=_FAILS,
    from_step_0=False,
    preview=False,
)
def schedule_ends_early(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The learning rate is next to nothing long before the end, and much is left to learn."""
    rates = trace.series("lr")
    known = np.isfinite(rates.values)
    steps, values = rates.steps[known], rates.values[known]
    if values.size < 3 or trace.steps < bounds.outcome.few_steps:
        raise NotChecked("the learning rate was not seen over enough steps")
    low = values <= bounds.steps.ended * values.max()
    ended = outcome(trace, bounds.outcome)
    if not low[-1] or values.max() <= 0 or not falls_short(ended, bounds.outcome):
        return []
    away = np.flatnonzero(~low)
    since = int(steps[away[-1] + 1]) if away.size else 0
    idle = 1 - since / trace.steps
    if idle < bounds.steps.idle:
        return []
    return [
        Finding(
            code="LRN004",
            name="schedule-ends-early",
            severity="warning",
            layer=None,
            step=since,
            confidence=0.9,
            summary=(
                f"Since step {since} of {trace.steps} the learning rate is at most "
                f"{values[low].max():.1g}, a "
                f"{bounds.steps.ended:g} part of what it was ({values.max():.3g}), and "
                f"{ended.because or 'much is left to learn'}: "
                f"{idle:.0%} of the steps change nothing. Let the schedule span the whole run."
            ),
            evidence=(Evidence("lr", float(values[-1]), "<=", bounds.steps.ended * float(values.max())),),
            rival=(
                "LRN002 learning-rate-too-low: there it is low from the start; here the schedule took it "
                "away."
            ),
            apart=("",),  # the schedule is the program's own
        )
    ]


@rule(
    "LRN010",
    "decay-dominates",
    severity="warning",
    needs=("weight_norm",),
    explains={
        "OUT010": "any",
        "LRN002": "any",
        "ACT005": "any",
        "ACT002": "any",
        "GRD001": "any",
        "GRD003": "any",
        "DAT004": "any",
        "INI001": "any",
    },
    from_step_0=False,
    preview=False,
)
def decay_dominates(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Weight decay shrinks all weights to nearly nothing, faster than the gradient builds them up."""
    decay = trace.meta.optimizer_options.get("weight_decay", 0.0)
    ended = outcome(trace, bounds.outcome)
    if decay <= 0 or not (falls_short(ended, bounds.outcome) or unproven(trace, ended, bounds.outcome)):
        return []
    halved = reach.halved(trace)
    alone = halved * bounds.steps.halvings <= trace.steps and halved <= bounds.steps.halved
    alone = alone and decay >= bounds.steps.decay
    if alone and ended.word == "diverged":
        return [_decays(trace, decay, halved)]
    left: dict[str, float] = {}
    for node in reach.trained(trace):
        start, end = trace.first("weight_norm", node.name), trace.last("weight_norm", node.name)
        if start and end is not None and math.isfinite(end):
            # decay may take rows of a table that are never used, and no harm is done
            left[node.name] = end / (start * math.sqrt(used(trace, node)))
    if len(left) < max(1, len(reach.trained(trace)) / 2):
        if alone:  # they began at 0: it would not have let them grow
            return [_decays(trace, decay, halved)]
        raise NotChecked("too few layers have weights that were measured")
    usual = float(np.median(list(left.values())))
    # where nobody can say whether it learned, it takes more to call it a fault
    limit = bounds.steps.shrunk / (1 if falls_short(ended, bounds.outcome) else 3)
    outweighs = decay >= bounds.steps.decay and reach.outweighed(trace) >= bounds.steps.outweighs
    heavy = (outweighs or alone) and falls_short(ended, bounds.outcome)
    if (usual > limit and not heavy) or max(left.values()) >= 1:
        return []
    least = min(left, key=lambda name: left[name])
    return [
        Finding(
            code="LRN010",
            name="decay-dominates",
            severity="warning",
            layer=None,
            step=max(trace.steps - 1, 0),
            confidence=0.9,
            summary=(
                f"The weights shrank to {usual:.1g} of what they were ({least} to {left[least]:.1g}) under a "
                f"weight decay of {decay:g}, and the training did not get far. A usual decay is 1e-4 to 1e-2."
            ),
            evidence=(Evidence("weight_norm", usual, "<=", 1.0 if usual > limit else limit),),
            rival="LRN001 learning-rate-too-high: large steps make weights larger; here all of them shrink.",
            apart=("",) if alone or outweighs else (),
        )
    ]


def _decays(trace: Recording, decay: float, halved: float) -> Finding:
    """Where nothing finite is left to be measured: what the decay alone does to any weights."""
    return Finding(
        code="LRN010",
        name="decay-dominates",
        severity="warning",
        layer=None,
        step=max(trace.steps - 1, 0),
        confidence=0.8,
        summary=(
            f"At this learning rate a weight decay of {decay:g} alone halves all weights every {halved:.2g} "
            f"steps of {trace.steps}. A usual decay is 1e-4 to 1e-2."
        ),
        evidence=(Evidence("lr", trace.first("lr")),),
        rival=(
            "LRN001 learning-rate-too-high: that may be there as well, but no usual rate makes up for such "
            "a decay."
        ),
        apart=("",),
    )


@rule(
    "LRN011",
    "odd-optimizer",
    severity="warning",
    needs=("update_norm", "lr"),
    explains={
        "LRN007": "any",
        "OUT010": "any",
        "LRN002": "any",
        "LRN001": "any",
        "ACT002": "any",
        "GRD002": "any",
    },
    from_step_0=False,
    preview=False,
)
def odd_optimizer(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Epsilon or momentum has a value that makes the steps next to nothing, or wild."""
    if not trace.meta.optimizer_options:
        raise NotChecked("the optimiser's numbers are not known")
    ended = outcome(trace, bounds.outcome)
    if falls_short(ended, bounds.outcome):
        return _epsilon(trace, bounds) or _momentum(trace, bounds)
    return _epsilon(trace, bounds) if unproven(trace, ended, bounds.outcome) else []


def _epsilon(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A first step of Adam moves every weight by the learning rate, unless epsilon is in the way."""
    eps = trace.meta.optimizer_options.get("eps", 0.0)
    rate = trace.first("lr")
    if trace.meta.optimizer not in _FIRST_STEP or not rate or eps < bounds.steps.epsilon:
        return []
    sizes: dict[str, float] = {}
    for node in reach.trained(trace):
        update, count = trace.first("update_norm", node.name), math.prod(node.parameters["weight"])
        if update and math.isfinite(update) and (trace.first("grad_norm", node.name) or 0.0) > 0:
            sizes[node.name] = update / math.sqrt(count) / rate
    if not sizes:
        return []
    if max(sizes.values()) > bounds.steps.part:
        poor = falls_short(outcome(trace, bounds.outcome), bounds.outcome)
        return _huge_epsilon(trace, eps, sizes) if poor else []
    largest = max(sizes, key=lambda name: sizes[name])
    return [
        _odd(
            f"{trace.meta.optimizer}'s eps is {eps:g} (usual: 1e-8). It is added to the gradient's size "
            "and is "
            f"larger than it: the first step moved the weights of {largest} by {sizes[largest]:.1g} of the "
            "learning rate, which should be about 1.",
            Evidence("update_norm", sizes[largest], "<=", bounds.steps.part, largest),
            "LRN002 learning-rate-too-low: here the rate is usual, and eps takes it away.",
        )
    ]


def _huge_epsilon(trace: Recording, eps: float, sizes: Mapping[str, float]) -> list[Finding]:
    """One that no recipe has, though something else makes the gradient still larger at first."""
    if eps < _HUGE:
        return []
    first = max(sizes.values())
    found = _odd(
        f"{trace.meta.optimizer}'s eps is {eps:g} (usual: 1e-8). It is added to the gradient's size: unless "
        "that is larger, steps are much smaller than the learning rate. The first had up to "
        f"{first:.1g} of it.",
        Evidence("update_norm", first),
        "Another fault may make the first gradients so large: mend both.",
    )
    return [msgspec.structs.replace(found, confidence=0.7)]


def _momentum(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The steps of momentum m add up over 1 / (1 - m) of them."""
    momentum = trace.meta.optimizer_options.get("momentum", 0.0)
    if trace.meta.optimizer != "SGD" or not bounds.steps.momentum <= momentum:
        return []
    reach = 1 / (1 - momentum) if momentum < 1 else math.inf
    return [
        _odd(
            f"A momentum of {momentum:g} adds up {reach:.0f} steps: the true learning rate is {reach:.0f} "
            "times "
            "the one that is set, and it answers to a change only after as many steps. Usual is 0.9.",
            Evidence("lr", trace.first("lr")),
            "LRN001 learning-rate-too-high: a tenth of the rate helps as well; but it is not the rate "
            "that is odd.",
        )
    ]


def _odd(summary: str, evidence: Evidence, rival: str) -> Finding:
    return Finding("LRN011", "odd-optimizer", "warning", None, 0, 0.85, summary, (evidence,), rival)


@rule(
    "LRN008",
    "stopped-early",
    severity="info",
    needs=("loss",),
    from_step_0=False,
)
def stopped_early(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The loss was still falling when the training ended, or the weights were put back to the start."""
    if trace.steps >= bounds.outcome.few_steps and not trace.meta.examined and put_back(trace):
        return [_put_back(trace)]
    curve = learning_curve(trace)
    ended = outcome(trace, bounds.outcome)
    if curve.values.size < 8 or trace.steps < 5 * bounds.outcome.few_steps:
        raise NotChecked("too few steps were seen to tell a trend")
    if ended.word != "learned" or not falls_short(ended, bounds.outcome):
        return []
    late = curve.steps >= trace.steps / 2
    steps, values = curve.steps[late].astype(float), curve.values[late]
    if steps.size < 4 or not np.isfinite(values).all():
        return []
    slope, error = line(steps, values)
    gain = -slope * (steps[-1] - steps[0])
    if not -slope > bounds.steps.surely * error or gain < bounds.rate.gain * abs(ended.final):
        return []
    more = ended.final / -slope
    return [
        Finding(
            code="LRN008",
            name="stopped-early",
            severity="info",
            layer=None,
            step=max(trace.steps - 1, 0),
            confidence=0.8,
            summary=(
                f"The loss was still falling at the end: by {gain:.2g} over the second half, to "
                f"{ended.final:.3g}. "
                f"At this pace it would need about {more:.0f} further steps at least; train longer, or "
                "faster."
            ),
            evidence=(Evidence("loss", ended.final),),
            rival="LRN002 learning-rate-too-low: then ten times the rate falls several times as fast.",
        )
    ]


def _put_back(trace: Recording) -> Finding:
    """What the steps led to was thrown away."""
    farthest = max(
        reach.trained(trace),
        key=lambda node: float(np.nanmax([*trace.series("drift_norm", node.name).values, 0.0])),
    )
    return Finding(
        code="LRN008",
        name="stopped-early",
        severity="warning",
        layer=None,
        step=max(trace.steps - 1, 0),
        confidence=0.9,
        summary=(
            f"After {trace.steps} steps the program put all weights back to where they began: what was "
            "learned is gone. So it ends when the first weights are kept as the best ones: does the "
            "comparison of early stopping point the wrong way, is the loss that it looks at NaN, or does it "
            "start from a number that no loss can beat?"
        ),
        evidence=(Evidence("drift_norm", trace.last("drift_norm", farthest.name), "=", 0.0, farthest.name),),
        rival="LRN002 learning-rate-too-low: there the weights never went far; these did, and came back.",
    )


@rule("LRN012", "few-updates", severity="info", needs=("loss",), explains=_FAILS, from_step_0=False)
def few_updates(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A handful of updates is all there was: too few for any network to learn."""
    if trace.meta.examined or trace.steps >= bounds.outcome.few_steps:
        return []
    if not trace.meta.complete or trace.steps < 1:
        raise NotChecked("the training was cut off")
    ended = outcome(trace, bounds.outcome)
    layers = reach.trained(trace)
    facts = trace.structure.loss_facts
    samples = facts.input_shape[0] if facts is not None and facts.input_shape else 0
    passes = trace.series("passes").values
    added = int(np.median(passes)) if passes.size else 1
    large = samples * added >= bounds.steps.large and trace.meta.kind != "arrays"
    # what few steps have learned says nothing against more of them, where each of them took many samples
    short = ended.word == "learned" and not (large and falls_short(ended, bounds.outcome))
    if trace.steps < 2 or short:
        return []
    each = f", each for {samples * added} samples at once" if large else ""
    each += f" (the gradients of {added} backward passes)" if large and added > 1 else ""
    said = "nothing can be said of them yet"
    advice = (
        "Is optimizer.step() meant to stand outside of the loop over the batches?"
        if large and added > 1
        else "Smaller batches or more epochs give more updates."
    )
    return [
        Finding(
            code="LRN012",
            name="few-updates",
            severity="warning" if large else "info",
            layer=None,
            step=max(trace.steps - 1, 0),
            confidence=0.9,
            summary=(
                f"Only {trace.steps} updates were made of "
                f"{names(layers[:3])}{' and others' if len(layers) > 3 else ''}{each}: "
                f"{'what they have learned is a part' if ended.word == 'learned' else said}. {advice}"
            ),
            evidence=(Evidence("loss", trace.last("loss")),),
            rival="LRN002 learning-rate-too-low: with so few steps even a good rate gets nowhere.",
        )
    ]
