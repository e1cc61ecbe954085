"""A finding: a named cause, where it was seen, and the numbers that show it."""

from typing import Literal

import msgspec

from unstuck.trace.structure import Location

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


class Evidence(msgspec.Struct, frozen=True):
    """A measured number beside the bound it crossed: `value` `relation` `bound`."""

    quantity: str
    value: float | None
    relation: Literal["<", ">", "=", "<=", ">=", ""] = ""
    bound: float | None = None
    layer: str | None = None


class Consequence(msgspec.Struct, frozen=True):
    """A finding that is explained by another and stands under it."""

    code: str
    layer: str | None
    name: str = ""
    summary: str = ""


class TreatmentRef(msgspec.Struct, frozen=True):
    """A treatment as a finding proposes it: its id and, in words, what it changes."""

    id: str
    summary: str


class ArmCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many trainings of one arm of a trial succeeded; `treatment` where the arm has one of its own."""

    successes: int
    trials: int
    treatment: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of a controlled trial of one treatment, proposed for one rule's finding."""

    treatment: str
    code: str = msgspec.field(name="for")
    before: ArmCount
    after: ArmCount
    difference: tuple[float, float]
    """Interval of the difference of the probabilities of success, after - before."""
    verdict: Literal["proved", "harmful", "not shown"]
    arms: dict[str, ArmCount] = msgspec.field(default_factory=dict[str, ArmCount])
    """The other arms, by name: "sham" (a change that should do nothing), "rival" (the rival's treatment)."""


class Finding(msgspec.Struct, frozen=True):
    """What a rule returns. The diagnosis adds consequences, treatments and rank."""

    code: str
    name: str
    severity: Severity
    layer: str | None
    step: int
    confidence: float
    summary: str
    evidence: tuple[Evidence, ...] = ()
    rival: str = ""
    """The nearest other explanation and the measurement that speaks against it, in one sentence."""
    location: Location | None = None
    consequences: tuple[Consequence, ...] = ()
    treatments: tuple[TreatmentRef, ...] = ()
    apart: tuple[str, ...] = ()
    """Beginnings of the codes of causes that cannot have produced this evidence ("": none can): an option of
    the program, what was there before the first step. It is not folded under these."""
    demoted: str = ""
    """Why this is no longer listed as a root cause (its own trial changed nothing), else ''."""

    def stands_apart(self, cause: str) -> bool:
        """Whether a cause of this code cannot have produced the evidence."""
        return any(cause.startswith(beginning) for beginning in self.apart)

    @property
    def url(self) -> str:
        """Page of the rule, relative to the documentation's root."""
        return f"docs/rules/{self.name}"
