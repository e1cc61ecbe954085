"""A trial on a script as a page: the verdicts, the arms, all runs, and the change to make."""

from dataclasses import replace

from markupsafe import Markup

from unstuck.diagnose.outcome import learning_curve
from unstuck.prove.script.prove import Proof
from unstuck.prove.trial import TrialResult
from unstuck.report.numbers import count
from unstuck.report.page import Chart, Page, capital, network, render, rule_to_read
from unstuck.report.proof_text import conclusions, own_rate
from unstuck.report.trial_charts import arms_chart, runs_chart
from unstuck.report.trial_grid import trial_grid, trial_notes

ARMS = (
    "Each line is an arm: the unchanged program, the sham, each change that was tried, and rivals. Green is "
    "proved, red is harmful."
)
RUNS = "Each dot is a run: filled where it succeeds. "


def proof_page(proof: Proof) -> str:
    """A page of what `unstuck prove` found.

    Returns:
        HTML that needs no other file.
    """
    found, trial = proof.diagnosis, proof.trial
    part = network(found, learning_curve(proof.recording))
    notes = proof.notes
    if trial is not None:
        part = replace(
            part,
            trial=trial_grid(trial, "difference") if len(trial) else None,
            criterion=f"{capital(trial.criterion)} {capital(own_rate(trial))}.",
            notes=trial_notes(trial),
            maps=_charts(proof, trial),
        )
    plural = count(trial.runs, "run") if trial is not None else "no trial"
    setting = f"{plural}{f', each stopped after {proof.steps} steps' if proof.steps else ''}"
    page = Page(
        proof.diagnosis.name or "A controlled trial",
        (part,),
        setting=setting,
        conclusions=tuple(map(capital, (*conclusions(proof), *notes))),
        rule=rule_to_read(found),
        change=proof.diff,
    )
    return render("page.html", page)


def _charts(proof: Proof, trial: TrialResult) -> tuple[Chart, ...]:
    bounds = () if proof.success is None else proof.success.bounds
    bound = next((one.value for one in bounds if one.quantity == "loss"), None)
    line = "Dashed: the bound of the criterion." if bound is not None else ""
    verdicts = {one.treatment: one.verdict for one in trial}
    drawn = (
        Chart("How often each succeeds", Markup(arms_chart(trial.arms, verdicts)), ARMS),  # noqa: S704  (escaped by trial_charts)
        Chart("Where each run ended", Markup(runs_chart(trial.arms, bound)), RUNS + line),  # noqa: S704
    )
    return tuple(chart for chart in drawn if chart.svg)
