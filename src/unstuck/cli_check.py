"""`unstuck check`: the gradients of one's own layers, in any language, and the mistake in them by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.cli_common import (
    ExitZeroOption,
    Format,
    FormatOption,
    OutputOption,
    check_targets,
    plain_errors,
    print_text,
    write,
)
from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from collections.abc import Callable

    from unstuck.gradcheck.report import Report


def check_command(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.py]", help="It defines forward, backward, params and x, or CHECKS."),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(metavar="PROGRAM", help="Check a program of any language, over its input and output."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long PROGRAM may take for an answer.")
    ] = 30.0,
    header: Annotated[
        Path | None, typer.Option(metavar="FILE.hpp", help="Write the C++ header for --command, and end.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the numbers that the check draws.")] = 0,
    format: FormatOption = Format.text,  # noqa: A002  (the option's name)
    output: OutputOption = None,
    exit_zero: ExitZeroOption = False,
) -> None:
    """Check the gradients of your own layers, and name the mistake in them."""
    with plain_errors():
        check_targets(output, None)
        if header is not None:
            from unstuck.gradcheck.program import header_text

            write("--header", header, header_text())
            return
        subject, reports = _reports(file, command, timeout, seed)
        from unstuck.report.check_formats import render_checks

        text = render_checks(subject, reports, format.value)
        if output is None:
            print_text(text)
        else:
            write("--output", output, text)
        if not exit_zero and not all(report.ok for report in reports):
            raise typer.Exit(1)


def _reports(file: Path | None, command: str | None, timeout: float, seed: int) -> tuple[str, list["Report"]]:
    if (file is None) == (command is None):
        found = "neither" if file is None else "both"
        raise UnstuckError(f"check: found {found}, expected a FILE.py or --command PROGRAM")
    if command is not None:
        from unstuck.gradcheck.program import check_program

        return command, [check_program(command, timeout=timeout, seed=seed)]
    from unstuck.gradcheck.file import load

    if file is None:
        raise UnstuckError("check: expected a FILE.py or --command PROGRAM")
    import contextlib
    import sys

    checks = load(file)
    with contextlib.redirect_stdout(sys.stderr):  # what the user's own code prints is no part of the report
        return str(file), [_run(file, check.name, check.run, seed) for check in checks]


def _run(file: Path, name: str, run: "Callable[[int], Report]", seed: int) -> "Report":
    try:
        return run(seed)
    except UnstuckError as error:
        raise UnstuckError(f"{file}: {name}: {error}") from error
