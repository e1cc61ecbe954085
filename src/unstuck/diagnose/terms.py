"""Losses that are sums: a term that is not learned beside others that are, and why."""

import math
from typing import Final, NamedTuple

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import multiplying, names
from unstuck.trace.baseline import FUNCTIONS
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_PLACE: Final = "loss."
_LOOKS: Final = 5
"""Last measurements of which the mean counts; as many are needed at least."""
_FEWEST: Final = 3
"""Measurements of a loss that is no part of what is differentiated, at least."""
_SHARE: Final = 0.05
"""Part of the whole loss from which on a term counts."""
_DIFFERS: Final = 1e-6
"""Relative difference that is more than rounding."""
_ERRORS: Final = 2
"""Standard errors by which the one must differ from the other to be sure."""


class Term(NamedTuple):
    """A term of the loss, at the end of the training."""

    name: str
    first: float
    """Its value, as it was first measured."""
    last: float
    times: float
    """With the answers of other samples / with their own; 1 where the answers do not fit their samples."""
    error: float
    """Standard error of that."""
    lately: float
    """The same times, the lower of the last two."""
    share: float
    """Of the whole loss, without signs."""
    factor: float
    slope: bool
    """Whether a gradient passes through it."""
    own: bool
    """Whether a gradient of the program's own passes behind it: turned round, perhaps, to make it worse."""
    blind: bool
    """Whether whose answers they are makes no difference at all: a penalty that compares nothing."""

    @property
    def known(self) -> bool:
        """Whether it is one of PyTorch's own losses."""
        return self.name.partition(" ")[0] in FUNCTIONS


def of_loss(trace: Recording) -> list[Term]:
    """All terms of the loss, as far as they were measured often enough."""
    found: list[Term] = []
    for place in _places(trace, "term.loss"):
        series = [trace.series(f"term.{name}", place) for name in ("loss", "others", "factor", "slope")]
        own, others, factors, slopes = (one.values for one in series)
        if own.size < _LOOKS or len({own.size, others.size, factors.size, slopes.size}) > 1:
            return []
        if not all(np.isfinite(one).all() for one in (own, others, factors)):
            return []
        late, late_others = own[-_LOOKS:], others[-_LOOKS:]
        positive = bool((late > 0).all() and (late_others > 0).all())
        ratios = late_others / late if positive else np.full(_LOOKS, math.nan)
        found.append(
            Term(
                name=place.removeprefix(_PLACE),
                first=float(own[0]),
                last=float(np.mean(late)),
                times=float(np.mean(ratios)),
                error=float(np.std(ratios, ddof=1)) / math.sqrt(_LOOKS),
                lately=float(np.min(ratios[-2:])),
                share=float(np.mean(np.abs(factors[-_LOOKS:] * late))),
                factor=float(factors[-1]),
                slope=bool((slopes == 1).any()),
                own=bool((trace.series("term.own", place).values == 1).any()),
                blind=bool((np.abs(others - own) <= _DIFFERS * np.abs(own)).all()),
            )
        )
    total = sum(one.share for one in found)
    return [one._replace(share=one.share / total) for one in found] if total > 0 else []


def _places(trace: Recording, quantity: str) -> list[str]:
    """The rows of terms; what else may bear such a quantity in somebody's recording is none."""
    return [place for place in trace.layers(quantity) if place.startswith(_PLACE)]


def cut(trace: Recording, bounds: Bounds) -> Finding | None:
    """A term that is made of the answers, is not learned, and lets no gradient pass."""
    parts = of_loss(trace) if trace.steps >= bounds.outcome.few_steps else []
    for one in parts:
        if one.slope or one.share < _SHARE or not any(other.slope for other in parts):
            continue
        if one.times - _ERRORS * one.error > bounds.outcome.counts:
            continue  # learned by way of the others: it is there to be looked at
        return Finding(
            code="GRD003",
            name="no-gradient",
            severity="warning",
            layer=None,
            step=0,
            confidence=0.85,
            summary=(
                f"{_named(one, parts)}, lets no gradient pass: it was {one.first:.3g} at first and is "
                f"{one.last:.3g} at the end, and nothing that it measures is learned. Look for argmax, "
                "round, a comparison, `.detach()`, `.item()` or a new tensor on the way from the answers "
                "to it."
            ),
            evidence=(
                Evidence("term.slope", 0.0, "=", 0.0, f"{_PLACE}{one.name}"),
                Evidence("term.others", one.times * one.last, "<=", None, f"{_PLACE}{one.name}"),
            ),
            rival="A term that was only added to be watched belongs beside the loss, not into it.",
        )
    return None


