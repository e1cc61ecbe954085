"""A study as a page: maps, curves, how the members ended, and the table."""

from dataclasses import dataclass

from markupsafe import Markup

from unstuck.report import study_words as words
from unstuck.report.numbers import percent
from unstuck.report.page import Chart, Grid, render
from unstuck.report.study_charts import outcome_chart, phase_diagram, success_chart
from unstuck.report.trajectory_chart import trajectory_chart
from unstuck.study.odds import Odds
from unstuck.study.result import StudyResult
from unstuck.study.trajectories import Trajectories, trajectories

COMPARISON = ("factor", "values", "where", "difference", "interval", "success is")
BANDS = "The bands are 95 % intervals."


@dataclass(frozen=True)
class StudyPage:
    """All that the template is given."""

    title: str
    setting: str
    notes: tuple[str, ...]
    charts: tuple[Chart, ...]
    boundaries: tuple[str, ...]
    compared: Grid | None
    comparing: str
    cells: Grid
    legend: str
    heading: str = "All cells"
    rule: str = ""
    body: str = "study.html"


def study_page(result: StudyResult) -> str:
    """A page of a study.

    Returns:
        HTML that needs no other file.
    """
    drawn = [
        *(_chart(odds.title, phase_diagram(odds), _extremes(odds)) for odds in words.maps(result)),
        *(
            _chart(f"Success over {factor}", success_chart(factor, curves), BANDS)
            for factor, curves in words.curves(result)
        ),
        *(_trajectories(result, found) for found in trajectories(result)),
        _chart("How the members ended", outcome_chart(words.ended(result)), words.ENDS),
    ]
    compared = tuple(words.compared(result))
    page = StudyPage(
        title=result.design.study.settings.study.name,
        setting=words.setting(result),
        notes=result.notes,
        charts=tuple(chart for chart in drawn if chart.svg),
        boundaries=tuple(words.boundaries(result)),
        compared=Grid(COMPARISON, compared, left=3, text=(5,)) if compared else None,
        comparing=words.COMPARED,
        cells=Grid(
            words.heads(result),
            tuple(words.rows(result)),
            left=len(words.varied(result)),
        ),
        legend=words.LEGEND,
    )
    return render("page.html", page)


def _chart(title: str, svg: str, reading: str) -> Chart:
    return Chart(title, Markup(svg), reading)  # noqa: S704  (escaped by study_charts)


def _trajectories(result: StudyResult, found: Trajectories) -> Chart:
    where = ", ".join(
        f"{words.name(path)} {words.told(found.factors[path])}" for path in words.varied(result)
    )
    title = f"The first {len(found.outcome)} members{f' where {where}' if where else ''}"
    return _chart(title, trajectory_chart(found), "Each line is one member, trained again from its seed.")


def _extremes(odds: Odds) -> str:
    """Where most and where fewest succeed."""
    if not odds.counts:
        return ""
    best = max(odds.counts, key=lambda place: odds.counts[place].rate)
    worst = min(odds.counts, key=lambda place: odds.counts[place].rate)
    told = [
        f"{' and '.join(filter(None, place))}: {percent(odds.counts[place].rate)}" for place in (best, worst)
    ]
    return f"Most at {told[0]}; fewest at {told[1]}."
