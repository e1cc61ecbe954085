"""Rule on steps that follow the choice of their samples more than the data."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import line, typical
from unstuck.diagnose.outcome import classifies, falls_short, learning_curve, outcome
from unstuck.diagnose.paths import total_gradient
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording

_NEAR = 10
"""Steps before and after a measured one whose losses are averaged."""


@rule(
    "LRN007",
    "noisy-gradient",
    severity="warning",
    needs=("loss", "lr", "grad_norm", "grad_cosine"),
    explains={"OUT010": "any"},
    from_step_0=False,
)
def noisy_gradient(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The steps' noise keeps the loss up: the batch is too small for this learning rate."""
    if trace.meta.optimizer != "SGD":
        raise NotChecked("what the noise of a step costs is known for SGD only")
    ended = outcome(trace, bounds.outcome)
    if trace.meta.examined or trace.steps < 5 * bounds.outcome.few_steps:
        raise NotChecked("too few steps were seen")
    if ended.word == "diverged" or not falls_short(ended, bounds.outcome) or _falls(trace, bounds):
        return []
    if _all_at_once(trace):
        return []  # every batch is the same: no choice, no noise
    cosine, excess = typical(trace, "grad_cosine"), _excess(trace)
    if not abs(cosine) <= bounds.noise.cosine or not excess >= bounds.noise.excess:
        return []
    share, same, start = trace.last("probe.noise"), trace.last("probe.same"), trace.last("probe.start")
    if share is not None and not share >= bounds.noise.share:
        return []  # the halves of a batch agree: something else turns the gradient
    if same is not None and start is not None and not same < start:
        return []  # it gets nowhere even where no sample is chosen: the rate is too high by itself (LRN001)
    probed = share is not None
    return [
        Finding(
            code="LRN007",
            name="noisy-gradient",
            severity="info" if classifies(trace, bounds.output.some) else "warning",
            layer=None,
            step=0,
            confidence=0.8 if probed else 0.6,
            summary=(
                f"Gradients of different steps have a cosine of {cosine:.2g}: each batch pulls another way. "
                f"At this learning rate the steps' noise alone adds about {excess:.1g} times the loss that "
                f"is there; {ended.because or 'it does not get far'}, and the loss no longer falls. Larger "
                "batches or a smaller rate average it out."
            ),
            evidence=(
                Evidence("grad_cosine", cosine, "<=", bounds.noise.cosine),
                Evidence("probe.noise", share, ">=", bounds.noise.share)
                if probed
                else Evidence("grad_norm", typical(trace, "grad_norm", trace.layers("grad_norm")[-1])),
            ),
            rival=(
                "LRN001 learning-rate-too-high: there the loss does not fall on one batch that is repeated "
                "either"
                + (
                    f"; here it does, from {start:.3g} to {same:.3g}."
                    if same is not None and start is not None
                    else ". Only probes tell the two apart for sure."
                )
            ),
        )
    ]


def _excess(trace: Recording) -> float:
    r"""Part of the loss that the noise of the steps adds: a median over the measured steps.

    Near a minimum steps of size $\\eta$ with a gradient of variance $V$ keep the loss higher by about
    $\\eta V / 4$ (momentum $m$: $\\eta / (1 - m)$), whatever the curvature. The variance is that part of the
    squared norm that gradients of different steps do not share: $|g|^2 (1 - \\cos)$.
    """
    momentum = trace.meta.optimizer_options.get("momentum", 0.0)
    total, losses, rates = total_gradient(trace), trace.series("loss"), trace.series("lr")
    cosine = typical(trace, "grad_cosine")
    if not momentum < 1 or not rates.values.size or not math.isfinite(cosine):
        return math.nan
    places = np.searchsorted(losses.steps, total.steps)
    near = places[:, None] + np.arange(-_NEAR, _NEAR + 1)
    inside = (near >= 0) & (near < losses.values.size)
    around = np.where(inside, losses.values[np.clip(near, 0, losses.values.size - 1)], 0.0)
    rate = rates.values[np.minimum(np.searchsorted(rates.steps, total.steps), rates.values.size - 1)]
    with np.errstate(all="ignore"):  # what is no number is told by there being fewer parts than steps
        loss = np.abs(around.sum(axis=1) / inside.sum(axis=1))
        known = loss > 0
        parts = (rate / (1 - momentum) * total.values**2 * (1 - cosine) / 4 / loss)[known]
    return float(np.median(parts)) if parts.size and np.isfinite(parts).all() else math.nan


def _falls(trace: Recording, bounds: Bounds) -> bool:
    """Whether the loss still falls in the second half, by more than its own scatter."""
    curve = learning_curve(trace)
    late = curve.steps >= trace.steps / 2
    steps, values = curve.steps[late].astype(float), curve.values[late]
    if steps.size < 4 or not np.isfinite(values).all():
        return True  # nobody can say that it does not
    slope, error = line(steps, values)
    return -slope > bounds.steps.surely * error


def _all_at_once(trace: Recording) -> bool:
    """Whether each step sees all data."""
    repeats, batches = trace.series("repeat.batch").values[1:], trace.last("loader.batches")
    return batches == 1 or bool(repeats.size and np.mean(repeats == 1) > 0.5)
