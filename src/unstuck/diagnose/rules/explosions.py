"""Rules on numbers that run away: gradients that explode, NaN and infinity."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import names, on_one_way, per_layer, position, typical, weight_layers
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.paths import total_gradient
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording

_BIRTHS = {
    "log": "the logarithm of 0 or of a negative number",
    "div": "a division by 0",
    "reciprocal": "a division by 0",
    "sqrt": "a square root of 0 (whose slope is infinite) or of a negative number",
    "rsqrt": "one over the square root of 0",
    "norm": "the slope of a norm at 0",
    "linalgvectornorm": "the slope of a norm at 0",
    "exp": "an exponential that overflows",
    "pow": "a power of 0 or of a negative number, or one that overflows",
    "acos": "an arc cosine at 1 or beyond",
    "asin": "an arc sine at 1 or beyond",
    "std": "the slope of a standard deviation at 0, or a sample of one",
}

_MANY = 0.02
"""Share of an evaluation's answers from which on their being NaN is no matter of a single odd sample."""


@rule(
    "GRD002",
    "exploding-gradient",
    severity="error",
    needs=("grad_norm", "loss"),
    explains={
        "LRN007": "any",
        "ACT002": "any",
        "LRN001": "any",
        "GRD004": "any",
        "GRD003": "lasting",
        "ACT003": "any",
        "ACT005": "any",
        "OUT010": "any",
    },
)
def exploding_gradient(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The gradient grows geometrically towards the input, or jumps by orders of magnitude at one step."""
    ended = outcome(trace, bounds.outcome)
    if ended.word not in {"diverged", "not learned"}:
        return []
    return _over_depth(trace, bounds) or _at_once(trace, bounds)


def _over_depth(trace: Recording, bounds: Bounds) -> list[Finding]:
    """At the start, before any update: the learning rate has no part in it."""
    layers = on_one_way(trace, [node for node in weight_layers(trace) if node.trainable])
    if len(layers) < 3 or _clipped(trace):
        return []
    norms = [trace.first("grad_norm", node.name) or 0.0 for node in layers]
    if not all(np.isfinite(norms)) or min(norms) == 0:
        return []
    factor = per_layer(norms[-1], norms[0], len(layers))
    # without the first layer too: large inputs make its gradient large, and only that one
    inner = per_layer(norms[-1], norms[1], len(layers) - 1)
    if norms[0] < bounds.gradient.explodes * norms[-1] or min(factor, inner) < bounds.gradient.grows:
        return []
    first, last = layers[0], layers[-1]
    return [
        Finding(
            code="GRD002",
            name="exploding-gradient",
            severity="error",
            layer=first.name,
            step=0,
            confidence=0.85,
            summary=(
                f"Before the first update the gradient grows by a factor of {factor:.1f} per layer on its "
                f"way back: its norm is {norms[-1]:.2g} at {names([last])} and {norms[0]:.2g} at "
                f"{names([first])}. A rate that suits the last layers throws the first ones far away."
            ),
            evidence=(
                Evidence("grad_norm", norms[0], ">=", bounds.gradient.explodes * norms[-1], first.name),
                Evidence("grad_norm", norms[-1], layer=last.name),
            ),
            rival=(
                "LRN001 learning-rate-too-high: a rate that is too high makes gradients large after some "
                "updates; these were so before the first one."
            ),
            location=first.location,
        )
    ]


def _at_once(trace: Recording, bounds: Bounds) -> list[Finding]:
    """After a calm stretch with small steps one batch's gradient is orders of magnitude larger: a cliff."""
    total = total_gradient(trace)
    first = trace.first("loss")
    values = total.values
    finite = values.size if np.isfinite(values).all() else int(np.argmin(np.isfinite(values)))
    leaps = (np.diff(total.steps) == 1) & (values[1:] >= bounds.gradient.jump * values[:-1])
    for i in (np.flatnonzero(leaps) + 1).tolist():
        if i < 10:
            continue
        if i >= finite:
            break
        now, before = float(values[i]), values[:i]
        usual = float(np.median(before))
        if usual == 0 or now < bounds.gradient.spike * usual:
            continue
        step = int(total.steps[i])
        losses = trace.series("loss")
        calm = losses.values[losses.steps < step]
        ratios = [_before(trace, "update_ratio", node.name, step) for node in weight_layers(trace)]
        largest = max((ratio for ratio in ratios if math.isfinite(ratio)), default=math.nan)
        if first is None or not float(np.median(calm)) <= first or not largest < bounds.gradient.calm:
            continue
        ratio = trace.at("clip_ratio", "", step)
        if ratio is not None and ratio < 1:
            continue
        layer = max(trace.layers("grad_norm"), key=lambda name: trace.at("grad_norm", name, step) or 0.0)
        node = trace.structure.node(layer)
        return [
            Finding(
                code="GRD002",
                name="exploding-gradient",
                severity="error",
                layer=layer,
                step=step,
                confidence=0.75,
                summary=(
                    f"At step {step} the gradient's norm jumps to {now:.2g}, {now / usual:.0f} times what "
                    f"was usual before, and the run does not recover. Most of it is in {layer}."
                ),
                evidence=(Evidence("grad_norm", now, ">=", bounds.gradient.spike * usual),),
                rival=(
                    "LRN001 learning-rate-too-high: until that step the loss fell and no update exceeded "
                    f"{largest:.1g} of a layer's weights."
                ),
                location=node.location if node is not None else None,
            )
        ]
    return []


def _before(trace: Recording, quantity: str, layer: str, step: int) -> float:
    """Median over the steps before; NaN when there is none."""
    series = trace.series(quantity, layer)
    values = series.values[series.steps < step]
    return float(np.median(values)) if values.size else math.nan


def _clipped(trace: Recording) -> bool:
    """Whether gradients are usually cut back before they are used."""
    return typical(trace, "clip_ratio") < 1


@rule(
    "GRD004",
    "non-finite",
    severity="error",
    explains={
        "ACT002": "any",
        "GRD003": "lasting",
        "ACT003": "any",
        "ACT005": "any",
        "LRN008": "any",
        "OUT010": "any",
    },
    from_step_0=False,
    preview=False,
)
def non_finite(trace: Recording, bounds: Bounds) -> list[Finding]:
    """NaN or infinity appeared: where it was born, and when."""
    if not (trace.has("loss") or trace.has("nonfinite") or trace.has("loss_finite")):
        raise NotChecked("neither the loss nor the weights were measured")
    bad_losses = _steps_with_bad_loss(trace)
    lasting = {layer: since for layer in trace.layers("nonfinite") if (since := _lasts(trace, layer)) >= 0}
    if not bad_losses and not lasting:
        return _in_evaluation(trace)  # a single overflow in a gradient is what loss scaling lives with
    first = min([*bad_losses, *lasting.values()])
    lost = bool(bad_losses) and bad_losses[-1] == _last_loss_step(trace)
    ended = outcome(trace, bounds.outcome)
    born, at = _birthplace(trace, first, lasting)
    node = trace.structure.node(born.removesuffix(".bias")) if born else None
    if lost:
        severity: Severity = "error"
        words = "and the loss ends so"
    elif lasting:
        severity, words = "warning", "and it stays in the weights or gradients"
    else:
        severity = "info" if ended.word == "learned" else "warning"
        words = "and the run went on from there"
    kind = "" if node is None else _BIRTHS.get(node.type.lower().replace("_", "").rstrip("0123456789"), "")
    where = f" It was born in {born}" if born else ""
    why = f", which is {kind}." if kind and where else "." if where else ""
    evidence = [Evidence("loss", trace.at("loss", "", first))] if trace.has("loss") else []
    if born and trace.has("origin.nonfinite", born):
        evidence.append(Evidence("origin.nonfinite", float(at), layer=born))
    return [
        Finding(
            code="GRD004",
            name="non-finite",
            severity=severity,
            layer=born.removesuffix(".bias") if born else None,
            step=at,
            confidence=0.97 if lost else 0.8,
            summary=f"A number is NaN or infinite from step {at} on, {words}.{where}{why}",
            evidence=tuple(evidence),
            rival=(
                "LRN001 learning-rate-too-high: no update had been made yet."
                if at == 0
                else "LRN001 learning-rate-too-high: then the loss would grow over several steps first."
            ),
            location=node.location if node is not None else None,
        )
    ]


def _in_evaluation(trace: Recording) -> list[Finding]:
    """The training is sound, and samples that the program evaluates it with get NaN for an answer."""
    shares = trace.series("evaluation.nan")
    share = float(shares.values[-1]) if shares.values.size else 0.0
    if not share > 0:
        return []
    return [
        Finding(
            code="GRD004",
            name="non-finite",
            severity="warning" if share >= _MANY else "info",
            layer=None,
            step=int(shares.steps[-1]),
            confidence=0.9,
            summary=(
                "The training is finite, but in the program's own evaluation the answer is NaN for "
                f"{share:.0%} of the samples: any comparison with them is false. Look for what is "
                "different there: NaN among the inputs, a row that is masked throughout, one sample alone in "
                "a batch, a layer that does something else after eval()."
            ),
            evidence=(Evidence("evaluation.nan", share, ">=", _MANY),),
            rival="DAT003 non-finite-data: there the training is given NaN, too.",
        )
    ]


def _steps_with_bad_loss(trace: Recording) -> list[int]:
    losses, flags = trace.series("loss"), trace.series("loss_finite")
    bad = set(losses.steps[~np.isfinite(losses.values)].tolist()) | set(
        flags.steps[flags.values == 0].tolist()
    )
    return sorted(int(step) for step in bad)


def _last_loss_step(trace: Recording) -> int:
    taken = (trace.series(name).steps for name in ("loss", "loss_finite"))
    return max(int(steps[-1]) for steps in taken if steps.size)


def _lasts(trace: Recording, layer: str) -> int:
    """The step since which the layer is not finite to its end, for three measurements at least; else -1."""
    series = trace.series("nonfinite", layer)
    sound = np.flatnonzero(series.values == 0)
    since = int(sound[-1]) + 1 if sound.size else 0
    return int(series.steps[since]) if series.steps.size - since >= 3 else -1


def _birthplace(trace: Recording, first: int, lasting: dict[str, int]) -> tuple[str, int]:
    """The operation or layer where it began, '' when unknown, and the step."""
    births = [
        (int(value), position(trace, layer), layer)
        for layer in trace.layers("origin.nonfinite")
        if (value := trace.last("origin.nonfinite", layer)) is not None and 0 <= value <= first
    ]
    if births:
        step, _, layer = max(births, key=lambda birth: (birth[0], -birth[1]))
        return layer, step
    affected = [
        layer for layer in trace.layers("nonfinite") if (trace.at("nonfinite", layer, first) or 0.0) > 0
    ] or [layer for layer, since in lasting.items() if since == first]
    # Within one backward pass it spreads: where several layers have it, none can be named.
    owners = {layer.removesuffix(".bias") for layer in affected}
    return (owners.pop() if len(owners) == 1 else ""), first
