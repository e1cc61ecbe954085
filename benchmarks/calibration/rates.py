"""What labelled trainings say of each rule: its ROC, what it is confused with, a line for its page."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from measure import Case

from unstuck.diagnose.registry import RULES
from unstuck.study.statistics import wilson

PAGES = Path(__file__).resolve().parents[2] / "src" / "unstuck" / "diagnose" / "pages"
FAMILIES = ("INI", "GRD", "ACT", "OUT", "LRN", "DAT", "NRM", "ARC")
_UNMEASURED = (
    "Not measured yet.",
    "Faults: not measured yet.",
    (
        "Measured on trainings with and without injected faults: how often the rules are right "
        "(`docs/accuracy.md`)."
    ),
)
_TOLD = re.compile(r"Of \d+ healthy trainings .*?\(`docs/accuracy\.md`\)\.", re.DOTALL)


class Rates(NamedTuple):
    """Counts of one rule."""

    harmed: int
    """Trainings harmed by a fault that it, before all other rules, should name; those that it could judge."""
    named: int
    first: int
    healthy: int
    false: int
    """Healthy trainings on which it alarms."""
    area: float
    """Under the ROC curve of its confidence: own faults against everything else."""


def rates(code: str, found: Sequence[Case]) -> Rates:
    """What one rule did; one silent in all plain runs is judged only where it says that it checked."""
    plain = any(code in case.alarms for case in found)
    judged = [
        case for case in found if case.label.truth != "neither" and (plain or code not in case.unchecked)
    ]
    own = [case for case in judged if case.label.truth == "harmed" and case.label.codes[0] == code]
    healthy = [case for case in judged if case.label.truth == "healthy"]
    others = [case for case in judged if code not in case.label.codes]
    return Rates(
        len(own),
        sum(code in case.alarms for case in own),
        sum(case.alarms[:1] == [code] for case in own),
        len(healthy),
        sum(code in case.alarms and code not in case.label.codes for case in healthy),
        _area([_score(code, case) for case in own], [_score(code, case) for case in others]),
    )


def _score(code: str, case: Case) -> float:
    """The rule's confidence; 0 where it is silent."""
    return max(
        (c for name, c in zip(case.alarms, case.confidences, strict=True) if name == code), default=0.0
    )


def _area(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Chance that a training with the fault scores above one without; ties count half."""
    if not positive or not negative:
        return float("nan")
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return wins / (len(positive) * len(negative))


def table(seen: Sequence[Case], held: Sequence[Case]) -> list[str]:
    """A line for each rule whose fault was put in: both halves."""
    lines = [
        "| rule | own faults | named | named first | on healthy ones | area, seen | area, others |",
        "|---|---|---|---|---|---|---|",
    ]
    for code in sorted(RULES):
        both, one, two = rates(code, [*seen, *held]), rates(code, seen), rates(code, held)
        if both.harmed or both.false:
            lines.append(
                f"| {code} | {both.harmed} | {both.named} | {both.first} | {both.false} of {both.healthy} | "
                f"{_number(one.area)} | {_number(two.area)} |"
            )
    return lines


def _number(area: float) -> str:
    return "–" if area != area else f"{area:.3f}"  # noqa: PLR0124  (NaN)


def confusion(found: Sequence[Case]) -> list[str]:
    """Family of the injected fault against that of what stands first."""
    counts: Counter[tuple[str, str]] = Counter()
    for case in found:
        truth = case.label.truth
        if truth != "neither":
            wanted = case.label.codes[0][:3] if truth == "harmed" else "healthy"
            first = case.alarms[0] if case.alarms else ""
            right = truth == "harmed" and first in case.label.codes
            counts[wanted, wanted if right else first[:3] or "nothing"] += 1
            if not right and first[:3] == wanted:
                counts[wanted, wanted] -= 1
                counts[wanted, "other"] += 1
    columns = [*FAMILIES, "other", "nothing"]
    lines = [
        "| injected | " + " | ".join(columns).replace("other", "another of its family") + " |",
        "|---|" + "---|" * len(columns),
    ]
    for family in (*FAMILIES, "healthy"):
        if any(counts[family, column] for column in columns):
            told = " | ".join(str(counts[family, column] or "") for column in columns)
            lines.append(f"| {family} | {told} |")
    return lines


def sentence(code: str, found: Sequence[Case]) -> str:
    """What a rule's page says of its error rates."""
    one = rates(code, found)
    if not one.healthy:
        return (
            "Of 0 healthy trainings with what it needs nothing can be said yet: how often the rules are "
            "right (`docs/accuracy.md`)."
        )
    most = wilson(one.false, one.healthy).high
    alarms = f"Of {one.healthy} healthy trainings it alarms on {one.false or 'none'}"
    words = f"{alarms} (at most {most:.1%}, 95 % sure). "
    if one.harmed:
        words += (
            f"Of {one.harmed} that were harmed by such a fault, put in on purpose, it names {one.named}, "
            f"{one.first} of them first."
        )
    else:
        words += "No such fault was put in on purpose yet."
    return f"{words} How this was measured: how often the rules are right (`docs/accuracy.md`)."


def write_pages(found: Sequence[Case]) -> int:
    """Put the sentence into the page of each rule that was applied; returns how many pages changed."""
    changed = 0
    for code, rule in RULES.items():
        path = PAGES / f"{rule.name}.md"
        if not path.exists() or code.startswith("GRW") or code == "LRN013":
            continue
        text = path.read_text(encoding="utf-8")
        head, mark, rest = text.partition("## Error rates\n")
        if not mark:
            continue
        told = sentence(code, found)
        if _TOLD.search(rest):
            rest = _TOLD.sub(lambda _: told, rest, count=1)  # noqa: B023  (used at once)
        else:
            opening = next((words for words in _UNMEASURED if words in rest), None)
            if opening is None:
                continue
            rest = rest.replace(opening, told, 1)
        if head + mark + rest != text:
            path.write_text(head + mark + rest, encoding="utf-8")
            changed += 1
    return changed
