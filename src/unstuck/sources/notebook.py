"""The cell magic `%%unstuck`: a cell is run watched, and the diagnosis stands under its output."""

import argparse
import shlex
from pathlib import Path
from typing import Any, NoReturn

from unstuck.errors import UnstuckError
from unstuck.sources.script.diagnosis import diagnose_trainings, plain
from unstuck.sources.script.training import StopTraining, WatchOptions
from unstuck.sources.script.watch import Watch


def load_ipython_extension(shell: Any) -> None:
    """Make the cell magic known: what `%load_ext unstuck` calls."""

    def unstuck(line: str, cell: str) -> None:
        """Run the cell watched, and show why it does not train."""
        run_cell(shell, line, cell)

    shell.register_magic_function(unstuck, magic_kind="cell")


def run_cell(shell: Any, line: str, cell: str) -> None:
    """Run a cell as it would run alone, watched, and show what was found.

    Args:
        shell: the IPython shell.
        line: options, as those of `unstuck run`: --steps N, --goal "loss<0.1", --stop-on error, --probe,
            --record DIR, --select and --ignore.
        cell: the code.

    Raises:
        UsageError: of IPython, for a wrong option.
    """
    from IPython.core.error import UsageError  # pyright: ignore[reportMissingImports]  (only in notebooks)

    try:
        options = parse(line)
    except UnstuckError as error:
        raise UsageError(str(error)) from None
    watch = Watch(options)
    handled, handler = shell.custom_exceptions, getattr(shell, "CustomTB", None)
    shell.set_custom_exc((StopTraining,), _no_traceback)
    try:
        with watch:
            shell.run_cell(cell)  # an error of the cell is shown by the shell itself
    finally:
        shell.custom_exceptions, shell.CustomTB = handled, handler
    show(watch, options)


def _no_traceback(*_: Any, **__: Any) -> None:
    """What is stopped on purpose is no error."""


def show(watch: Watch, options: WatchOptions) -> None:
    """Display the diagnosis of what was seen, or why there is none."""
    from IPython.display import display  # pyright: ignore[reportMissingImports]  (only in notebooks)

    if not watch.results:
        reason = "; ".join(watch.notes)
        seen = f"{watch.steps} optimiser steps were seen but none was recorded" if watch.steps else ""
        print(f"unstuck: {seen or 'no optimiser step was seen in this cell'}{': ' * bool(reason)}{reason}")  # noqa: T201  (a cell's output)
        return
    found, _ = diagnose_trainings(watch.results, options.select, options.ignore)
    display({"text/plain": plain(found), "text/html": found._repr_html_()}, raw=True)
    for note in watch.notes:
        print(f"note: {note}")  # noqa: T201  (a cell's output)


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UnstuckError(f"%%unstuck: {message}")


def parse(line: str) -> WatchOptions:
    """The options of a cell magic's first line.

    Raises:
        UnstuckError: an unknown option, or a wrong value.

    Example:
        >>> parse('--steps 20 --goal "loss < 0.1" --select INI,GRD').select
        ('INI', 'GRD')
    """
    parser = _Parser(prog="%%unstuck", add_help=False, allow_abbrev=False)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--goal")
    parser.add_argument("--stop-on", choices=["error"])
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--select", default="")
    parser.add_argument("--ignore", default="")
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UnstuckError(f"%%unstuck: {error}") from None
    given = parser.parse_args(words)
    if given.steps is not None and given.steps < 1:
        raise UnstuckError(f"%%unstuck: --steps {given.steps}: expected at least 1")
    return WatchOptions(
        name="cell",
        steps=given.steps,
        stop_on_error=given.stop_on is not None,
        goal=given.goal,
        probe=given.probe,
        folder=given.record,
        select=_listed(given.select),
        ignore=_listed(given.ignore),
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
