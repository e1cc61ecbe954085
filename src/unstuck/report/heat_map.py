"""A map of success over two factors for the terminal; numbers stand in it, so that it needs no colours."""

from rich.table import Table
from rich.text import Text

from unstuck.report.numbers import NOTHING, clean
from unstuck.report.study_charts import rate
from unstuck.study.odds import Odds
from unstuck.study.statistics import Count

SHADES = ("", "on grey19", "on grey30", "on dark_blue", "on blue3", "on dodger_blue2")
"""Backgrounds from no success at all to nothing but success."""


def heat_map(odds: Odds) -> Table:
    """Success rates by two factors; what is not known yet is a dash."""
    table = Table(box=None, padding=(0, 0), pad_edge=False, header_style="dim")
    table.add_column(clean(odds.names[1]), style="dim", no_wrap=True)
    for column in odds.columns:
        table.add_column(f" {clean(column)} ", justify="right", no_wrap=True)
    table.caption, table.caption_justify = clean(odds.names[0]), "right"
    for row in odds.rows:
        table.add_row(f"{clean(row)} ", *(_field(odds.counts.get((column, row))) for column in odds.columns))
    return table


def _field(counted: Count | None) -> Text:
    if counted is None:
        return Text(f" {NOTHING} ", style="dim")
    shade = min(int(counted.rate * (len(SHADES) - 1) + 1e-9) + (0 < counted.rate < 1), len(SHADES) - 1)
    return Text(f" {rate(counted)} ", style=f"bold white {SHADES[shade]}" if SHADES[shade] else "")
