"""Rules on how samples come: in runs of one label, with labels that are not theirs, mixed with each other."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from unstuck.diagnose import reach
from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.paths import loss_name
from unstuck.diagnose.registry import NotChecked, Where, rule
from unstuck.trace.recording import Recording, Series
from unstuck.trace.structure import INPUT, Node

_ROUNDING = 1e-4
"""Change of other samples' answers / of the sample's own that no rounding explains."""
_SEVERAL = 4
"""Samples of a batch from which on a sum is much more than a mean."""
_LATEST = 3
"""Measurements of which the middle one counts: a network that learns nothing may answer by chance."""
_NOTHING: Final[dict[str, Where]] = {
    "OUT010": "any",
    "LRN002": "any",
    "LRN001": "any",
    "LRN007": "any",
    "ACT002": "any",
    "DAT004": "any",  # samples of one kind might as well exchange their targets
}
_SUMMED: Final[dict[str, Where]] = {
    "LRN001": "any",
    "LRN007": "any",
    "GRD002": "any",
    "GRD003": "lasting",
    "ACT002": "any",
    "ACT005": "any",
    "OUT010": "any",
}


@rule(
    "DAT006",
    "unshuffled",
    severity="warning",
    needs=("target.mean", "target.std"),
    explains=_NOTHING,
    from_step_0=False,
)
def unshuffled(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Batches differ in their targets far more than chance allows: samples come in runs of one kind."""
    means, spreads = trace.series("target.mean"), trace.series("target.std")
    facts = trace.structure.loss_facts
    batch = facts.target_shape[0] if facts is not None and facts.target_shape else 0
    known = np.isfinite(means.values)
    if int(known.sum()) < bounds.data.batches or means.values.size != spreads.values.size or batch < 4:
        raise NotChecked(f"it needs {bounds.data.batches} measured batches of four samples at least")
    between = float(np.var(means.values[known], ddof=1))
    within = float(np.mean(spreads.values[known] ** 2))
    if not between + within > 0 or trace.meta.examined:
        return []
    share = between / (between + within)
    ended = outcome(trace, bounds.outcome)
    # shuffled batches differ by 1/batch of the variance, give or take its own chance
    if share < bounds.data.runs or share < 4 / batch or ended.word == "learned":
        return []
    if loss_name(trace) == "MSELoss" and ended.final < bounds.outcome.learned * (between + within):
        return []  # within a run of one kind a constant does well; over all of them the network does better
    if _jumps(means, between) > bounds.data.jump:
        return []  # batches of one kind each, but in no order: tasks, documents, images
    if trace.meta.task != "classification" and not _returns(means.values[known], bounds.data.back):
        return []  # they drift: targets that the training itself makes do so (bootstrapping, a teacher)
    wrong = trace.meta.task == "classification" or ended.word in {"not learned", "diverged"}
    return [
        Finding(
            code="DAT006",
            name="unshuffled",
            severity="warning" if wrong else "info",
            layer=None,
            step=0,
            confidence=0.9 if wrong else 0.6,
            summary=(
                f"{share:.0%} of the targets' variance lies between batches; shuffled batches of {batch} "
                "would "
                f"have about {1 / batch:.0%}. The samples come in runs of one kind, and the network learns "
                "each "
                "run and forgets the one before. Shuffle the samples (shuffle=True)."
            ),
            evidence=(Evidence("target.mean", share, ">=", bounds.data.runs),),
            rival=(
                "LRN001 learning-rate-too-high: a saw-toothed loss too; but here the batches themselves "
                "differ."
            ),
        )
    ]


def _returns(values: npt.NDArray[np.float64], part: float) -> bool:
    """Whether numbers both rise and fall again by this part of their range, as runs that come again do."""
    rise = float(np.max(values - np.minimum.accumulate(values)))
    fall = float(np.max(np.maximum.accumulate(values) - values))
    return min(rise, fall) >= part * float(np.ptp(values))


def _jumps(means: Series, variance: float) -> float:
    """Squared difference of the targets' means of neighbouring batches / twice their variance.

    1 where batches follow each other by chance (von Neumann, 1941), 0 where they change slowly; infinite
    where no neighbours were measured.
    """
    next_to = np.diff(means.steps) == 1
    steps = np.diff(means.values)[next_to]
    steps = steps[np.isfinite(steps)]
    return float(np.mean(steps**2)) / (2 * variance) if steps.size >= 3 else math.inf


