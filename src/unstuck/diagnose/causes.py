"""Which finding explains which: chains are folded to their roots, roots are ranked."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from unstuck.diagnose.finding import SEVERITIES, Consequence, Finding
from unstuck.diagnose.measured import position
from unstuck.diagnose.registry import RULES, Where
from unstuck.trace.recording import Recording

_HOLDS: Final[dict[Where, Callable[[int, int], bool]]] = {
    "same": lambda cause, effect: effect == cause,
    "before": lambda cause, effect: effect < cause,
    "after": lambda cause, effect: effect > cause,
    "up to": lambda cause, effect: effect <= cause,
    "from": lambda cause, effect: effect >= cause,
    "any": lambda _cause, _effect: True,
    "lasting": lambda _cause, _effect: True,
    "else": lambda _cause, _effect: True,
}


def explains(cause: Finding, effect: Finding, trace: Recording) -> bool:
    """Whether one finding is a direct consequence of another.

    The cause's rule must list the effect's code, and the effect must lie where that rule says. What is merely
    worth knowing explains nothing that does harm. Two faults may be there at once: what a finding rests on
    may be such that the other one cannot have produced it.

    Args:
        cause: the finding that may be the reason.
        effect: the finding that may follow from it.
        trace: where both were found; its structure gives the order of layers.

    Returns:
        True if so; a finding does not explain itself.
    """
    where = RULES[cause.code].explains.get(effect.code) if cause.code in RULES else None
    if where is None or cause == effect or effect.stands_apart(cause.code):
        return False
    if where == "lasting" and effect.severity == "info":
        return False
    if cause.severity == "info" and effect.severity != "info":
        return False
    return _HOLDS[where](position(trace, cause.layer), position(trace, effect.layer))


def fold(
    findings: Sequence[Finding], trace: Recording, later: Collection[Finding] = ()
) -> tuple[Finding, ...]:
    """Root causes with their consequences under them, most likely first.

    A chain (zero weights, hence no gradient, hence a constant answer) is folded to its root; what several
    roots explain stands once, under the first of them. Roots are ordered by severity, then by how much they
    explain, then by confidence, then from input to output.

    Args:
        findings: what the rules returned, in any order.
        trace: where they were found.
        later: those of them that were seen only because others are there; of one severity they stand last.

    Returns:
        The roots; every other finding is among their consequences.
    """
    effects = _effects(findings, trace)
    roots = _roots(effects)
    reach = {root: _reached(root, effects) for root in roots}
    ranked = sorted(
        roots,
        key=lambda i: (
            SEVERITIES.index(findings[i].severity),
            findings[i] in later,
            # the same fault in further layers is no further thing explained
            -sum(findings[j].code != findings[i].code for j in reach[i]),
            -findings[i].confidence,
            position(trace, findings[i].layer),
        ),
    )
    told: set[int] = set()
    folded: list[Finding] = []
    for root in ranked:
        own = sorted(
            (i for i in reach[root] if i not in told),
            key=lambda i: (findings[i].step, position(trace, findings[i].layer), findings[i].code),
        )
        told.update(own)
        consequences = tuple(
            Consequence(findings[i].code, findings[i].layer, findings[i].name, findings[i].summary)
            for i in own
        )
        folded.append(msgspec.structs.replace(findings[root], consequences=consequences))
    return tuple(folded)


def _effects(findings: Sequence[Finding], trace: Recording) -> list[list[int]]:
    """For each finding, those that it explains: some only where nothing else does."""
    found = [[j for j, other in enumerate(findings) if explains(one, other, trace)] for one in findings]

    def only_else(cause: int, effect: int) -> bool:
        return RULES[findings[cause].code].explains.get(findings[effect].code) == "else"

    sure = {j for i, own in enumerate(found) for j in own if not only_else(i, j)}
    return [[j for j in own if j not in sure or not only_else(i, j)] for i, own in enumerate(found)]


def _roots(effects: list[list[int]]) -> list[int]:
    """Findings that none explains. There is always one: no rule's `explains` leads back to itself."""
    explained = {j for targets in effects for j in targets}
    return [i for i in range(len(effects)) if i not in explained]


def _reached(root: int, effects: list[list[int]]) -> list[int]:
    """All that follows from a root, directly or not, nearest first."""
    found: list[int] = []
    waiting = list(effects[root])
    while waiting:
        i = waiting.pop(0)
        if i not in found:
            found.append(i)
            waiting.extend(effects[i])
    return found
