"""The diagnosis: all rules on one recording, causes in order, and whether it trains."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from unstuck import wiring
from unstuck.diagnose.applied import Skipped, applied, beside
from unstuck.diagnose.attribution import Passage, passages
from unstuck.diagnose.bounds import Bounds, load_bounds
from unstuck.diagnose.causes import fold
from unstuck.diagnose.finding import SEVERITIES, ArmCount, Evidence, Finding, Verdict
from unstuck.diagnose.handwritten import CODE, wrong_gradients_of
from unstuck.diagnose.lottery import lottery_of
from unstuck.diagnose.measured import typical
from unstuck.diagnose.outcome import Outcome, excused, outcome
from unstuck.diagnose.proposals import propose
from unstuck.diagnose.registry import chosen
from unstuck.gradcheck.report import Report
from unstuck.study.statistics import Count
from unstuck.trace.recording import Recording

__all__ = ["Diagnosis", "LayerRow", "Skipped", "Status", "diagnose"]

SCHEMA = 1
SURVIVES = True
"""Whether a rule that fails is told among what was not checked, and the others are applied all the same."""
Status = Literal["faulty", "no known cause", "healthy", "undetermined"]


@dataclass(frozen=True)
class LayerRow:
    """What one layer did over the whole training; None where undefined or not measured."""

    name: str
    type: str
    drift: float | None
    """|W_end - W_0| / |W_0|."""
    update_ratio: float | None
    """Median over the measured steps of |update| / |W|."""
    loss_share: float | None
    """Part of the change of the training loss; the parts of all rows sum to 1."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found, root causes first."""

    findings: tuple[Finding, ...]
    outcome: Outcome
    layers: tuple[LayerRow, ...] = ()
    gradients: tuple[Passage, ...] = ()
    """What each layer did to the gradient at the start, from the loss to the input."""
    not_checked: tuple[Skipped, ...] = ()
    kind: str = ""
    name: str = ""
    steps: int = 0
    verdicts: tuple[Verdict, ...] = ()
    variants: "tuple[Diagnosis, ...]" = ()

    @property
    def status(self) -> Status:
        """faulty, no known cause, healthy or undetermined."""
        if any(finding.severity != "info" for finding in self.findings):
            return "faulty"
        if self.outcome.word == "learned":
            return "healthy"
        return "undetermined" if self.outcome.word == "unknown" else "no known cause"

    @property
    def healthy(self) -> bool:
        """Whether nothing but information was found and it learns."""
        return self.status == "healthy"

    @property
    def subject(self) -> dict[str, str]:
        """Kind and name of what was watched."""
        return {"kind": self.kind, "name": self.name}

    @property
    def roots(self) -> tuple[Finding, ...]:
        """Findings that no trial has demoted."""
        return tuple(finding for finding in self.findings if not finding.demoted)

    def with_verdicts(self, verdicts: Iterable[Verdict], *, decisive: bool = True) -> "Diagnosis":
        """The same with the outcome of a trial: a cause whose removal changed nothing is none.

        A finding all of whose tried treatments were "not shown" is demoted, with the reason, and stands
        behind the others. A finding that no treatment was tried for stays where it is, and so does one
        for which a treatment was harmful.

        Args:
            verdicts: of the trial.
            decisive: whether the trial had seeds enough to prove help. If not, "not shown" says nothing,
                and no finding is demoted for it.

        Returns:
            A new diagnosis.
        """
        told = tuple(verdicts)
        judged = [_demoted(finding, told) for finding in self.findings] if decisive else list(self.findings)
        order = sorted(judged, key=lambda finding: bool(finding.demoted))
        return replace(self, findings=tuple(order), verdicts=told)

    def with_seeds(self, count: Count) -> "Diagnosis":
        """The same with LRN013 lottery, if some seeds of the program succeeded and others failed.

        Args:
            count: of the unchanged program's seeds, such as `Count(trial.unchanged.successes, 64)`.
        """
        found = lottery_of(count)
        if found is None:
            return self
        return self._replacing(found.code, (found,))

    def with_check(self, report: Report) -> "Diagnosis":
        """The same with GRD006 wrong-gradient for every mistake that a gradient check found.

        Args:
            report: of `unstuck.check_gradients`, of the backward pass that this training used.
        """
        if report.undecided and not report.mistakes:
            because = f"too noisy to judge: {', '.join(report.undecided)}"
            kept = tuple(skipped for skipped in self.not_checked if skipped.code != CODE)
            return replace(self, not_checked=(*kept, Skipped(CODE, because)))
        return self._replacing(CODE, wrong_gradients_of(report))

    def _replacing(self, code: str, found: tuple[Finding, ...]) -> "Diagnosis":
        """The same with these findings of a rule, which is checked now."""
        others = tuple(finding for finding in self.findings if finding.code != code)
        return replace(
            self,
            findings=tuple(
                sorted((*others, *found), key=lambda one: (bool(one.demoted), SEVERITIES.index(one.severity)))
            ),
            not_checked=tuple(skipped for skipped in self.not_checked if skipped.code != code),
        )

    def _repr_html_(self) -> str:
        """The report as a notebook shows it."""
        return wiring.call("diagnosis_html", self)

    def __rich__(self) -> Any:
        """The report as rich prints it in a terminal."""
        return wiring.call("diagnosis_rich", self)

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON values, by the contract; what is undefined or not finite is None."""
        return {
            "schema": SCHEMA,
            "subject": self.subject,
            "steps": self.steps,
            "status": self.status,
            "healthy": self.healthy,
            "findings": [_finding_dict(finding) for finding in self.findings],
            "layers": [
                {
                    "name": row.name,
                    "type": row.type,
                    "drift": _finite(row.drift),
                    "update_ratio": _finite(row.update_ratio),
                    "loss_share": _finite(row.loss_share),
                }
                for row in self.layers
            ],
            "verdicts": [_verdict_dict(verdict) for verdict in self.verdicts],
            "not_checked": [{"code": rule.code, "because": rule.because} for rule in self.not_checked],
            "variants": [variant.to_dict() for variant in self.variants],
        }


def diagnose(
    recording: Recording,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    bounds: Bounds | None = None,
) -> Diagnosis:
    """Apply the rules to a recording.

    Args:
        recording: what was measured, live or loaded; it is only read.
        select: prefixes of codes; only these rules are applied. Empty: all.
        ignore: prefixes of codes that are left out.
        bounds: other bounds than those that ship with the package.

    Returns:
        Findings (root causes first, their consequences under them), what could not be checked, the status.

    Raises:
        UnstuckError: for a prefix that matches no rule.
    """
    limits = bounds or load_bounds()
    rules = chosen(select, ignore)
    found, skipped = applied(rules, recording, limits, survive=SURVIVES)
    later = beside(found, recording, rules, limits, survive=SURVIVES)
    replaced = {finding.code for finding in later}
    found = [one for one in found if one.code not in replaced] + later
    roots = tuple(
        msgspec.structs.replace(finding, treatments=propose(finding, recording))
        for finding in fold(found, recording, later)
    )
    ended = outcome(recording, limits.outcome)
    return Diagnosis(
        findings=roots,
        outcome=ended if any(one.severity != "info" for one in roots) else excused(ended),
        layers=_layer_rows(recording),
        gradients=passages(recording),
        not_checked=tuple(skipped),
        kind=recording.meta.kind,
        name=recording.meta.name,
        steps=recording.steps,
    )


def _layer_rows(trace: Recording) -> tuple[LayerRow, ...]:
    """One row for each layer from input to output; the output's bias has its own, after its layer."""
    output = trace.structure.output
    own = {f"{output.name}.bias"} if output is not None else set[str]()
    own.update(trace.layers("loss_share"))
    names = {name for name in trace.layers("weight_norm") if not name.endswith(".bias") or name in own}
    names.update(trace.layers("loss_share"))
    forward = {name: i for i, name in enumerate(node.name for node in trace.structure.nodes)}

    def order(name: str) -> tuple[int, bool]:
        return forward.get(name.removesuffix(".bias"), len(forward)), name.endswith(".bias")

    rows: list[LayerRow] = []
    for name in sorted(names, key=order):
        node = trace.structure.node(name)
        ratio = typical(trace, "update_ratio", name)
        rows.append(
            LayerRow(
                name=name,
                type=node.type if node is not None else "bias" if name.endswith(".bias") else "",
                drift=trace.last("drift", name),
                update_ratio=None if math.isnan(ratio) else ratio,
                loss_share=trace.last("loss_share", name),
            )
        )
    return tuple(rows)


