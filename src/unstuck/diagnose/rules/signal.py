"""Rule on data whose inputs say nothing about their targets."""

import math

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording


@rule(
    "DAT008",
    "no-signal",
    severity="warning",
    needs=("probe.signal", "probe.signal_p", "probe.signal_samples", "probe.overfit"),
    from_step_0=False,
)
def no_signal(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Neighbours and a linear model find no more in the targets than in dealt-out ones."""
    names = ("probe.signal", "probe.signal_p", "probe.signal_samples", "probe.overfit")
    effect, chance, samples, by_heart = (
        math.nan if value is None else value for value in map(trace.first, names)
    )
    if not all(map(math.isfinite, (effect, chance, samples, by_heart))):
        raise NotChecked("what simple models find in the targets was not measured")
    if trace.meta.examined or outcome(trace, bounds.outcome).word != "not learned":
        return []
    if by_heart > bounds.outcome.well_learned:
        return []  # what cannot even learn one batch by heart has another fault
    if chance <= bounds.data.chance or effect > bounds.data.effect:
        return []
    return [
        Finding(
            code="DAT008",
            name="no-signal",
            severity="info",
            layer=None,
            step=0,
            confidence=0.5,
            summary=(
                f"One batch can be learned by heart (to {by_heart:.0%} of its loss), the data cannot; and on "
                f"{samples:.0f} samples neither neighbours nor a linear model tell left-out targets "
                f"better than dealt-out ones (p = {chance:.2f}). The inputs may say nothing about the "
                "targets. Only what both of them are blind to, such as parities, could be there still."
            ),
            evidence=(
                Evidence("probe.signal_p", chance, ">", bounds.data.chance),
                Evidence("probe.signal", effect, "<=", bounds.data.effect),
                Evidence("probe.overfit", by_heart, "<=", bounds.outcome.well_learned),
            ),
            rival=(
                "DAT004 misaligned-labels: inputs and labels shuffled apart look the same; a few samples "
                "beside their labels separate the two."
            ),
        )
    ]
