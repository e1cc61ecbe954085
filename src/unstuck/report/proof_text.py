"""A proof in the terminal: what was tried, which change helps, and which change to make."""

import math

from rich.console import Group, RenderableType
from rich.text import Text

from unstuck.diagnose.finding import Verdict
from unstuck.diagnose.remedies import parse
from unstuck.prove.script.prove import Proof
from unstuck.prove.trial import TrialResult
from unstuck.report import words
from unstuck.report.numbers import NOTHING, clean, percent
from unstuck.report.terminal import VERDICT_STYLE, columns, diagnosis_text


def proof_text(proof: Proof) -> RenderableType:
    """A proof to print with rich: the diagnosis, then the trial and what follows from it."""
    parts: list[RenderableType] = [diagnosis_text(proof.diagnosis)]
    if proof.trial is not None:
        parts += [Text(), *_trial(proof.trial)]
    parts += [Text(clean(f"note: {note}"), style="yellow") for note in proof.notes]
    parts += [Text(), *[Text(clean(line), style="bold") for line in conclusions(proof)]]
    return Group(*parts)


def diff_text(text: str) -> str:
    """A diff of somebody's lines as it may be printed: never wrapped, without control characters."""
    return "".join(f"{clean(line)}\n" for line in text.splitlines())


def _trial(trial: TrialResult) -> list[RenderableType]:
    rows: list[RenderableType] = [
        Text("What was tried, one change at a time, on a copy of the script", style="bold"),
        Text(words.criterion(trial) + ".", style="dim"),
        Text(own_rate(trial), style="dim"),
    ]
    table = columns(["treatment", "before", "after", "difference", "verdict", "sham", "rival"])
    table.columns[4].justify = table.columns[6].justify = "left"
    for verdict in trial:
        low, high = verdict.difference
        table.add_row(
            Text(verdict.treatment),
            words.rate(verdict.before),
            words.rate(verdict.after),
            f"{low:+.2f}..{high:+.2f}",
            Text(verdict.verdict, style=VERDICT_STYLE[verdict.verdict]),
            words.rate(verdict.arms["sham"]) if "sham" in verdict.arms else NOTHING,
            Text(_rival(verdict)),
        )
    if trial:
        rows.append(table)
    rows += [Text(clean(f"not tried: {name}: {why}"), style="dim") for name, why in trial.refused.items()]
    rows += [Text(clean(warning), style="yellow") for warning in trial.warnings]
    rows += [Text(clean(line), style="dim") for line in (trial.engine.lines if trial.engine else ())]
    return rows


def _rival(verdict: Verdict) -> str:
    rival = verdict.arms.get("rival")
    return f"{words.rate(rival)} {rival.treatment}" if rival is not None else NOTHING


def own_rate(trial: TrialResult) -> str:
    """How often the unchanged program fails by itself."""
    runs, rate = trial.unchanged, trial.success_rate
    if runs is None or rate is None:
        return "the unchanged program was not run to the end"
    failed = len(runs) - runs.successes
    return (
        f"unchanged, it fails for {failed} of {len(runs)} seeds "
        f"({percent(1 - rate.high)} to {percent(1 - rate.low)} of all seeds, 95 %)"
    )


def conclusions(proof: Proof) -> list[str]:
    """What to do, in a few sentences."""
    trial = proof.trial
    if trial is None:
        return []
    lines: list[str] = []
    best = next((one for one in trial if one.treatment == proof.best), None)
    if best is not None:
        said = " and ".join(parse(part).summary for part in best.treatment.split("+"))
        lines.append(
            f"proved: {best.treatment} ({said}): {words.rate(best.after)} runs succeed, "
            f"{words.rate(best.before)} without"
        )
        rival = trial.details[best.treatment].rival
        lines += [rival] if rival else []
        place = _place(proof, best)
        lines += [f"the change to make: {said}{place}"]
    elif len(trial):
        lines.append("nothing that was tried is proved to help")
    lines += [
        f"harmful: {one.treatment}: {words.rate(one.after)} runs succeed, {words.rate(one.before)} without"
        for one in trial
        if one.verdict == "harmful"
    ]
    if proof.steps:
        lines.append(f"shown on {proof.steps} steps, not on your full run")
    return lines


def _place(proof: Proof, verdict: Verdict) -> str:
    found = next((one for one in proof.diagnosis.findings if one.code == verdict.code), None)
    if found is None or found.location is None:
        return ""
    return f" ({found.location.file}:{found.location.line})"


def proof_dict(proof: Proof) -> dict[str, object]:
    """A proof as JSON values: the diagnosis by the contract, and the trial under "trial"."""
    told: dict[str, object] = dict(proof.diagnosis.to_dict())
    trial = proof.trial
    told["notes"] = list(proof.notes)
    told["trial"] = (
        None
        if trial is None
        else {
            "criterion": trial.criterion,
            "warnings": list(trial.warnings),
            "refused": dict(trial.refused),
            "interrupted": trial.interrupted,
            "runs": trial.runs,
            "seconds": trial.seconds,
            "needed_seeds": trial.needed_seeds,
            "steps": proof.steps,
            "arms": {
                name: {
                    "success": runs.success.tolist(),
                    "loss": [loss if math.isfinite(loss) else None for loss in runs.loss.tolist()],
                }
                for name, runs in trial.arms.items()
            },
            "rivals": {name: detail.rival for name, detail in trial.details.items() if detail.rival},
            "unchanged": None
            if trial.unchanged is None
            else {"successes": trial.unchanged.successes, "trials": len(trial.unchanged)},
            "change": conclusions(proof),
            "diff": proof.diff,
            "engine": None if trial.engine is None else trial.engine.values,
        }
    )
    return told
