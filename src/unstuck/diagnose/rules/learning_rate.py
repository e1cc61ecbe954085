"""Rules on the learning rate: what the run did, and what paired probes at a tenth and ten times of it did."""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from unstuck.diagnose import reach
from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.distance import far_off, killed, leaps
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import (
    moving,
    names,
    output_layer,
    typical,
    weight_layers,
)
from unstuck.diagnose.outcome import (
    Outcome,
    outcome,
)
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.diagnose.relapse import relapse
from unstuck.diagnose.slow import NO_PROBES, hardly_moved
from unstuck.diagnose.undone import put_back
from unstuck.trace.recording import Recording

_SINGLES = 16
"""First losses of which the largest is the start, where each is that of one sample."""


class _Probes(NamedTuple):
    """Losses over the same sample where the probes started and where each ended; inf when not finite."""

    start: float
    same: float
    low: float
    high: float
    steps: int
    at: int


def _probes(trace: Recording) -> list[_Probes]:
    """All probes, in the order of the steps at which they started."""
    *losses, lengths = (trace.series(f"probe.{name}") for name in ("start", "same", "low", "high", "steps"))
    at = losses[0].steps
    for one in losses[1:]:
        at = at[np.isin(at, one.steps)]
    table = np.array([one.values[np.searchsorted(one.steps, at)] for one in losses])
    table[~np.isfinite(table)] = math.inf
    taken = dict(zip(lengths.steps.tolist(), lengths.values.tolist(), strict=True))
    return [
        _Probes(*known, steps=int(steps) if math.isfinite(steps := taken.get(step, 0.0)) else 0, at=step)
        for step, *known in zip(at.tolist(), *table.tolist(), strict=True)
        if known[0] < math.inf
    ]


