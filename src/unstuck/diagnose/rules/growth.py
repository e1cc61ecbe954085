"""Rules on networks that grow with a stream: added units, new classes against old, the optimiser's state."""

import math

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording

_NEVER_WORKED = (
    "ACT002 killed-units: those worked at first; these had no gradient at any update, for the optimiser's "
    "second moments are 0."
)


_OF_STREAMS = ("grown_units", "new_accuracy", "earlier_accuracy", "state_kept")


def _grows(trace: Recording) -> bool:
    """Whether classes or units are added to the network, or that was measured of it."""
    return trace.meta.grows or any(trace.has(quantity) for quantity in _OF_STREAMS)


@rule(
    "GRW001",
    "dead-grown-unit",
    severity="warning",
    needs=("grown_idle", "grown_age"),
    from_step_0=False,
    concerns=_grows,
)
def dead_grown_unit(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Units that were added later never got a gradient: silent for every input, or zero on both sides."""
    found = list[Finding]()
    limit = bounds.growth
    for layer in trace.layers("grown_idle"):
        idle, age = trace.last("grown_idle", layer), trace.last("grown_age", layer)
        count = trace.last("grown_units", layer) or 0.0
        if idle is None or age is None or not (age >= limit.age and limit.idle <= idle <= 1):
            continue
        if not math.isfinite(age) or not math.isfinite(count):
            continue
        found.append(
            Finding(
                code="GRW001",
                name="dead-grown-unit",
                severity="warning",
                layer=layer,
                step=int(trace.series("grown_idle", layer).steps[0]),
                confidence=0.9,
                summary=(
                    f"{round(idle * count)} of the {count:.0f} units that were added to {layer} never got a "
                    f"gradient in {age:.0f} updates: they cannot learn. Start them with random weights that "
                    "come in and zeros that go out, or split units that work."
                ),
                evidence=(
                    Evidence("grown_idle", idle, ">=", limit.idle, layer),
                    Evidence("grown_age", age, ">=", limit.age, layer),
                    Evidence("grown_units", count, layer=layer),
                ),
                rival=_NEVER_WORKED,
            )
        )
    return found


@rule(
    "GRW002",
    "new-class-bias",
    severity="warning",
    needs=("new_accuracy", "new_apart"),
    explains={"GRW003": "any"},
    from_step_0=False,
    concerns=_grows,
)
def new_class_bias(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Classes of one age outvote the others, which the network can still tell from each other."""
    step = _end(trace, bounds)
    limit = bounds.growth
    norm = trace.at("new_norm", "", step)
    lost, apart, best = (
        trace.at(name, "", step) for name in ("earlier_lost", "earlier_apart", "earlier_best")
    )
    if (
        lost is not None
        and apart is not None
        and best
        and lost > limit.outvoted
        and apart >= limit.known * best
    ):
        return [
            _outvoted(
                "earlier",
                step,
                f"{lost:.0%} of the samples of earlier classes are taken for the classes of the last call, "
                f"although {apart:.0%} of them are told right when only earlier classes can be answered: "
                "they are not forgotten but outvoted. Keep a memory, train on the softmax of the present "
                "classes only (masked), or both.",
                (
                    Evidence("earlier_lost", lost, ">", limit.outvoted),
                    Evidence("earlier_apart", apart, ">=", limit.known * best),
                    Evidence("new_norm", norm),
                ),
            )
        ]
    accuracy, alone = trace.at("new_accuracy", "", step), trace.at("new_apart", "", step)
    new_lost = None if accuracy is None or alone is None else alone - accuracy
    if new_lost is not None and new_lost > limit.outvoted:
        return [
            _outvoted(
                "new",
                step,
                f"The classes of the last call are told right in {alone:.0%} of their samples when only they "
                f"can be answered, but in {accuracy:.0%} among all: earlier classes outvote them. Train "
                "longer on them, or scale the output weights of both to the same norm.",
                (
                    Evidence("new_apart", alone),
                    Evidence("new_accuracy", accuracy),
                    Evidence("new_norm", norm),
                ),
            )
        ]
    return []


def _outvoted(which: str, step: int, summary: str, evidence: tuple[Evidence, ...]) -> Finding:
    rival = (
        "GRW003 forgetting in the hidden layers: then these classes could not be told from each other either."
        if which == "earlier"
        else "Too short a training: then the new classes could not be told from each other either."
    )
    return Finding(
        code="GRW002",
        name="new-class-bias",
        severity="warning",
        layer=None,
        step=step,
        confidence=0.8,
        summary=summary,
        evidence=evidence,
        rival=rival,
    )


@rule(
    "GRW003",
    "forgetting",
    severity="warning",
    needs=("earlier_accuracy", "earlier_best"),
    from_step_0=False,
    concerns=_grows,
)
def forgetting(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The accuracy on classes that came earlier falls while the stream goes on."""
    step = _end(trace, bounds)
    now, best = trace.at("earlier_accuracy", "", step), trace.at("earlier_best", "", step)
    if now is None or best is None or best - now <= bounds.growth.fall:
        return []
    apart = trace.at("earlier_apart", "", step)
    words = "" if apart is None else f" Among each other {apart:.0%} of them are still told right."
    return [
        Finding(
            code="GRW003",
            name="forgetting",
            severity="warning",
            layer=None,
            step=step,
            confidence=0.9,
            summary=(
                f"Earlier classes were told right in {best:.0%} of their samples, now in {now:.0%}: the "
                f"network forgets them while it learns others.{words} Keep a memory of past "
                "samples, or a larger one."
            ),
            evidence=(
                Evidence("earlier_best", best),
                Evidence("earlier_accuracy", now, "<", best - bounds.growth.fall),
                Evidence("earlier_apart", apart),
            ),
            rival=(
                "LRN001 learning-rate-too-high: then the present classes suffer too; their accuracy is "
                f"{trace.at('new_accuracy', '', step) or 0:.0%}."
            ),
        )
    ]


@rule(
    "GRW004",
    "lost-optimizer-state",
    severity="warning",
    needs=("state_kept",),
    from_step_0=False,
    concerns=_grows,
)
def lost_optimizer_state(trace: Recording, bounds: Bounds) -> list[Finding]:
    """What the optimiser knew of the old weights was gone when the network had grown."""
    series = trace.series("state_kept")
    lost = series.values < bounds.growth.kept
    if not lost.any():
        return []
    step, kept = int(series.steps[lost][0]), float(series.values[lost][0])
    times = int(lost.sum())
    return [
        Finding(
            code="GRW004",
            name="lost-optimizer-state",
            severity="warning",
            layer=None,
            step=step,
            confidence=0.9,
            summary=(
                f"When the network grew, the optimiser kept {kept:.0%} of its second moments "
                f"({times} of {series.values.size} times less than {bounds.growth.kept:.0%}): old weights "
                "make the first steps of a new training again. Grow the state with the weights."
            ),
            evidence=(Evidence("state_kept", kept, "<", bounds.growth.kept),),
            rival=(
                "LRN001 learning-rate-too-high: its jumps come at any step; this one comes at step "
                f"{step}, where the network grew, and the state was smaller right after it than before."
            ),
        )
    ]


def _end(trace: Recording, bounds: Bounds) -> int:
    """The last step at which earlier and present classes were told apart.

    Raises:
        NotChecked: so few updates since new classes came that nothing can be said: the first ones of a new
            class shake all others.
    """
    series, grown = trace.series("new_accuracy"), trace.series("state_kept").steps
    began = int(grown[-1]) if grown.size else 0
    if not series.steps.size or trace.steps - began < bounds.growth.updates:
        raise NotChecked(f"fewer than {bounds.growth.updates:.0f} updates were seen since the network grew")
    last = trace.series("accuracy").steps
    if last.size and last[-1] != series.steps[-1]:
        raise NotChecked("the last call trained all classes: none is earlier than the others")
    return int(series.steps[-1])
