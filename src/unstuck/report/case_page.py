"""A case as a page: the question, the answer in short, every reading of it with its charts."""

from dataclasses import replace

from markupsafe import Markup

from unstuck.cases.story import CaseResult, Reading
from unstuck.report import words
from unstuck.report.numbers import percent, scientific, short
from unstuck.report.page import (
    Chart,
    Grid,
    Page,
    Part,
    Table,
    capital,
    common,
    loss_chart,
    render,
    rule_to_read,
    share_chart,
    step_chart,
)
from unstuck.report.study_charts import phase_diagram
from unstuck.report.trial_grid import trial_grid, trial_notes
from unstuck.study.odds import Odds

DATA = ("data in 0..1", "data in -1..1")


def case_page(case: CaseResult) -> str:
    """A page of a whole case.

    Returns:
        HTML that needs no other file.
    """
    main = replace(
        _part(case.main),
        legend=words.layer_notes(case),
        maps=tuple(_map(odds) for odds in case.odds),
        facts=tuple(
            Table(facts.title, facts.about, Grid(facts.heads, facts.rows, text=facts.text))
            for facts in case.facts
        ),
    )
    others = (replace(_part(reading), folded=True) for reading in case.readings[1:])
    page = Page(
        title=case.question,
        parts=(main, *others),
        setting=words.setting(case),
        conclusions=case.conclusions,
        rule=rule_to_read(case.main.diagnosis),
    )
    return render("page.html", page)


def _part(reading: Reading) -> Part:
    trial, loss = reading.trial, reading.loss
    split = words.split(loss)
    drawn = (
        loss_chart(loss.curve, loss.constant, split),
        share_chart([(layer.name, layer.share) for layer in reading.layers]),
        step_chart([(row.name, row.update_ratio, row.update_ratio_centred) for row in reading.layers], DATA),
    )
    return Part(
        verdict=words.reading_headline(reading.diagnosis),
        **common(reading.diagnosis),
        key=reading.key,
        title=reading.title,
        about=reading.about,
        split=capital(split),
        accuracy=f"Accuracy on {loss.measured_on}: {percent(loss.accuracy)}.",
        charts=tuple(chart for chart in drawn if chart),
        trial=trial_grid(trial) if trial is not None else None,
        criterion=f"{words.criterion(trial)}." if trial is not None else "",
        notes=trial_notes(trial) if trial is not None else (),
        rates=_rates(reading),
        layers=_layers(reading),
    )


def _rates(reading: Reading) -> Grid | None:
    rows = tuple(
        (f"{rate.lr:g}", short(rate.loss), percent(rate.accuracy), percent(rate.saturated), rate.outcome)
        for rate in reading.rates
    )
    heads = ("learning rate", "final loss", "accuracy", "saturated", "outcome")
    return Grid(heads, rows, text=(4,)) if rows else None


def _map(odds: Odds) -> Chart:
    svg = phase_diagram(odds)
    return Chart(odds.title, Markup(svg), odds.about)  # noqa: S704  (escaped by study_charts)


def _layers(reading: Reading) -> Grid | None:
    heads = (
        "layer",
        "drift",
        "first\ngradient",
        "step\n0..1",
        "ratio\n0..1",
        "step\n-1..1",
        "ratio\n-1..1",
        "share\nof fall",
        "loss if\nfrozen",
        "learned\nlost",
    )
    rows = tuple(
        (
            layer.name,
            percent(layer.drift),
            short(layer.grad_first),
            scientific(layer.update),
            scientific(layer.update_ratio),
            scientific(layer.update_centred),
            scientific(layer.update_ratio_centred),
            percent(layer.share),
            short(layer.frozen_loss),
            words.carried(reading.loss, layer),
        )
        for layer in reading.layers
    )
    return Grid(heads, rows) if rows else None
