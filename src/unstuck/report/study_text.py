"""A study in the terminal: its table with intervals, and maps over two factors."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unstuck.report import study_words as words
from unstuck.report.heat_map import heat_map
from unstuck.report.numbers import clean
from unstuck.report.terminal import columns
from unstuck.study.result import StudyResult

MOST_ROWS = 60


def study_text(result: StudyResult) -> RenderableType:
    """A study to print with rich."""
    title = result.design.study.settings.study.name
    parts: list[RenderableType] = [
        Text.assemble((clean(title), "bold"), f": {words.setting(result)}"),
        *(Text(clean(f"note: {note}"), style="yellow") for note in result.notes),
        Text(),
    ]
    if not result.cells:
        return Group(*parts, Text("nothing is finished yet"))
    parts.append(_table(result))
    hidden = len(result.cells) - MOST_ROWS
    if hidden > 0:
        parts.append(Text(f"... and {hidden} more cells: --format json", style="dim"))
    parts.append(Text(words.LEGEND, style="dim"))
    for odds in words.maps(result):
        parts += [Text(), Text(clean(odds.title), style="bold"), heat_map(odds)]
    boundaries = words.boundaries(result)
    if boundaries:
        parts += [Text(), Text("Where half of the members succeed (95 % interval)", style="bold")]
        parts += [Text(clean(line)) for line in boundaries]
    differences = words.differences(result)
    if differences:
        parts += [Text(), Text("What makes a difference", style="bold")]
        parts += [Text(clean(line)) for line in differences]
        parts.append(Text(words.COMPARED, style="dim"))
    page = "the same with charts: --html page.html"
    rows = f"all rows: duckdb or pandas on {result.store.shards}/*.parquet"
    parts += [Text(), Text.assemble(("next: ", "bold"), f"{page}; {clean(rows)}")]
    return Group(*parts)


def _table(result: StudyResult) -> Table:
    """Where the terminal is narrow the values of factors are wrapped, and never a number."""
    factors, lines = len(words.varied(result)), words.rows(result)[:MOST_ROWS]
    heads = words.heads(result)
    table = columns(heads, left=factors)
    for number, column in enumerate(table.columns):
        column.no_wrap = number >= factors
        column.overflow = "fold"
    for line in lines:
        table.add_row(*(clean(text) for text in line))
    return table
