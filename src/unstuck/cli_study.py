"""`unstuck study`: run or resume a study, or show what a folder holds of one."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.cli_common import (
    INTERRUPTED,
    Format,
    FormatOption,
    HtmlOption,
    OutputOption,
    check_targets,
    end,
    plain_errors,
    show,
    write,
)
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from collections.abc import Generator

    from unstuck.study.result import StudyResult
    from unstuck.study.run import Status, Tell


def study_command(
    source: Annotated[str, typer.Argument(metavar="FILE.toml", help="A study file; or: show DIR.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="After show: the folder of a study's results.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results go to DIR/NAME.")] = Path("results"),
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes; default: as many as processors.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Train on the workers of a Dask scheduler.")
    ] = None,
    format: FormatOption = Format.text,  # noqa: A002  (the option's name)
    output: OutputOption = None,
    html: HtmlOption = None,
) -> None:
    """Run a factorial study, or go on with it: how likely is it to train? Or show one: study show DIR."""
    with plain_errors():
        if format not in {Format.text, Format.json}:
            raise UnstuckError(f"--format {format.value}: a study is written as text or json only")
        check_targets(output, html)
        if source == "show":
            if folder is None:
                raise UnstuckError("study show: expected the folder of a study's results")
            from unstuck.study.result import StudyResult

            _tell(StudyResult.load(folder), format, output, html)
            return
        if folder is not None:
            raise UnstuckError(f"study: found {folder} behind {source}, expected a study file alone")
        from unstuck.study.run import StudyInterrupted, run_study

        try:
            with _progress() as tell:
                result = run_study(source, out=out, workers=workers, dask=dask, tell=tell)
        except StudyInterrupted as stop:
            _tell(stop.result, format, output, html)
            end("interrupted: what is finished is kept; the same command goes on", INTERRUPTED)
        _tell(result, format, output, html)


def _tell(result: "StudyResult", format: Format, output: Path | None, html: Path | None) -> None:  # noqa: A002  (see study_command)
    from unstuck.report.study_text import study_text

    show(format, output, lambda: study_text(result), lambda: _json(result))
    if html is not None:
        from unstuck.report.study_page import study_page

        write("--html", html, study_page(result))


def _json(result: "StudyResult") -> str:
    from unstuck.report.json_form import dumps
    from unstuck.study.comparisons import comparisons

    return dumps({**result.to_dict(), "comparisons": [one.to_dict() for one in comparisons(result)]})


@contextmanager
def _progress() -> "Generator[Tell]":
    """What is skipped in a line; then a bar with the emerging map, where somebody watches."""
    if sys.stderr.isatty():
        from unstuck.report.study_progress import live

        with live() as tell:
            yield tell
        return
    told: set[str] = set()

    def tell(status: "Status", /) -> None:
        for line in _lines(status):
            if line not in told:
                told.add(line)
                typer.echo(line, err=True)

    yield tell


def _lines(status: "Status") -> list[str]:
    from unstuck.report.study_progress import beginning

    return [beginning(status), *(f"note: {note}" for note in status.notes)]
