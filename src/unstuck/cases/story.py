"""What a case returns: readings of a question, each with its diagnosis and what was tried. Data only."""

from dataclasses import dataclass, replace

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.prove.trial import TrialResult
from unstuck.study.odds import Odds
from unstuck.trace.recording import Series


@dataclass(frozen=True)
class LayerStory:
    """One trained layer (or the output's bias) over one training."""

    name: str
    type: str
    drift: float | None
    """|W_end - W_0| / |W_0|; None for weights that start at 0."""
    grad_first: float | None
    """Norm of the gradient at the first step."""
    update: float | None
    """Median over the measured steps of the root mean square change of one weight."""
    update_ratio: float | None
    """Median of |change| / |weights| a step, on data in 0..1."""
    update_centred: float | None
    """The same as `update`, on data in -1..1."""
    update_ratio_centred: float | None
    """The same as `update_ratio`, on data in -1..1."""
    share: float | None
    """Share of the fall of the training loss; all rows sum to 1."""
    frozen_loss: float | None
    """Final loss of the same training with this layer frozen at its start; None for the bias's row."""


@dataclass(frozen=True)
class LossStory:
    """How far the loss fell, and how much of that a constant prediction explains."""

    start: float
    end: float
    constant: float
    """Loss of the best constant prediction."""
    accuracy: float
    """On what `measured_on` says."""
    curve: Series
    """Loss over the training data, or a fixed sample of them, by step."""
    measured_on: str = "held-out images"

    @property
    def by_constant(self) -> float:
        """Share of the fall that the best constant prediction explains, 0..1."""
        fall = self.start - self.end
        return min(1.0, max(0.0, (self.start - self.constant) / fall)) if fall > 0 else 0.0

    @property
    def beyond(self) -> float:
        """What was learned beyond the constant prediction: the rest of the fall (negative: not even that)."""
        return self.constant - self.end

    def carried(self, frozen_loss: float) -> float | None:
        """Share of what was learned beyond the constant prediction that is lost with one layer frozen."""
        return (frozen_loss - self.end) / self.beyond if self.beyond > 1e-3 * self.constant else None


@dataclass(frozen=True)
class RateStory:
    """What one learning rate does."""

    lr: float
    loss: float
    """Final training loss; infinite when it diverged."""
    accuracy: float
    saturated: float
    """Share of outputs at an end of their sigmoid, in the hidden layer that has most of them."""
    outcome: str


@dataclass(frozen=True)
class Reading:
    """One way to read the question: a network and a learning rate."""

    key: str
    """Short name, such as "V2"."""
    title: str
    about: str
    """What this reading is for, in a sentence."""
    diagnosis: Diagnosis
    loss: LossStory
    layers: tuple[LayerStory, ...]
    trial: TrialResult | None = None
    rates: tuple[RateStory, ...] = ()


@dataclass(frozen=True)
class Facts:
    """A table of what was found, the first column of words."""

    title: str
    about: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text: tuple[int, ...] = ()
    """Further columns of words."""


@dataclass(frozen=True)
class CaseResult:
    """The answer to a case: the main reading first."""

    name: str
    question: str
    data: str
    """What was trained on, in words."""
    readings: tuple[Reading, ...]
    conclusions: tuple[str, ...]
    """Lines that a person can act on."""
    seeds: int
    seconds: float
    quick: bool
    unit: str = ""
    """What losses are measured in."""
    odds: tuple[Odds, ...] = ()
    """Of trainings that differ only in their seeds."""
    facts: tuple[Facts, ...] = ()

    @property
    def main(self) -> Reading:
        """The reading that the question most probably means."""
        return self.readings[0]

    @property
    def diagnosis(self) -> Diagnosis:
        """The main reading's diagnosis, those of the others as its variants."""
        return replace(self.main.diagnosis, variants=tuple(r.diagnosis for r in self.readings[1:]))
