"""A map of success over two factors for the terminal; numbers stand in it, so that it needs no colours."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from unstuck.report.numbers import NOTHING, clean
from unstuck.report.study_charts import rate
from unstuck.study.statistics import Count

SHADES = ("", "on grey19", "on grey30", "on dark_blue", "on blue3", "on dodger_blue2")
"""Backgrounds from no success at all to nothing but success."""


def heat_map(
    names: tuple[str, str],
    columns: Sequence[str],
    rows: Sequence[str],
    counts: Mapping[tuple[str, str], Count],
) -> Table:
    """Success rates by two factors.

    Args:
        names: of the factor along the columns and of that along the rows.
        columns: its values.
        rows: the values of the other factor, from above.
        counts: by (column, row); what is not known yet is a dash.
    """
    table = Table(box=None, padding=(0, 0), pad_edge=False, title=clean(names[0]), title_justify="left")
    table.add_column(clean(names[1]), style="dim", no_wrap=True)
    for column in columns:
        table.add_column(f" {clean(column)} ", justify="right", no_wrap=True)
    for row in rows:
        table.add_row(f"{clean(row)} ", *(_field(counts.get((column, row))) for column in columns))
    return table


def _field(counted: Count | None) -> Text:
    if counted is None:
        return Text(f" {NOTHING} ", style="dim")
    shade = min(int(counted.rate * (len(SHADES) - 1) + 1e-9) + (0 < counted.rate < 1), len(SHADES) - 1)
    return Text(f" {rate(counted)} ", style=f"bold white {SHADES[shade]}" if SHADES[shade] else "")
