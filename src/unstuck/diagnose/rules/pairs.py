"""Rule on labels that are not those of their inputs."""

import math
from typing import Final, NamedTuple

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.held import unheld
from unstuck.diagnose.measured import moving, used
from unstuck.diagnose.outcome import Outcome, outcome
from unstuck.diagnose.registry import NotChecked, Where, rule
from unstuck.trace.recording import Recording, Series
from unstuck.trace.structure import INPUT

_LOOKS: Final = 5
"""Last measurements of which the mean counts, and measurements that are needed at all."""
_MOST: Final = 0.8
"""Part of the measured updates that must have taught the network its batch."""
_LEAP: Final = 0.5
"""An update that takes this part of its batch's loss away may be too large to hold for others."""
_LOW: Final = 0.1
"""Part of the largest learning rate below which little is learned whatever the labels are."""
_FOLLOWS: Final[dict[str, Where]] = {
    "ACT002": "any",
    "ACT005": "any",
    "DAT008": "any",
    "LRN001": "any",
    "LRN002": "any",
    "LRN007": "any",
    "OUT010": "any",
}


class _Learned(NamedTuple):
    """What updates teach a network of their own batches."""

    total: float
    """Over all steps, in units of the loss."""
    others: float
    """Loss for the targets of other samples / for their own, on batches before their update; at the end."""
    error: float
    """Standard error of that."""


@rule("DAT004", "misaligned-labels", severity="error", explains=_FOLLOWS, from_step_0=False)
def misaligned_labels(trace: Recording, bounds: Bounds) -> list[Finding]:
    """What is learned from the labels is no more than is learned from the same labels dealt out at random."""
    if trace.meta.examined:
        return []
    probed = trace.last("probe.permuted")
    ended = outcome(trace, bounds.outcome)
    # an input that a sound network does without may say nothing, whosesoever it is: noise that is drawn anew
    places = ["", *(one for one in trace.layers("pairs.loss") if one and not ended.spare)]
    evaluated = bool(trace.layers("evaluation.fit"))
    if (probed is None or not math.isfinite(probed)) and not trace.has("pairs.loss") and not evaluated:
        raise NotChecked(
            "neither the fall of the loss with dealt-out labels nor that by one update was measured"
        )
    if ended.word == "learned":
        return _by_evaluation(trace, ended)
    by_probe = _by_probe(trace, bounds, probed)
    if by_probe or ended.word != "not learned":
        return by_probe
    looked_at = [one for one in places if trace.has("pairs.loss", one)]
    return next((found for place in looked_at if (found := _by_updates(trace, place, bounds))), [])


def _by_probe(trace: Recording, bounds: Bounds, ratio: float | None) -> list[Finding]:
    """By a continuation with labels that were dealt out."""
    if ratio is None or not math.isfinite(ratio):
        return []
    by_heart = trace.first("probe.overfit")
    if by_heart is None or not math.isfinite(by_heart):
        raise NotChecked("it was not measured whether one batch can be learned by heart")
    if outcome(trace, bounds.outcome).word != "not learned" or ratio < bounds.data.permuted:
        return []
    if by_heart > bounds.outcome.well_learned:
        return []  # what cannot even learn one batch by heart has another fault
    return [
        _misaligned(
            0.8,
            f"One batch can be learned by heart (to {by_heart:.0%} of its loss), the data cannot; and with "
            f"the labels dealt out at random the loss falls {ratio:.2f} times as far as with the given ones: "
            "the labels seem to have nothing to do with their inputs. Were inputs and labels shuffled or "
            "sorted apart?",
            Evidence("probe.permuted", ratio, ">=", bounds.data.permuted),
            Evidence("probe.overfit", by_heart, "<=", bounds.outcome.well_learned),
            rival=(
                "LRN002 learning-rate-too-low and LRN001 learning-rate-too-high: then one batch cannot be "
                "learned by heart either."
            ),
        )
    ]


