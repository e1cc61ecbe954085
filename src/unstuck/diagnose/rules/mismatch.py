"""Rule on a loss that does not suit its task: on classes it gives next to no gradient."""

import math
from typing import Final, NamedTuple

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import names, typical, weight_layers
from unstuck.diagnose.outcome import Outcome, outcome
from unstuck.diagnose.paths import classes, into_loss, loss_name
from unstuck.diagnose.registry import NotChecked, Where, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_SQUARED: Final = frozenset({"MSELoss"})
_BINARY: Final = frozenset({"BCELoss", "BCEWithLogitsLoss"})
_SCALED_STEPS: Final = frozenset({"SGD"})
"""Optimisers whose steps shrink with the gradient; Adam and its like divide by its size."""
_ENDS: Final = frozenset({"Sigmoid", "Softmax", "Tanh"})
_EXACT: Final = 1e-3
"""Rounding of single precision in a variance and in a mean of classes."""
_FAILS: Final[dict[str, Where]] = {"OUT010": "any", "LRN002": "any", "ACT005": "any", "LRN008": "any"}


class _Answers(NamedTuple):
    """What a loss on classes makes of the answers."""

    node: Node
    weak: float
    """Gradient at the scores / that of cross entropy on the same answers."""
    free: float
    """Mean slope of the last operation / that at the best constant answer; 1 without one."""


