"""`--select` and `--ignore`: which rules a report shows."""

from collections.abc import Collection
from dataclasses import replace

import msgspec

from unstuck.cases.story import CaseResult
from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.registry import RULES, chosen


def prefixes(option: str) -> list[str]:
    """The entries of a comma-separated option.

    Example:
        >>> prefixes("INI, GRD003,")
        ['INI', 'GRD003']
    """
    return [entry.strip() for entry in option.split(",") if entry.strip()]


def chosen_codes(select: str, ignore: str) -> tuple[str, ...]:
    """Codes of the rules that both options leave.

    Raises:
        UnstuckError: an entry that matches no rule, or rules none of which are left.
    """
    return tuple(rule.code for rule in chosen(prefixes(select), prefixes(ignore)))


def ignored_codes(ignore: str) -> frozenset[str]:
    """Codes of the rules that `--ignore` leaves out."""
    return frozenset(RULES) - {rule.code for rule in chosen((), prefixes(ignore))}


def selected_case(
    case: CaseResult, codes: Collection[str], ignored: Collection[str] = frozenset()
) -> CaseResult:
    """A case that shows only some rules; its trainings and trials are the same whatever is shown.

    Args:
        case: as it was run.
        codes: rules to show; a cause is also shown for a consequence that is among them.
        ignored: rules that are not shown even then.
    """
    if set(codes) >= set(RULES):
        return case
    readings = (
        replace(reading, diagnosis=selected(reading.diagnosis, codes, ignored)) for reading in case.readings
    )
    return replace(case, readings=tuple(readings))


def selected(
    diagnosis: Diagnosis, codes: Collection[str], ignored: Collection[str] = frozenset()
) -> Diagnosis:
    """A diagnosis that shows only some rules, see `selected_case`."""
    findings = (_selected(finding, codes) for finding in diagnosis.findings if finding.code not in ignored)
    return replace(
        diagnosis,
        findings=tuple(finding for finding in findings if finding is not None),
        not_checked=tuple(rule for rule in diagnosis.not_checked if rule.code in codes),
        variants=tuple(selected(variant, codes, ignored) for variant in diagnosis.variants),
    )


def _selected(finding: Finding, codes: Collection[str]) -> Finding | None:
    effects = tuple(effect for effect in finding.consequences if effect.code in codes)
    if finding.code not in codes and not effects:
        return None
    return msgspec.structs.replace(finding, consequences=effects)
