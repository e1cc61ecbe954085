"""`unstuck run`: a training script, unchanged, watched; what was found stands at the end."""

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from unstuck.cli_common import (
    INTERRUPTED,
    ExitZeroOption,
    Format,
    FormatOption,
    HtmlOption,
    IgnoreOption,
    OutputOption,
    SelectOption,
    check_targets,
    end,
    plain_errors,
    project,
    report,
    write_page,
)
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unstuck.diagnose.diagnosis import Diagnosis
    from unstuck.diagnose.project import Project
    from unstuck.sources.script.run import ScriptResult

CONTEXT = {"allow_interspersed_args": False}
"""Settings of the command: what stands after the script's path belongs to the script."""


class ExitCode(StrEnum):
    """Whose exit code `run` ends with."""

    findings = "findings"
    script = "script"


class StopOn(StrEnum):
    """What stops a script early."""

    error = "error"


def run_command(
    script: Annotated[str, typer.Argument(help="The training script.")],
    args: Annotated[
        list[str] | None, typer.Argument(help="Its own arguments, just as after python SCRIPT.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is a module's name, as in python -m.")] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N optimiser steps.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the recording in this folder.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also measure what needs extra computation, on copies.")
    ] = False,
    goal: Annotated[
        str, typer.Option(metavar='"loss<0.1"', help="What counts as learned: on loss or accuracy.")
    ] = "",
    stop_on: Annotated[StopOn | None, typer.Option(help="Stop the script once an error is certain.")] = None,
    exit_code: Annotated[
        ExitCode, typer.Option(help="findings: 1 if something was found; script: the script's own.")
    ] = ExitCode.findings,
    format: FormatOption = Format.text,  # noqa: A002  (the option's name)
    output: OutputOption = None,
    html: HtmlOption = None,
    select: SelectOption = "",
    ignore: IgnoreOption = "",
    exit_zero: ExitZeroOption = False,
) -> None:
    """Run a PyTorch or Keras training script unchanged, watched; options stand before the script."""
    with plain_errors():
        check_targets(output, html)
        _check_goal(goal)
        if record is not None and record.exists() and not record.is_dir():
            raise UnstuckError(f"--record: {record} is a file, expected a folder")
        from unstuck.sources.script.run import WatchOptions, run_script

        rules = project(select, ignore)
        options = WatchOptions(
            steps=steps,
            stop_on_error=stop_on is not None,
            goal=goal or None,
            probe=probe,
            folder=record,
            select=rules.select,
            ignore=rules.ignore,
            bounds=rules.bounds,
        )
        quiet = format is not Format.text and output is None
        result = run_script(script, args or [], options, module=module, stdout_to_stderr=quiet)
        status = 0
        if result.ranks > 1:  # a launcher ends all when one fails, but this one has something to say first
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if result.rank == 0:
            status = _tell(result, rules, (format, output, html))
        _exit(result, status, own=exit_code is ExitCode.script, zero=exit_zero)


def _tell(
    result: "ScriptResult",
    rules: "Project",
    targets: tuple[Format, Path | None, Path | None],
) -> int:
    """Print what was found; returns 1 for errors and warnings, 2 where there was nothing to judge."""
    from unstuck.sources.script.diagnosis import diagnose_trainings

    format, output, html = targets  # noqa: A001  (see run_command)
    if not result.trainings:
        typer.echo(f"error: {result.unseen}", err=True)
        return INTERRUPTED if result.ending == "interrupted" else 2
    found, training = diagnose_trainings(result.trainings, rules.select, rules.ignore, rules.bounds)
    found = rules.judged(found)
    for line in (_ending(result), *(f"note: {note}" for note in result.notes)):
        typer.echo(f"unstuck: {line}", err=True)
    if format is Format.text and output is None:
        typer.echo()  # apart from what the script printed
    report(format, output, found, rules.codes, shown=_all_networks(found))
    write_page(html, found, training.recording)
    return 1 if any(one.status == "faulty" for one in (found, *found.variants)) else 0


def _ending(result: "ScriptResult") -> str:
    """How the script ended, in a line."""
    said = {
        "finished": "finished",
        "exited": f"exited with code {result.code}",
        "interrupted": "was interrupted",
        "raised": f"failed with {type(result.error).__name__}",
        "stopped": "was stopped by --stop-on error"
        if result.stopped == "error"
        else "was stopped by --steps",
    }[result.ending]
    count = len(result.trainings)
    several = f" in {count} trainings" if count > 1 else ""
    return f"{result.name} {said} after {result.steps} optimiser steps{several}"


def _all_networks(found: "Diagnosis") -> "RenderableType":
    """The main diagnosis, and those of the script's other trainings under headings."""
    from rich.console import Group
    from rich.text import Text

    from unstuck.report.terminal import diagnosis_text

    parts: list[RenderableType] = [diagnosis_text(found)]
    for number, variant in enumerate(found.variants, start=1):
        title = f"another training ({number} of {len(found.variants)}), {variant.steps} updates"
        parts += [Text(), Text(title, style="bold"), diagnosis_text(variant)]
    return Group(*parts)


def _exit(result: "ScriptResult", status: int, *, own: bool, zero: bool) -> NoReturn:
    """Tell the script's own failure as python would, and end."""
    if result.error is not None:
        sys.stdout.flush()
        sys.excepthook(type(result.error), result.error, result.error.__traceback__)
    if own:
        raise typer.Exit(result.code)
    if result.failed:
        raise typer.Exit(2)
    raise typer.Exit(0 if zero and status == 1 else status)


def _check_goal(goal: str) -> None:
    from unstuck.prove.success import CONDITION

    if goal and not all(CONDITION.fullmatch(part) for part in goal.split(",")):
        end(f'error: --goal {goal!r}: expected such as "loss<0.1" or "accuracy>=0.9"', 2)
