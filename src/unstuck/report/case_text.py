"""A case as text in the terminal: the question, every reading of it, what was tried, what to do."""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unstuck.cases.story import CaseResult, Facts, Reading
from unstuck.diagnose.finding import Verdict
from unstuck.prove.trial import TrialResult
from unstuck.report import words
from unstuck.report.heat_map import heat_map
from unstuck.report.numbers import NOTHING, clean, fit, percent, scientific, short
from unstuck.report.sparkline import sparkline
from unstuck.report.terminal import VERDICT_STYLE, columns, fields, findings_text, verdict_line


def case_text(case: CaseResult) -> RenderableType:
    """A case to print with rich."""
    main, others = case.main, case.readings[1:]
    parts: list[RenderableType] = [
        Text(case.question, style="bold"),
        Text(words.setting(case), style="dim"),
        Text(),
        *_reading(main),
        *([Text(line, style="dim") for line in words.layer_notes(case)]),
        *findings_text(main.diagnosis),
    ]
    if main.trial is not None:
        parts += [Text(), *_trial(main.trial)]
    if main.rates:
        parts += [Text(), *_rates(main)]
    for odds in case.odds:
        parts += [Text(), *_titled(odds.title, odds.about), heat_map(odds)]
    for facts in case.facts:
        parts += [Text(), *_titled(facts.title, facts.about), _facts(facts)]
    if others:
        parts += [Text(), Text("Other readings of the question", style="bold underline")]
    for reading in others:
        parts += [Text(), *_reading(reading), *_folded(reading)]
    parts += [Text(), *_conclusions(case)]
    return Group(*parts)


def _reading(reading: Reading) -> list[RenderableType]:
    """One training: its verdict, its loss, its layers."""
    loss = reading.loss
    return [
        Text.assemble((f"{clean(reading.key)}  ", "bold"), (clean(reading.title), "bold")),
        Text(clean(reading.about), style="dim"),
        verdict_line(words.reading_headline(reading.diagnosis)),
        Text.assemble(
            "loss ",
            (sparkline(loss.curve), "cyan"),
            f" accuracy on {loss.measured_on} {percent(loss.accuracy)}",
        ),
        Text(words.split(loss)),
        *([_layers(reading)] if reading.layers else []),
    ]


def _titled(title: str, about: str) -> list[RenderableType]:
    return [Text(title, style="bold"), *([Text(about, style="dim")] if about else [])]


def _facts(facts: Facts) -> Table:
    """A table whose last column of words may wrap."""
    table = columns(facts.heads)
    for column in table.columns:
        column.vertical = "top"
    for number in facts.text:
        table.columns[number].justify = "left"
        table.columns[number].no_wrap = number + 1 < len(facts.heads)
        table.columns[number].overflow = "fold"
    for row in facts.rows:
        table.add_row(*row)
    return table


def _layers(reading: Reading) -> Table:
    """Per layer: drift, first gradient, steps on both scales of data, share of the fall, cost of freezing."""
    headers = (
        "\nlayer",
        "\ndrift",
        "first\ngrad.",
        *("0..1\nstep", "data\nratio", "-1..1\nstep", "data\nratio"),
        "share\nof fall",
        *("loss if\nfrozen", "learned\nlost"),
    )
    table = columns(headers)
    for layer in reading.layers:
        table.add_row(
            Text(fit(layer.name, 12)),
            percent(layer.drift),
            short(layer.grad_first, 2),
            scientific(layer.update),
            scientific(layer.update_ratio),
            scientific(layer.update_centred),
            scientific(layer.update_ratio_centred),
            percent(layer.share),
            short(layer.frozen_loss),
            words.carried(reading.loss, layer),
        )
    return table


def _trial(trial: TrialResult) -> list[RenderableType]:
    """What was tried, one row a treatment."""
    rows: list[RenderableType] = [
        Text("What was tried, one change at a time", style="bold"),
        Text(words.criterion(trial) + ".", style="dim"),
    ]
    table = columns(["treatment", "before", "after", "verdict", "sham", "rival"])
    table.columns[3].justify = table.columns[5].justify = "left"
    for verdict in trial:
        table.add_row(
            Text(verdict.treatment),
            words.rate(verdict.before),
            words.rate(verdict.after),
            Text(verdict.verdict, style=VERDICT_STYLE[verdict.verdict]),
            _arm(verdict, "sham"),
            Text(_rival(verdict)),
        )
    rows.append(table)
    rows += [Text(f"not tried: {treatment}: {why}", style="dim") for treatment, why in trial.refused.items()]
    rows += [Text(clean(warning), style="yellow") for warning in trial.warnings]
    return rows


def _arm(verdict: Verdict, name: str) -> str:
    return words.rate(verdict.arms[name]) if name in verdict.arms else NOTHING


def _rival(verdict: Verdict) -> str:
    rival = verdict.arms.get("rival")
    return f"{words.rate(rival)} {rival.treatment}" if rival is not None else NOTHING


def _rates(reading: Reading) -> list[RenderableType]:
    """What other learning rates do."""
    table = columns(["learning rate", "final loss", "accuracy", "saturated", "outcome"])
    table.columns[4].justify = "left"
    for rate in reading.rates:
        table.add_row(
            f"{rate.lr:g}", short(rate.loss), percent(rate.accuracy), percent(rate.saturated), rate.outcome
        )
    return [Text("Other learning rates, nothing else changed", style="bold"), table]


def _folded(reading: Reading) -> list[RenderableType]:
    """Causes, trial and learning rates of a reading that is not the main one, in a line each."""
    lines: list[RenderableType] = [
        Text.assemble((f"{finding.code} ", "bold"), clean(finding.summary))
        for finding in reading.diagnosis.roots
        if finding.severity != "info"
    ]
    lines += [Text(line) for line in words.lesser(reading.diagnosis)]
    if reading.trial is not None:
        lines += [Text(line) for line in words.folded_trial(reading.trial)]
    if reading.rates:
        told = "; ".join(
            f"{rate.lr:g}: {short(rate.loss)}, {percent(rate.saturated)} saturated" for rate in reading.rates
        )
        lines.append(Text(f"final loss by learning rate: {told}"))
    return [Padding(line, (0, 0, 0, 2)) for line in lines]


def _conclusions(case: CaseResult) -> list[RenderableType]:
    lines: list[RenderableType] = [Text("In short", style="bold underline")]
    lines.append(fields((f"{n}.", Text(clean(line))) for n, line in enumerate(case.conclusions, start=1)))
    roots = case.main.diagnosis.roots
    if roots:
        how = f"unstuck rule {roots[0].name}; the same with charts: --html page.html"
        lines += [Text(), Text.assemble(("next: ", "bold"), how)]
    return lines