@rule(
    "OUT011",
    "mixed-samples",
    severity="error",
    explains={
        "ARC001": "any",
        "DAT004": "any",
        "GRD004": "any",
        "OUT010": "any",
        "LRN002": "any",
        "LRN001": "any",
        "OUT002": "any",
    },
)
def mixed_samples(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A sample's answer depends on other samples of its batch, or a view mixes up the numbers of each."""
    measured = trace.series("probe.mixing").values
    mixing = float(np.median(measured[-_LATEST:])) if measured.size else math.nan
    by_view = (
        []
        if mixing > bounds.output.mixed
        else _torn_by_view(trace, bounds) or _exchanged_by_view(trace, bounds)
    )
    if by_view:
        return by_view
    if not measured.size or not np.isfinite(measured[-1]):
        raise NotChecked("whether samples mix was not measured")
    # a plain run holds its statistics as they were; probes, at the first step, cannot do that of any module
    normalised = any("BatchNorm" in node.type for node in trace.structure.nodes)
    if normalised and int(trace.series("probe.mixing").steps[-1]) == 0:
        return []
    ended = outcome(trace, bounds.outcome)
    short = falls_short(ended, bounds.outcome)
    across = _softmax_over_samples(trace, mixing) or _along_samples(trace)
    enough = _ROUNDING if across is not None and across.type == "Softmax" else bounds.output.mixed
    if mixing < enough or (ended.word == "learned" and not short and across is None):
        return []
    sure = short or trace.meta.examined or across is not None
    return [
        Finding(
            code="OUT011",
            name="mixed-samples",
            severity=("error" if short or trace.meta.examined else "warning") if sure else "info",
            layer=across.name if across is not None else None,
            step=0,
            confidence=0.9 if sure else 0.6,
            summary=(
                f"Replacing one sample of the batch changes the answers for the others {mixing:.2g} times "
                "as much as its own. " + _how_mixed(across)
            ),
            location=across.location if across is not None else None,
            evidence=(Evidence("probe.mixing", mixing, ">=", enough),),
            rival=(
                "Normalisation over the batch mixes samples on purpose: it is measured with the mean and "
                "variance held as they were."
            ),
        )
    ]


def _how_mixed(across: Node | None) -> str:
    """In words, by the operation that did it where one is known."""
    if across is None:
        return (
            "Somewhere axes are mixed up: a softmax over the batch (dim=0), a view or reshape where a "
            "transpose is meant."
        )
    if across.type == "Softmax":
        return (
            f"{across.name} is a softmax over the first axis, that of the samples (dim=0): what one of them "
            "gets depends on who else is in the batch. Take the axis of the scores: dim=-1."
        )
    return (
        f"{across.name} ({across.type}) was made with batch_first=False, PyTorch's default: it takes the "
        "first axis for time, and reads from one sample to the next. Make it with batch_first=True, or put "
        "time first."
    )


def _softmax_over_samples(trace: Recording, mixing: float) -> Node | None:
    """A softmax over the first axis of what comes from the input, where samples are seen to mix.

    Weights of a model's own (a mixture of layers) may well be shared out over their first axis: they come
    from no input.
    """
    if not mixing >= _ROUNDING:
        return None
    from_input = {INPUT}
    for node in trace.structure.nodes:
        if not any(name in from_input or name.startswith(f"{INPUT}.") for name in node.inputs):
            continue
        from_input.add(node.name)
        if node.type == "Softmax" and node.options.get("dim") == 0 and node.shape:
            return node
    return None


def _along_samples(trace: Recording) -> Node | None:
    """A layer that takes the first axis for time, as PyTorch's do unless they are told otherwise."""
    return next((node for node in trace.structure.nodes if node.options.get("batch_first") is False), None)


def _torn_by_view(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A view makes rows of numbers that do not lie beside each other."""
    last, row = trace.last("view.last"), trace.last("view.row")
    if last is None or row is None:
        return []
    parts = trace.last("view.parts")
    if parts is not None:
        return _by_view(
            trace,
            bounds,
            confidence=0.85,
            summary=(
                f"A view or reshape is to make rows of {row:.0f} numbers, {last:.0f} of each of {parts:.0f} "
                "parts (layers or directions of a recurrent layer), but the parts stand on the first axis: "
                "each row gets numbers of other samples. Put them side by side: "
                "torch.cat([h[0], h[1]], dim=1), or transpose(0, 1) before."
            ),
            evidence=(Evidence("view.parts", parts), Evidence("view.row", row)),
            rival="A view of (N, L, C) to rows of L times C is right: there the samples stand first.",
        )
    return _by_view(
        trace,
        bounds,
        confidence=0.85,
        summary=(
            f"A view or reshape makes rows of {row:.0f} numbers, as many as the second axis has; but "
            f"along the last axis, which had {last:.0f}, lie other numbers than one sample's or place's "
            "own: each row gets those of several places. Move the axis to the end before: "
            "permute or movedim."
        ),
        evidence=(Evidence("view.last", last), Evidence("view.row", row)),
        rival="A view of (N, L, C) to rows of C is right: there C is the last axis already.",
    )


def _exchanged_by_view(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A view has the shape of a transposed tensor: the numbers of each sample are mixed up."""
    before, after = trace.last("view.before"), trace.last("view.after")
    if before is None or after is None:
        return []
    return _by_view(
        trace,
        bounds,
        confidence=0.8,
        summary=(
            f"A view or reshape exchanges the lengths of two axes ({before:.0f} becomes {after:.0f}), as "
            "transpose would, but keeps all numbers in their order: each lands where another belongs. "
            "Use transpose or permute there."
        ),
        evidence=(Evidence("view.before", before), Evidence("view.after", after)),
        rival="A view that splits or joins axes is right; this one has the same lengths in a new order.",
    )


def _by_view(
    trace: Recording,
    bounds: Bounds,
    *,
    confidence: float,
    summary: str,
    evidence: tuple[Evidence, ...],
    rival: str,
) -> list[Finding]:
    """Told where the training did not get far: many a view of such a shape is meant."""
    ended = outcome(trace, bounds.outcome)
    if not falls_short(ended, bounds.outcome):
        return []
    return [
        Finding(
            code="OUT011",
            name="mixed-samples",
            severity="error" if ended.word != "learned" else "warning",
            layer=None,
            step=0,
            confidence=confidence,
            summary=summary,
            evidence=evidence,
            rival=rival,
        )
    ]


@rule("OUT012", "summed-loss", severity="warning", explains=_SUMMED)
def summed_loss(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Loss and gradient are sums over the batch: every step is as many times larger as it has samples."""
    twice = trace.last("probe.duplicate")
    word = outcome(trace, bounds.outcome).word
    if twice is None or not math.isfinite(twice):
        return _told_to_sum(trace, bounds)
    if twice < bounds.output.summed or word not in {"not learned", "diverged"}:
        return []
    same, low = trace.first("probe.same"), trace.first("probe.low")
    slower_is_better = same is not None and low is not None and low < same
    if word != "diverged" and not slower_is_better:
        return []  # many sum on purpose, with a rate to match: then something else is wrong
    words = f"With every sample twice in the batch the gradient is {twice:.2f} times as large: the"
    return [_summed(words, 0.85, Evidence("probe.duplicate", twice, ">=", bounds.output.summed))]


def _told_to_sum(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Without a probe: the loss was told to sum, and the first steps threw it out of all bounds."""
    facts, losses = trace.structure.loss_facts, trace.series("loss").values
    if facts is None or not facts.input_shape or facts.reduction != "sum":
        raise NotChecked("the gradient of the doubled batch was not measured")
    ended = outcome(trace, bounds.outcome)
    # divided by its size a gradient is the same for a sum and a mean
    if ended.word not in {"not learned", "diverged"} or trace.meta.optimizer in reach.SCALED:
        return []
    if losses.size < 3 or not math.isfinite(losses[0]) or facts.input_shape[0] < _SEVERAL:
        return []
    early = losses[1 : bounds.outcome.few_steps]
    known = abs(ended.baseline) if math.isfinite(ended.baseline) else 0.0
    limit = bounds.outcome.exploded * max(abs(float(losses[0])), known)
    if not bool((~np.isfinite(early) | (early > limit)).any()):
        return []
    peak = float(np.max(np.where(np.isfinite(early), early, math.inf)))
    words = (
        f"{loss_name(trace)} adds up the losses of {facts.input_shape[0]} samples (reduction='sum'), and the "
        f"first steps threw it from {losses[0]:.3g} to {peak:.3g}: the"
    )
    return [_summed(words, 0.8, Evidence("loss", peak, ">", limit))]


def _summed(words: str, confidence: float, evidence: Evidence) -> Finding:
    return Finding(
        code="OUT012",
        name="summed-loss",
        severity="warning",
        layer=None,
        step=0,
        confidence=confidence,
        summary=(
            f"{words} loss is a sum over samples, so that the right learning rate falls with the batch size. "
            "Take the mean."
        ),
        evidence=(evidence,),
        rival="LRN001 learning-rate-too-high: a lower rate helps as well, until the batch size changes.",
    )
