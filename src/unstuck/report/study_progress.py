"""How far a study is: a bar with the rate and the time left, and the map as it emerges."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unstuck.report import study_words as words
from unstuck.report.heat_map import heat_map
from unstuck.report.numbers import clean, count, short
from unstuck.study.odds import Odds
from unstuck.study.run import Status
from unstuck.study.statistics import Count

MOST_FIELDS = 200
"""Larger maps are not drawn while the study runs."""


def beginning(status: Status) -> str:
    """What is skipped and what is to be done."""
    every = count(len(status.design.shards), "shard")
    left = len(status.design.shards) - status.skipped
    if not status.skipped:
        return f"{every} to be computed"
    return f"{status.skipped} of {every} are finished already and skipped; {left} to be computed"


def left(status: Status) -> str:
    """The time that is probably left."""
    seconds = time.monotonic() - status.began
    todo = len(status.design.shards) - status.done
    if not status.finished:
        return "time left: not known yet"
    remaining = seconds / status.finished * todo
    return f"about {remaining / 60:.0f} min left" if remaining > 90 else f"about {remaining:.0f} s left"


@contextmanager
def live() -> Generator[Callable[[Status], None]]:
    """Draws on standard error while a study runs; nothing of it stays."""
    console = Console(stderr=True, highlight=False)
    shown_beginning = False
    with Live(console=console, transient=True, auto_refresh=False) as screen:

        def tell(status: Status) -> None:
            nonlocal shown_beginning
            if not shown_beginning:
                shown_beginning = True
                console.print(beginning(status))
            screen.update(picture(status), refresh=True)

        yield tell


def picture(status: Status) -> RenderableType:
    """All that is shown of the state."""
    bar = Table.grid(padding=(0, 1))
    cells = len(status.design.cells)
    known = sum(1 for _, members in status.counts.values() if members >= status.design.seeds)
    bar.add_row(
        ProgressBar(total=len(status.design.shards), completed=status.done, width=24),
        Text(
            f"{known} of {count(cells, 'cell')}, {short(status.rate)} members/s, {left(status)}", style="dim"
        ),
    )
    parts: list[RenderableType] = [bar]
    parts += [Text(f"note: {clean(note)}", style="yellow") for note in status.notes]
    emerging = _emerging(status)
    return Group(*parts, *([heat_map(emerging)] if emerging is not None else []))


def _emerging(status: Status) -> Odds | None:
    factors = {path: values for path, values in status.design.study.factors.items() if len(values) > 1}
    if len(factors) != 2 or len(status.design.cells) > MOST_FIELDS:
        return None
    (row, rows), (column, columns) = sorted(factors.items(), key=lambda one: len(one[1]))
    counts = {
        (words.told(cell.factors[column]), words.told(cell.factors[row])): Count(*status.counts[cell.number])
        for cell in status.design.cells
        if cell.number in status.counts
    }
    names = words.name(column), words.name(row)
    return Odds("", "", names, tuple(map(words.told, columns)), tuple(map(words.told, rows)), counts)