def _by_evaluation(trace: Recording, ended: Outcome) -> list[Finding]:
    """By the program's own evaluation, where the loss fell all the same."""
    found = unheld(trace, ended.fraction)
    if found is None:
        return []
    return [
        _misaligned(
            0.7,
            f"The loss of what it is trained on fell to {ended.fraction:.0%} of the best constant answer's, "
            f"yet hardly anything of that holds for the {found.samples} samples it is evaluated "
            f"with: what comes out there is {found.fit:.1f} standard deviations from what the same answers "
            f"give when they are dealt out to other samples (a weak relation: {found.weak:.1f}). So samples "
            "are learned by heart. Look at a few of them with their targets, of the training and of the "
            "evaluation, as the model is given them: were inputs and targets shuffled, sorted, shifted or "
            "read apart, or are the two sets of data not prepared alike?",
            Evidence("evaluation.fit", found.fit, "<=", found.weak, found.place),
            Evidence("loss", ended.final, "<=", ended.baseline),
            rival=(
                "DAT008 no-signal: then inputs and targets belong together, and yet the ones do not tell the "
                "others."
            ),
        )
    ]


def _misaligned(confidence: float, summary: str, *evidence: Evidence, rival: str) -> Finding:
    return Finding(
        code="DAT004",
        name="misaligned-labels",
        severity="error",
        layer=None,
        step=0,
        confidence=confidence,
        summary=summary,
        evidence=evidence,
        rival=rival,
    )


def _by_updates(trace: Recording, place: str, bounds: Bounds) -> list[Finding]:
    """By what single updates teach the network of their own batches, and none of it holds for the next."""
    learned = _learned(trace, place)
    enough = 1 - bounds.outcome.learned
    if learned is None or learned.total < enough or learned.others - learned.error > bounds.outcome.counts:
        return []
    if _way(trace) < bounds.rate.lazy:
        return []  # steps that lead nowhere teach each batch a little, whatever the labels are
    if learned.others - 1 + learned.error > bounds.outcome.solved * learned.total:
        return []  # a good part of it may hold for others
    name = place.removeprefix(f"{INPUT}.")
    whose, what = (
        (f"the {name} of other samples", f"{name} and targets")
        if place
        else (
            "the targets of other samples",
            "inputs and targets",
        )
    )
    return [
        _misaligned(
            0.7,
            f"Each update teaches the network the pairs of its own batch: in all steps together "
            f"{learned.total:.1f} times the loss. Yet nothing of that holds for the next batch: with "
            f"{whose} its loss is {learned.others:.3f} times as large, so the two might as well be dealt "
            f"out at random. Look at a few samples with their targets, as the model is given them: were "
            f"{what} shuffled, sorted, shifted or reshaped apart, or is what tells the samples apart "
            "lost on the way?",
            Evidence("pairs.learned", learned.total, ">=", enough, place or None),
            Evidence("pairs.loss", learned.others, "<=", bounds.outcome.counts, place or None),
            rival=(
                "LRN002 learning-rate-too-low and GRD003 no-gradient: then an update teaches next to nothing "
                "of its own batch either."
            ),
        )
    ]


def _learned(trace: Recording, place: str) -> _Learned | None:
    """Over the whole training; None where too little was measured, or updates do not do what they should."""
    learned, falls, others = (trace.series(f"pairs.{name}", place) for name in ("learned", "fall", "loss"))
    if learned.values.size < _LOOKS or not all(
        np.isfinite(one.values).all() for one in (learned, falls, others)
    ):
        return None
    rates = trace.series("lr")
    if rates.values.size and _typical(rates, trace.steps) < _LOW * float(np.max(rates.values)):
        return None  # for most of the training it hardly moved: that is the rate's fault
    works = (learned.values > 0) & (falls.values > 0)
    if np.mean(works) < _MOST or float(np.median(falls.values)) > _LEAP:
        return None
    steps = np.arange(trace.steps)
    total = float(np.interp(steps, learned.steps, learned.values).sum())
    late = others.values[-_LOOKS:]
    return _Learned(total, float(np.mean(late)), float(np.std(late, ddof=1)) / math.sqrt(late.size))


def _way(trace: Recording) -> float:
    """How far layers went, in parts of their weights (of a table: of the rows that go): the middle one."""
    ways = [(trace.last("drift", node.name), used(trace, node)) for node in moving(trace)]
    known = [way / math.sqrt(part) for way, part in ways if way is not None and math.isfinite(way)]
    return float(np.median(known)) if known else math.inf


def _typical(series: Series, steps: int) -> float:
    """The middle of the values over all steps: more of them are measured early."""
    return float(np.median(np.interp(np.arange(steps), series.steps, series.values)))
