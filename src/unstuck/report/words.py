"""What is said of a diagnosis or a case, in sentences: the same in the terminal and on a page."""

import math
from collections.abc import Iterable, Sequence

from unstuck.cases.story import CaseResult, LayerStory, LossStory
from unstuck.diagnose.attribution import CODES
from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import ArmCount, Evidence, Finding, Verdict
from unstuck.prove.trial import TrialResult
from unstuck.report.numbers import NOTHING, clean, count, percent, scientific, short

YARDSTICK = (1e-3, 1e-4)
"""The size of a step that people quote: in the first layers, in the last."""
YARDSTICK_WORDS = "1e-3 in the first layers, 1e-4 in the last"
SHOWN_NUMBERS = 3
MOST_CAUSES = 3
"""Root causes that are told in full."""
GRADIENT = "The gradient on its way back, before the first update"
GRADIENT_HEADS = ("from ... to", "in all", "by the activation", "by the weights", "by the rest")


def listed(words: Sequence[str]) -> str:
    """Words in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def place(name: str, layer: str | None) -> str:
    """A problem's name with the layer that has it."""
    return f"{name} in {clean(layer)}" if layer else name


def headline(diagnosis: Diagnosis) -> str:
    """The verdict of a diagnosis in one sentence: what is wrong, or how well it learned."""
    ended = ending(diagnosis)
    if diagnosis.status == "healthy":
        return f"healthy: {ended}{_unseen(diagnosis)}"
    if diagnosis.status == "no known cause":
        return f"no known cause: {ended}, and no rule explains it{_unseen(diagnosis)}"
    if diagnosis.status == "undetermined":
        return f"undetermined: nothing was found, but {ended}{_unseen(diagnosis)}"
    return f"faulty: {causes(diagnosis)}"


def ending(diagnosis: Diagnosis) -> str:
    """The final loss against that of a constant prediction, or why the two cannot be compared."""
    outcome = diagnosis.outcome
    if math.isfinite(outcome.final) and math.isfinite(outcome.baseline) and outcome.word != "unknown":
        return f"loss {short(outcome.final)} against {short(outcome.baseline)} for a constant prediction"
    return clean(outcome.because) or "no loss was measured"


def reading_headline(diagnosis: Diagnosis) -> str:
    """The verdict of one reading of a case, whose loss is told apart, in the units of the case."""
    return {
        "faulty": f"faulty: {causes(diagnosis)}",
        "healthy": "healthy: nothing is wrong, it learns",
        "no known cause": "no known cause: it does not learn, and no rule explains it",
        "undetermined": "undetermined: too little was seen",
    }[diagnosis.status]


def causes(diagnosis: Diagnosis) -> str:
    """The root causes by name and layer."""
    harmful = [finding for finding in diagnosis.findings if finding.severity != "info"]
    roots = [finding for finding in harmful if not finding.demoted]
    if roots:
        return ", ".join(place(finding.name, finding.layer) for finding in roots)
    ruled_out = listed([place(finding.name, finding.layer) for finding in harmful])
    return f"the cause is not known; the trial ruled out {ruled_out}" if ruled_out else "nothing found"


def further(findings: Sequence[Finding]) -> str:
    """Causes beyond those that are told in full, in a line."""
    return "also: " + ", ".join(f"{one.code} {place(one.name, one.layer)}" for one in findings)


def gradient_matters(diagnosis: Diagnosis) -> bool:
    """Whether a cause is about the gradient's size, and it is known what each layer did to it."""
    told = {finding.code for finding in diagnosis.findings}
    told |= {effect.code for finding in diagnosis.findings for effect in finding.consequences}
    return bool(diagnosis.gradients) and diagnosis.status == "faulty" and bool(told & CODES)