def forgotten(trace: Recording, bounds: Bounds) -> Finding | None:
    """A loss that is computed in every step and not differentiated, of answers that nothing else teaches."""
    idle = [
        node
        for node in multiplying(trace)
        if node.trainable and node.optimised and not trace.series("grad_norm", node.name).values.size
    ]
    if trace.steps < bounds.outcome.few_steps or not idle:
        return None
    twice = next(iter(_places(trace, "term.twice")), None)
    if twice is not None and trace.series("term.twice", twice).values.size >= _FEWEST:
        words = (
            f": {twice.removeprefix(_PLACE)} compares one answer of the model with two different targets, "
            "and another answer with none. Is one of them written twice?"
        )
        return _idle(idle, words, Evidence("term.twice", 1.0, "=", 1.0, twice))
    for place in _places(trace, "term.forgotten"):
        values = trace.series("term.forgotten", place).values
        if values.size < _FEWEST or not np.isfinite(values).all():
            continue
        words = (
            f", and a {place.removeprefix(_PLACE)} is computed in each step that is no part of the loss: it "
            f"went from {values[0]:.3g} to {values[-1]:.3g}, as it happens. Add it to what `backward` is "
            "called on."
        )
        return _idle(idle, words, Evidence("term.forgotten", float(values[-1]), "", None, place))
    return None


def _idle(layers: list[Node], words: str, evidence: Evidence) -> Finding:
    """Layers that should be trained, and why nothing does so."""
    return Finding(
        code="GRD003",
        name="no-gradient",
        severity="warning",
        layer=layers[-1].name,
        step=0,
        confidence=0.85,
        summary=f"No gradient ever reaches {names(layers)}{words}",
        evidence=(evidence,),
        rival="A layer that is not to be trained need not be given to the optimiser (LRN006).",
        location=layers[-1].location,
    )


def maximised(trace: Recording, bounds: Bounds) -> Finding | None:
    """One of PyTorch's losses that enters the sum with a minus, and runs away."""
    parts = of_loss(trace) if trace.steps >= bounds.outcome.few_steps else []
    for one in parts:
        if one.factor >= 0 or not one.known or not one.slope:
            continue
        limit = bounds.outcome.exploded * one.first
        if not one.last > limit > 0:
            continue
        return Finding(
            code="OUT009",
            name="flipped-sign",
            severity="error",
            layer=None,
            step=0,
            confidence=0.9,
            summary=(
                f"{_named(one, parts)}, enters the loss with the factor {one.factor:.3g} and is driven up: "
                f"from {one.first:.3g} to {one.last:.3g}. It is 0 where the answers are right: add it, with "
                "a factor above 0."
            ),
            evidence=(Evidence("term.loss", one.last, ">", limit, f"{_PLACE}{one.name}"),),
            rival=(
                "What is made worse on purpose (an opponent's loss) stays near that of a guess; this one has "
                "no bound."
            ),
        )
    return None


def left_out(trace: Recording, bounds: Bounds) -> Finding | None:
    """A loss among several whose answers do not fit their samples at the end, while another's do."""
    parts = of_loss(trace) if trace.steps >= bounds.outcome.few_steps else []
    fitting = [
        one for one in parts if one.known and one.slope and one.lately >= 1 / bounds.outcome.well_learned
    ]
    if not fitting:
        return None
    best = max(fitting, key=lambda one: one.lately)
    for one in parts:
        if not one.known or not one.slope or one.blind or one.share < _SHARE:
            continue
        if one.factor <= 0 or one.own:
            continue  # it is made worse on purpose, or may be
        if not one.times + _ERRORS * one.error <= bounds.outcome.counts:
            continue
        return Finding(
            code="OUT010",
            name="constant-prediction",
            severity="warning",
            layer=None,
            step=max(trace.steps - 1, 0),
            confidence=0.7,
            summary=(
                f"{_named(one, parts)}, was not learned: with the answers of other samples it is "
                f"{one.times:.3g} times as large at the end, as if they were dealt out. {best.name} was, it "
                f"would be {best.lately:.3g} times as large. The sum of both hides that."
            ),
            evidence=(
                Evidence("term.others", one.times * one.last, "<=", None, f"{_PLACE}{one.name}"),
                Evidence("term.loss", one.last, "", None, f"{_PLACE}{one.name}"),
            ),
            rival=(
                "Targets that have nothing to do with the inputs (DAT004, DAT008) cannot be learned by "
                "anybody; or the factor of that term is far too small beside the other's."
            ),
        )
    return None


def _named(one: Term, parts: list[Term]) -> str:
    return f"{one.name}, one of the {len(parts)} terms of the loss"
