"""A stream in the terminal and as a page: accuracy after each stage, by when the classes came."""

from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.text import Text

from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.finding import Finding
from unstuck.grow.result import Stage, StreamResult
from unstuck.report.heat_map import heat_map
from unstuck.report.numbers import NOTHING, clean, percent
from unstuck.report.page import Chart, Grid, render
from unstuck.report.study_charts import phase_diagram
from unstuck.report.terminal import columns, findings_text
from unstuck.study.odds import Odds
from unstuck.study.statistics import Count

MOST_CLASSES = 4
"""Names of a group that are told; of more, how many there are."""
HEADS = ("after stage", "samples", "classes", "accuracy", "before", "parameters", "memory", "seconds")
LEGEND = (
    "accuracy: test samples of all classes seen so far; before: samples of the stage, answered before they "
    "were learned; memory: samples kept"
)


def stream_text(result: StreamResult) -> RenderableType:
    """A stream to print with rich."""
    title = Text.assemble((clean(named(result)), "bold"), f": {headline(result)}")
    if not result.stages:
        return title
    table = columns(HEADS, left=1)
    for line in rows(result):
        table.add_row(*line)
    parts: list[RenderableType] = [title, Text(), table, Text(LEGEND, style="dim")]
    if len(result.groups) > 1:
        odds = accuracy_map(result)
        parts += [Text(), Text(odds.title, style="bold"), heat_map(odds)]
    diagnosis = diagnose(result.recording())
    if diagnosis.findings:
        parts += [Text(), *findings_text(diagnosis)]
    return Group(*parts)


@dataclass(frozen=True)
class StreamPage:
    """All that the template is given."""

    title: str
    setting: str
    notes: tuple[str, ...]
    charts: tuple[Chart, ...]
    cells: Grid
    legend: str
    boundaries: tuple[str, ...] = ()
    compared: Grid | None = None
    heading: str = "Stage by stage"
    rule: str = ""
    body: str = "study.html"


def stream_page(result: StreamResult) -> str:
    """A page of a stream: HTML that needs no other file."""
    charts = ()
    if len(result.groups) > 1:
        odds = accuracy_map(result)
        drawn = Markup(phase_diagram(odds))  # noqa: S704  (escaped by study_charts)
        charts = (Chart(odds.title, drawn, odds.about),)
    grid = Grid(HEADS, tuple(rows(result)))
    notes = tuple(told(finding) for finding in diagnose(result.recording()).findings)
    return render("page.html", StreamPage(named(result), headline(result), notes, charts, grid, LEGEND))


def told(finding: Finding) -> str:
    """A finding and what to do, in a line."""
    steps = "; or ".join(treatment.summary for treatment in finding.treatments)
    return f"{finding.code} {finding.name}: {finding.summary}{f' Next: {steps}.' if steps else ''}"


def named(result: StreamResult) -> str:
    """What the stream is called."""
    return "standard input" if result.stream == "-" else result.stream


def headline(result: StreamResult) -> str:
    """The outcome in a line."""
    if not result.stages:
        return "nothing is learned yet"
    last = result.stages[-1]
    told = f"{last.samples} samples, {last.classes} classes, accuracy {_share(last.accuracy)}"
    lost = result.forgetting
    forgot = "" if lost is None else f", forgetting {percent(max(lost, 0.0))}"
    return f"{told}{forgot}{'' if result.finished else '; not finished'}"


def rows(result: StreamResult) -> list[tuple[str, ...]]:
    """A line for each stage."""
    return [_row(number, stage) for number, stage in enumerate(result.stages, 1)]


def accuracy_map(result: StreamResult) -> Odds:
    """Accuracy after each stage, for the classes of each stage."""
    names = tuple(
        f"{', '.join(map(str, group))}"
        if len(group) <= MOST_CLASSES
        else f"{len(group)} of stage {first + 1}"
        for group, first in zip(result.groups, result.first, strict=True)
    )
    lines = tuple(map(str, range(1, len(result.stages) + 1)))
    counts = {
        (names[k], lines[i]): Count(stage.right[k], stage.tested[k])
        for i, stage in enumerate(result.stages)
        for k in range(len(stage.tested))
        if stage.tested[k]
    }
    about = "A column that fades downwards is forgotten: its classes were told right once."
    return Odds("Accuracy by classes", about, ("classes", "after stage"), names, lines, counts)


def _row(number: int, stage: Stage) -> tuple[str, ...]:
    return (
        str(number),
        str(stage.samples),
        str(stage.classes),
        _share(stage.accuracy),
        _share(stage.before),
        str(stage.parameters),
        str(stage.memory_samples),
        f"{stage.seconds:.1f}",
    )


def _share(value: float | None) -> str:
    return NOTHING if value is None else percent(value)