def gradient_rows(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    """From the loss to the input: what each step of the way back did to the gradient, and by what."""
    return [
        (
            f"{clean(row.after)} to {clean(row.layer)}",
            _times(row.factor),
            _times(row.activation),
            _times(row.weights),
            _times(row.rest),
        )
        for row in diagnosis.gradients
    ]


def _times(factor: float | None) -> str:
    return NOTHING if factor is None else f"× {short(factor, 2)}"


def _unseen(diagnosis: Diagnosis) -> str:
    skipped = len(diagnosis.not_checked)
    return f" ({skipped} not checked)" if skipped else ""


def not_checked(diagnosis: Diagnosis) -> str:
    """Which rules could not judge, in one line; the only one's reason with it. Empty when all could."""
    skipped = diagnosis.not_checked
    if len(skipped) == 1:
        return f"not checked: {skipped[0].code}, because {clean(skipped[0].because)}"
    if not skipped:
        return ""
    return f"not checked: {', '.join(rule.code for rule in skipped)} (why: --format json, not_checked)"


def measured(finding: Finding) -> list[str]:
    """The few numbers that show a finding, each with the bound that it crossed."""
    return [_number(item, finding.layer) for item in finding.evidence[:SHOWN_NUMBERS]]


def _number(item: Evidence, layer: str | None) -> str:
    where = f" of {clean(item.layer)}" if item.layer and item.layer != layer else ""
    text = f"{clean(item.quantity)}{where} = {short(item.value)}"
    if item.bound is None or item.relation in {"", "="}:
        return text
    return f"{text} (fires at {item.relation} {short(item.bound)})"


def explained(finding: Finding) -> str:
    """A finding's consequences in one line, those of one kind together."""
    layers: dict[str, list[str]] = {}
    for effect in finding.consequences:
        layers.setdefault(effect.name, []).append(clean(effect.layer or ""))
    return "; ".join(
        place(name, listed(list(dict.fromkeys(filter(None, where))))) for name, where in layers.items()
    )


def lesser(diagnosis: Diagnosis) -> list[str]:
    """Findings that are no cause, by name: what a trial has ruled out, and what is only worth knowing."""
    kinds = {
        "ruled out by the trial": [finding for finding in diagnosis.findings if finding.demoted],
        "good to know": [finding for finding in diagnosis.roots if finding.severity == "info"],
    }
    return [
        f"{kind}: " + ", ".join(f"{place(found.name, found.layer)} ({found.code})" for found in findings)
        for kind, findings in kinds.items()
        if findings
    ]


def rate(arm: ArmCount) -> str:
    """Successes of trials, as "3/12"."""
    return f"{arm.successes}/{arm.trials}"


def before_after(verdict: Verdict) -> str:
    """How often it learned without and with a treatment."""
    return f"{rate(verdict.before)} -> {rate(verdict.after)}"


def tried(verdicts: Iterable[Verdict], treatment: str) -> str:
    """What the trial said of a proposed treatment; empty when it was not tried."""
    found = next((verdict for verdict in verdicts if verdict.treatment == treatment), None)
    return f"{found.verdict}, {before_after(found)}" if found else ""


def folded_trial(trial: TrialResult) -> list[str]:
    """A trial in a line for each kind of verdict, with the successes of each treatment."""
    lines: list[str] = []
    for word in ("proved", "harmful", "not shown"):
        own = [verdict for verdict in trial if verdict.verdict == word]
        if own:
            told = ", ".join(f"{verdict.treatment} {rate(verdict.after)}" for verdict in own)
            lines.append(f"{word} (unchanged {rate(own[0].before)}): {told}")
    return lines


def criterion(trial: TrialResult) -> str:
    """When a run counts as a success: the first sentence of the rule of judgement."""
    return trial.criterion.partition(". ")[0]


def split(loss: LossStory) -> str:
    """How far the loss fell, and how much of that a constant prediction explains."""
    if not math.isfinite(loss.end):
        return f"the loss went from {short(loss.start)} to {short(loss.end)}: it diverged"
    if loss.end >= loss.start:
        return f"the loss did not fall: {short(loss.start)} at the start, {short(loss.end)} at the end"
    fell = f"the loss fell from {short(loss.start)} to {short(loss.end)}"
    if loss.start <= loss.constant:
        return (
            f"{fell}; it started below the {short(loss.constant)} of a constant prediction: all was learned"
        )
    share = f"{fell}; {percent(loss.by_constant)} of that is what a constant prediction explains"
    if loss.by_constant > 0.995:
        return f"{share}: nothing was learned beyond it"
    return f"{share} ({short(loss.constant)}), the rest was learned"


def carried(loss: LossStory, layer: LayerStory) -> str:
    """Which part of what was learned is lost when a layer is frozen; "all" when nothing is left."""
    if layer.frozen_loss is None:
        return percent(None)
    share = loss.carried(layer.frozen_loss) if math.isfinite(layer.frozen_loss) else None
    return "all" if share is not None and share >= 0.995 else percent(share)


def yardstick(case: CaseResult) -> str:
    """The size of a step that people quote, beside what the healthy network of this case shows."""
    quoted = (
        f'People quote steps of "{YARDSTICK_WORDS}", but not whether absolute or relative, nor on which data.'
    )
    ratios = [
        layer.update_ratio
        for reading in case.readings
        if reading.diagnosis.healthy
        for layer in reading.layers
        if layer.update_ratio is not None and layer.type != "bias"
    ]
    if not ratios:
        return quoted
    return (
        f"{quoted} The healthy network below: ratios {scientific(min(ratios))} to {scientific(max(ratios))}."
    )


COLUMNS = (
    "step: root mean square change of a weight in one update; ratio: that change relative to the weights. "
    "Learned lost: share of what was learned beyond the constant prediction that freezing the layer costs."
)
"""What stands in the columns of a case's table of layers."""


def layer_notes(case: CaseResult) -> tuple[str, ...]:
    """How the table of the main reading's layers is read; nothing where there is none."""
    return (COLUMNS, yardstick(case)) if case.main.layers else ()


def setting(case: CaseResult) -> str:
    """What was trained on, how often, how long."""
    pace = " (quick)" if case.quick else ""
    unit = f"; losses are {case.unit}" if case.unit else ""
    return f"{case.data}; {count(case.seeds, 'seed')} for each change tried{pace}; {case.seconds:.0f} s{unit}"