@rule(
    "LRN001",
    "learning-rate-too-high",
    severity="error",
    needs=("loss",),
    explains={
        "ACT002": "any",
        "GRD004": "any",
        "GRD003": "any",
        "ACT003": "any",
        "ACT005": "any",
        "OUT010": "any",
        "OUT004": "any",
        "LRN003": "any",
        "LRN007": "any",
    },
    from_step_0=False,
    preview=False,
)
def learning_rate_too_high(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Training rises, jumps about or blows up, and does better at a tenth of the learning rate."""
    probes, ended = _probes(trace), outcome(trace, bounds.outcome)
    for probe in probes:
        found = _too_high_by_probe(ended, probe, bounds)
        if found:
            return found
    found = _blew_up(trace, bounds)
    if not found and not probes:
        looks = (leaps, relapse, far_off, killed)
        found = next((told for look in looks if (told := look(trace, bounds))), [])
    if not found and not probes:
        raise NotChecked(NO_PROBES)
    return [msgspec.structs.replace(one, apart=_not_of(trace, one, bounds)) for one in found]


def _not_of(trace: Recording, found: Finding, bounds: Bounds) -> tuple[str, ...]:
    """Causes that cannot have made the steps too large, where the rate alone did."""
    rate, layers = trace.first("lr"), reach.trained(trace)
    if trace.meta.optimizer in reach.BY_RATE and rate and layers:
        sizes = [
            rate * math.sqrt(math.prod(node.parameters["weight"])) / max(math.sqrt(node.units), 1.0)
            for node in layers
        ]
        if float(np.median(sizes)) >= bounds.rate.leap:
            return ("",)  # this optimiser's steps are of the rate's size, whatever the gradient is
    first = [trace.at("update_ratio", node.name, 0) or 0.0 for node in layers]
    if found.step <= 1 or (
        trace.meta.optimizer == "SGD" and first and float(np.median(first)) >= bounds.rate.leap
    ):
        return ("GRD005", "OUT009")  # no gradient was left over before the first, nor does its sign matter
    return ()


def _too_high_by_probe(ended: Outcome, probe: _Probes, bounds: Bounds) -> list[Finding]:
    # near a minimum a tenth of any rate has less noise: that is what schedules are for, and no fault
    if ended.word == "learned" and not ended.fraction > bounds.outcome.well_learned:
        return []
    enough = bounds.rate.gain * abs(probe.start) * (5 if ended.word == "learned" else 1)
    # a start far above the constant answer's loss is left at any rate: that alone is not getting anywhere
    known = ended.baseline if math.isfinite(ended.baseline) else math.inf
    reference = min(probe.start, known)
    gets_nowhere = probe.same >= reference * (1 if probe.start <= known else 1 - bounds.rate.gain)
    if not gets_nowhere or reference - probe.low < enough or probe.high < probe.low:
        return []
    return [
        Finding(
            code="LRN001",
            name="learning-rate-too-high",
            severity="error",
            layer=None,
            step=probe.at,
            confidence=0.9,
            summary=(
                f"From the same weights (step {probe.at}) and over the same {probe.steps} batches the loss "
                "goes from "
                f"{probe.start:.4g} to {probe.same:.4g} at this learning rate, and to {probe.low:.4g} at a "
                "tenth."
            ),
            evidence=(
                Evidence("probe.same", probe.same, ">=", reference),
                Evidence("probe.low", probe.low, "<=", reference - enough),
            ),
            rival=(
                f"LRN002 learning-rate-too-low: ten times the rate ends at {probe.high:.4g}, which is no "
                "better."
            ),
        )
    ]


def _blew_up(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Without a probe: the loss started finite and then left all bounds, and the run did not recover."""
    ended = outcome(trace, bounds.outcome)
    losses = trace.series("loss")
    if ended.word not in {"diverged", "not learned"} or losses.values.size < 2:
        return []
    first = float(losses.values[0])
    if not math.isfinite(first) or (trace.first("data.nonfinite") or 0.0) > 0:
        return []  # it was broken before any update: the rate is not to blame
    known = ended.baseline if math.isfinite(ended.baseline) else 0.0
    # the losses of single samples differ by any factor
    start = float(np.nanmax(losses.values[:_SINGLES])) if trace.has("loss_factor") else first
    limit = bounds.outcome.exploded * max(abs(first), abs(known), start if math.isfinite(start) else 0.0)
    bad = [not math.isfinite(value) or value > limit for value in losses.values.tolist()]
    if not any(bad) or limit == 0:
        return []
    step = int(losses.steps[bad.index(True)])
    if all(value <= limit for value in losses.values.tolist() if math.isfinite(value)) and _calm(
        trace, step, bounds
    ):
        return []  # NaN out of small steps: not the rate's doing (GRD004)
    peak = float(losses.values[bad.index(True)])
    return [
        Finding(
            code="LRN001",
            name="learning-rate-too-high",
            severity="error",
            layer=None,
            step=step,
            confidence=0.7,
            summary=(
                f"The loss blew up: {first:.3g} at the start, {peak:.3g} at step {step}, and the run did not "
                "recover "
                f"(it ended at {ended.final:.3g})."
            ),
            evidence=(Evidence("loss", peak, ">", limit),),
            rival=(
                "GRD004 non-finite: a division by 0 or a logarithm of 0 gives NaN at any rate. The start was "
                "finite; "
                "probes at a tenth of the rate would separate the two."
            ),
        )
    ]


def _calm(trace: Recording, step: int, bounds: Bounds) -> bool:
    """Whether updates before a step were seen, and all were small beside the weights."""
    ratios: list[float] = []
    for node in moving(trace):
        series = trace.series("update_ratio", node.name)
        ratios += series.values[series.steps < step].tolist()
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    return bool(known) and max(known) <= bounds.gradient.calm


@rule(
    "LRN002",
    "learning-rate-too-low",
    severity="warning",
    needs=("loss",),
    explains={"OUT010": "any"},
    from_step_0=False,
    preview=False,
)
def learning_rate_too_low(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The loss is far from its floor, moves slowly, and falls several times as fast at ten times the rate."""
    if trace.meta.examined:
        raise NotChecked("a look before training is too short to call a rate slow")
    taken = _probes(trace)
    if not taken:
        return hardly_moved(trace, bounds)
    probes, told = taken[-1], bounds.rate.gain * abs(taken[-1].start)
    shows = probes.low < probes.same - told or not probes.high < probes.start + told
    found = _probed(trace, bounds, probes)
    if found or shows or trace.steps < 5 * bounds.outcome.few_steps:
        return found
    return hardly_moved(trace, bounds)  # so far from enough that ten times the rate shows nothing either


def _probed(trace: Recording, bounds: Bounds, probes: _Probes) -> list[Finding]:
    """Ten times the rate does several times as much."""
    ended = outcome(trace, bounds.outcome)
    if ended.word in {"diverged", "unknown"} and trace.steps < bounds.outcome.few_steps:
        raise NotChecked(f"only {trace.steps} updates were seen; a slow beginning is no fault")
    done = ended.word == "learned" and not ended.fraction > bounds.outcome.well_learned
    gained, gained_high = probes.start - probes.same, probes.start - probes.high
    if done or not math.isfinite(gained_high) or gained_high <= 0:
        return []
    if gained_high < bounds.rate.times * gained or probes.low < probes.same:
        return []
    trained = [node for node in weight_layers(trace) if node.trainable]
    ratios = {node.name: typical(trace, "update_ratio", node.name) for node in trained}
    # where steps are next to nothing in all layers, ten times them is still too little to see much in a probe
    crawls = all(ratio < bounds.rate.crawl for ratio in ratios.values())
    if gained_high < bounds.rate.gain * abs(probes.start) and not crawls:
        return []
    slow = [node for node in trained if ratios[node.name] < bounds.rate.slow]
    if not slow:
        return []  # every layer takes steps of a usual size: it is under way, not too slow
    slowest = min(slow, key=lambda node: ratios[node.name])
    return [
        Finding(
            code="LRN002",
            name="learning-rate-too-low",
            severity="warning",
            layer=None,
            step=probes.at,
            confidence=0.8,
            summary=(
                f"Over the same {probes.steps} batches the loss falls by {gained:.2g} at this learning rate "
                "and by "
                f"{gained_high:.2g} at ten times it, from {probes.start:.4g}. A step changes "
                f"{names([slowest])} by "
                f"{ratios[slowest.name]:.1g} of its weights."
            ),
            evidence=(
                Evidence("probe.high", probes.high, "<=", probes.start - bounds.rate.times * gained),
                Evidence("update_ratio", ratios[slowest.name], "<", bounds.rate.slow, slowest.name),
            ),
            rival=(
                "GRD001 vanishing-gradient: then ten times the rate would not help much, because early "
                "layers "
                "would still hardly move; and LRN001, which a tenth of the rate would improve: here it does "
                "not."
            ),
        )
    ]


@rule("LRN009", "lazy-training", severity="info", needs=("drift",), from_step_0=False)
def lazy_training(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The loss falls well although the hidden weights hardly move: worth knowing, and no fault by itself."""
    ended = outcome(trace, bounds.outcome)
    hidden = [node for node in weight_layers(trace)[:-1] if node.trainable]
    drifts = [trace.last("drift", node.name) for node in hidden]
    known = [drift for drift in drifts if drift is not None and math.isfinite(drift)]
    if ended.word != "learned" or not known or len(known) < len(hidden) or max(known) > bounds.rate.lazy:
        return []
    if put_back(trace):
        return []
    output = output_layer(trace)
    share = None if output is None else trace.last("loss_share", output.name)
    by_head = f" {output.name} alone made {share:.0%} of the fall." if output is not None and share else ""
    return [
        Finding(
            code="LRN009",
            name="lazy-training",
            severity="info",
            layer=None,
            step=max(trace.steps - 1, 0),
            confidence=0.9,
            summary=(
                f"It learns ({ended.because}), while no hidden layer moved by more than {max(known):.1%} of "
                "its "
                f"weights.{by_head} Wide networks do this: small changes of many weights add up."
            ),
            evidence=tuple(
                Evidence("drift", drift, "<=", bounds.rate.lazy, node.name)
                for node, drift in zip(hidden, known, strict=True)
            ),
            rival="LRN002 learning-rate-too-low: then the loss would be far from its floor; here it learned.",
        )
    ]