@rule(
    "OUT004",
    "loss-mismatch",
    severity="warning",
    needs=("loss", "target.mean", "target.std", "act_rms"),
    explains=_FAILS,
    from_step_0=False,
)
def loss_mismatch(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The loss does not suit classes: what it sends back is far less than cross entropy would send."""
    loss = loss_name(trace)
    if not loss:
        raise NotChecked("it is not known which loss was used")
    ended = outcome(trace, bounds.outcome)
    if ended.word != "not learned" or trace.meta.examined or not _on_classes(trace, loss):
        return []
    if not math.isfinite(ended.baseline) or ended.fraction < bounds.outcome.learned:
        return []  # only the user's own goal was missed
    answers = _answers(trace, loss)
    if answers is None or _knows(trace, bounds):
        return []
    return _weak_steps(trace, ended, answers, bounds) or _at_ends(trace, ended, answers, bounds)


def _on_classes(trace: Recording, loss: str) -> bool:
    """Whether every sample has one class of several: its targets are 0 but for a single 1 (or -1 and 1)."""
    count = classes(trace)
    means, spreads = trace.series("target.mean").values, trace.series("target.std").values
    if loss not in _SQUARED | _BINARY or count < 2 or not means.size or means.size != spreads.size:
        return False
    low, high = trace.first("target.min"), trace.first("target.max")
    if high != 1 or low not in {0, -1}:
        return False
    # numbers that are all 0 or 1 are their own squares; one 1 a row makes the mean 1/classes in every batch
    share = (means - low) / (high - low)
    own = np.abs(spreads**2 / (high - low) ** 2 - share * (1 - share)) < _EXACT
    return bool(own.all()) and bool((np.abs(share * count - 1) < _EXACT).all())


def _answers(trace: Recording, loss: str) -> _Answers | None:
    node, count = into_loss(trace), classes(trace)
    facts = trace.structure.loss_facts
    if node is None or (facts is not None and facts.reduction not in {"mean", ""}):
        return None  # a sum has steps of another size
    if loss in _BINARY:
        return _Answers(node, 1 / count, 1.0)
    if node.type not in _ENDS:
        return None
    rms, mean = typical(trace, "act_rms", node.name), typical(trace, "act_mean", node.name)
    usual = 1 / count
    if node.type == "Tanh":
        slope, best = 1 - rms * rms, 1 - (2 * usual - 1) ** 2
    else:
        slope, best = mean - rms * rms, usual * (1 - usual)
    if not math.isfinite(slope):
        return None
    slope = max(slope, 0.0)
    # 2 (answer - target) slope / classes, against answer - target
    return _Answers(node, 2 * slope / count, slope / best)


def _knows(trace: Recording, bounds: Bounds) -> bool:
    """Whether far more is right than the commonest class: then noise of the labels may be the rest."""
    hits, majority = trace.series("accuracy").values, trace.first("data.majority")
    if not hits.size:
        return False
    guess = max(majority or 0.0, 1 / max(classes(trace), 2))
    return (float(np.mean(hits[-3:])) - guess) / max(1 - guess, 1e-9) > bounds.output.some


def _weak_steps(trace: Recording, ended: Outcome, answers: _Answers, bounds: Bounds) -> list[Finding]:
    """Steps too small at this rate, and of a usual size if the gradient were cross entropy's."""
    if trace.meta.optimizer not in _SCALED_STEPS or answers.weak > bounds.output.weak or answers.weak == 0:
        return []
    trained = [node for node in weight_layers(trace) if node.trainable and node.optimised is not False]
    ratios = {node.name: typical(trace, "update_ratio", node.name) for node in trained}
    if not ratios or any(math.isnan(ratio) for ratio in ratios.values()):
        return []
    slowest = min(trained, key=lambda node: ratios[node.name])
    usual = ratios[slowest.name] / answers.weak
    if ratios[slowest.name] >= bounds.rate.slow or not bounds.rate.slow <= usual <= bounds.rate.leap:
        return []
    if _taken_away(trace, bounds):
        return []
    times = 1 / answers.weak
    what = "Binary cross entropy" if loss_name(trace) in _BINARY else "The squared error"
    return [
        _finding(
            trace,
            answers,
            0.8,
            f"{what} over {classes(trace)} classes, of which one is right, sends back a gradient about "
            f"{times:.0f} times smaller than cross entropy would: a step changes {names([slowest])} by "
            f"{ratios[slowest.name]:.1g} of its weights, and {ended.because}. Train the scores with cross "
            "entropy.",
            Evidence("update_ratio", ratios[slowest.name], "<", bounds.rate.slow, slowest.name),
            "LRN002 learning-rate-too-low: more rate helps as well; but with cross entropy's gradient the "
            f"same rate would make steps of {usual:.1g}, which is usual.",
        )
    ]


def _taken_away(trace: Recording, bounds: Bounds) -> bool:
    """Whether clipping or a schedule makes the steps small."""
    clipped, rates = typical(trace, "clip_ratio"), trace.series("lr").values
    ended = bool(rates.size) and float(np.median(rates)) < bounds.steps.clipped * float(np.max(rates))
    return clipped < bounds.steps.clipped or ended


def _at_ends(trace: Recording, ended: Outcome, answers: _Answers, bounds: Bounds) -> list[Finding]:
    """Wrong answers at the ends of the last operation, where the squared error has no gradient."""
    node = answers.node
    if node.type not in _ENDS or loss_name(trace) not in _SQUARED or answers.free > bounds.signal.slope:
        return []
    ratios = [trace.series("update_ratio", one.name).values for one in weight_layers(trace)]
    if not all(one.size and float(np.nanmax(one)) <= bounds.rate.leap for one in ratios):
        return []  # large steps threw them there: it is the rate (LRN001)
    return [
        _finding(
            trace,
            answers,
            0.65,
            f"The answers of {node.name} stand at the ends of its {node.type.lower()}: it passes on "
            f"{answers.free:.1%} of the gradient that it would at the classes' frequencies, and "
            f"{ended.because}. Under the squared error an answer that is wrong there gets no gradient; cross "
            "entropy takes this slope out.",
            Evidence("act_rms", typical(trace, "act_rms", node.name), layer=node.name),
            "ACT003 saturated-units is about hidden ones; LRN001 learning-rate-too-high: then the steps are "
            "large, here they are usual. If the weights start too large (INI004), mend that first.",
        )
    ]


def _finding(
    trace: Recording, answers: _Answers, confidence: float, summary: str, evidence: Evidence, rival: str
) -> Finding:
    node = answers.node
    return Finding(
        code="OUT004",
        name="loss-mismatch",
        severity="warning",
        layer=node.name,
        step=0,
        confidence=confidence,
        summary=summary,
        evidence=(evidence, Evidence("loss", trace.last("loss"))),
        rival=rival,
        location=node.location,
    )
