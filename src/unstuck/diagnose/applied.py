"""The rules at work on a recording, and once more where the first faults found hide others."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.causes import fold
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import NotChecked, Rule
from unstuck.trace.recording import Recording


@dataclass(frozen=True)
class Skipped:
    """A rule that could not judge, and why: what was not measured is never silent health."""

    code: str
    because: str


def applied(
    rules: Sequence[Rule], trace: Recording, bounds: Bounds, *, survive: bool = True
) -> tuple[list[Finding], list[Skipped]]:
    """What the rules find in a recording, and those that could not judge.

    Args:
        rules: in the order in which they are told.
        trace: is only read.
        bounds: that they compare with.
        survive: a rule that fails is told among those that could not judge, and the others go on.
    """
    found: list[Finding] = []
    skipped: list[Skipped] = []
    for rule in rules:
        if not rule.concerns(trace):
            continue
        missing = rule.missing(trace)
        if missing:
            skipped.append(Skipped(rule.code, missing))
            continue
        try:
            with np.errstate(all="ignore"):  # what was measured may be anything
                found.extend(rule.check(trace, bounds))
        except NotChecked as reason:
            skipped.append(Skipped(rule.code, reason.because))
        except Exception as error:
            if not survive:
                raise
            kind = f"{type(error).__name__}: {error}"
            skipped.append(Skipped(rule.code, f"of a mistake in the rule itself ({kind}); please report it"))
    return found, skipped


def beside(
    found: Sequence[Finding], trace: Recording, rules: Sequence[Rule], bounds: Bounds, *, survive: bool = True
) -> list[Finding]:
    """Further faults that are seen only when it is known that the first ones keep it from learning.

    Most rules speak up only where a training got nowhere, and one fault may hide that: a loss that was
    negated or is not one of the known kinds says nothing of what was learned, one of raw scores falls for
    ever. What the first findings show takes its place then. Only what they cannot have produced counts.

    Args:
        found: in the first place.
        trace: where.
        rules: to be applied again.
        bounds: that they compare with.
        survive: as in `applied`.

    Returns:
        What is new, or was only worth knowing before.

    Example:
        >>> from unstuck.diagnose.bounds import load_bounds
        >>> beside([], Recording(), [], load_bounds())
        []
    """
    alarms = [finding for finding in found if finding.severity != "info"]
    word = outcome(trace, bounds.outcome).word
    hidden = word == "unknown" or (word == "learned" and any(one.severity == "error" for one in alarms))
    if not alarms or not hidden:
        return []
    stuck = msgspec.structs.replace(bounds, outcome=msgspec.structs.replace(bounds.outcome, failed=True))
    told = {finding.code for finding in alarms}
    roots = {finding.code for finding in fold(alarms, trace)}
    return [
        finding
        for finding in applied(rules, trace, stuck, survive=survive)[0]
        if finding.severity != "info"
        and finding.code not in told
        and all(finding.stands_apart(code) for code in roots)
    ]