def _demoted(finding: Finding, verdicts: Sequence[Verdict]) -> Finding:
    own = {treatment.id for treatment in finding.treatments}
    # a treatment that two findings share is tried once, for the first of them: it speaks for both
    tried = [verdict for verdict in verdicts if verdict.treatment in own]
    if not tried or any(verdict.verdict != "not shown" for verdict in tried):
        return msgspec.structs.replace(finding, demoted="") if finding.demoted else finding
    tests = "; ".join(
        f"{verdict.treatment}: {_count(verdict.before)} without, {_count(verdict.after)} with it"
        for verdict in tried
    )
    return msgspec.structs.replace(
        finding, demoted=f"its own treatment changed nothing in the trial ({tests})"
    )


def _count(arm: ArmCount) -> str:
    return f"{arm.successes} of {arm.trials}"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _finding_dict(finding: Finding) -> dict[str, Any]:
    location = finding.location
    return {
        "code": finding.code,
        "name": finding.name,
        "severity": finding.severity,
        "layer": finding.layer,
        "step": finding.step,
        "confidence": _finite(finding.confidence),
        "summary": finding.summary,
        "evidence": _evidence_dict(finding.evidence, finding.layer),
        "rival": finding.rival,
        "consequences": [{"code": effect.code, "layer": effect.layer} for effect in finding.consequences],
        "location": None if location is None else {"file": location.file, "line": location.line},
        "treatments": [
            {"id": treatment.id, "summary": treatment.summary} for treatment in finding.treatments
        ],
        "demoted": finding.demoted or None,
        "url": finding.url,
    }


def _evidence_dict(evidence: Sequence[Evidence], layer: str | None) -> dict[str, float | None]:
    """Quantity to value; a quantity of another place than the finding's has that place in its key."""
    values: dict[str, float | None] = {}
    for item in evidence:
        key = item.quantity if item.layer in {None, layer} else f"{item.quantity}@{item.layer}"
        values.setdefault(key, _finite(item.value))
    return values


def _verdict_dict(verdict: Verdict) -> dict[str, Any]:
    return {
        "treatment": verdict.treatment,
        "for": verdict.code or None,
        "before": _arm_dict(verdict.before),
        "after": _arm_dict(verdict.after),
        "difference": [_finite(bound) for bound in verdict.difference],
        "verdict": verdict.verdict,
        "arms": {name: _arm_dict(arm) for name, arm in verdict.arms.items()},
    }


def _arm_dict(arm: ArmCount) -> dict[str, Any]:
    own: dict[str, Any] = {"treatment": arm.treatment} if arm.treatment else {}
    return {**own, "successes": arm.successes, "trials": arm.trials}
