"""Rule on data whose inputs say nothing about their targets."""

import math
from typing import NamedTuple

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording


class _Read(NamedTuple):
    """What simple models make of samples and their targets; NaN: not measured."""

    effect: float
    chance: float
    samples: float
    source: str
    """The quantity's name up to the signal."""

    @classmethod
    def of(cls, trace: Recording, source: str) -> "_Read":
        effect, chance, samples = (
            math.nan if value is None else value
            for value in map(
                trace.last, (f"{source}.signal", f"{source}.signal_p", f"{source}.signal_samples")
            )
        )
        return cls(effect, chance, samples, source)

    @property
    def known(self) -> bool:
        return all(map(math.isfinite, self[:3]))

    def nothing(self, bounds: Bounds) -> bool:
        """Whether no more is found than in targets that were dealt out."""
        return self.chance > bounds.data.chance and self.effect <= bounds.data.effect


@rule(
    "DAT008",
    "no-signal",
    severity="warning",
    explains={"OUT010": "any", "ACT002": "any"},  # units die where nothing holds them
    from_step_0=False,
)
def no_signal(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Neighbours and a linear model find no more in the targets than in dealt-out ones."""
    ended = outcome(trace, bounds.outcome)
    seen, probed = _Read.of(trace, "data"), _Read.of(trace, "probe")
    by_heart_only = ended.word == "learned" and falls_short(ended, bounds.outcome) and seen.known
    if ended.word == "learned" and not by_heart_only:
        return []  # there is something to learn, and nothing need be measured
    read = seen if seen.known else probed
    if not read.known:
        raise NotChecked(
            "what simple models find in the targets was not measured: that needs 200 different samples, each "
            "with its target, and a single input"
        )
    learned = trace.first("probe.overfit")
    by_heart = math.nan if learned is None else learned
    measured = math.isfinite(by_heart)
    if read is probed and not measured:
        raise NotChecked("it was not measured whether one batch can be learned by heart")
    if trace.meta.examined or ended.word not in {"not learned", "learned"}:
        return []
    if by_heart > bounds.outcome.well_learned:
        return []  # what cannot even learn one batch by heart has another fault
    if not read.nothing(bounds):
        return []
    heart = f"One batch can be learned by heart (to {by_heart:.0%} of its loss), the data cannot. "
    evidence = [
        Evidence(f"{read.source}.signal_p", read.chance, ">", bounds.data.chance),
        Evidence(f"{read.source}.signal", read.effect, "<=", bounds.data.effect),
    ]
    if measured:
        evidence.append(Evidence("probe.overfit", by_heart, "<=", bounds.outcome.well_learned))
    return [
        Finding(
            code="DAT008",
            name="no-signal",
            severity="warning" if read is seen else "info",
            layer=None,
            step=0,
            confidence=0.6 if read is seen else 0.5,
            summary=(
                (heart if measured else "")
                + (f"Little was learned ({ended.because}), perhaps by heart. " if by_heart_only else "")
                + f"On {read.samples:.0f} samples neither neighbours nor a linear model tell left-out "
                f"targets better than targets dealt out at random (p = {read.chance:.2f}): the inputs seem "
                "to say nothing about the targets. Look at a few samples with their targets: were the two "
                "shuffled, sorted or filtered apart? Only what both models are blind to, such as parities "
                "or the order of words, could be there still."
            ),
            evidence=tuple(evidence),
            rival=(
                "DAT004 misaligned-labels: inputs and labels shuffled apart look the same; a few samples "
                "beside their labels separate the two."
            ),
        )
    ]
