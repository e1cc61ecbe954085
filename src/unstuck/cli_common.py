"""What the commands share: their common options, where a diagnosis is written to, and how errors are told."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from unstuck.errors import UnstuckError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from unstuck.diagnose.diagnosis import Diagnosis
    from unstuck.diagnose.project import Project
    from unstuck.trace.recording import Recording

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C has ended."""


class Format(StrEnum):
    """How a diagnosis is written."""

    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"
    junit = "junit"


FormatOption = Annotated[Format, typer.Option("--format", help="How to write the result.")]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="Write the result to FILE, not to the terminal."),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with charts.")
]
SelectOption = Annotated[
    str, typer.Option("--select", metavar="PREFIX,..", help="Only rules whose code begins so, as INI,GRD003.")
]
IgnoreOption = Annotated[
    str, typer.Option("--ignore", metavar="PREFIX,..", help="Leave out rules whose code begins so.")
]
ExitZeroOption = Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 whatever is found.")]


def project(select: str, ignore: str) -> "Project":
    """The rules that a command applies: those of the project it is called in, changed by its options.

    Raises:
        UnstuckError: an option or a setting that cannot be, with the file and the key.
    """
    from unstuck import config
    from unstuck.diagnose.project import Project
    from unstuck.report.selection import prefixes

    return Project.of(config.load(), prefixes(select), prefixes(ignore))


def report(
    format: Format,  # noqa: A002  (the option's name)
    output: Path | None,
    found: "Diagnosis",
    codes: tuple[str, ...],
    shown: "RenderableType | None" = None,
    as_json: str | None = None,
) -> None:
    """Write a diagnosis to where it was asked for.

    Args:
        format: how.
        output: the file; None: standard output.
        found: the diagnosis.
        codes: rules that were asked for.
        shown: what stands in the terminal instead of the diagnosis alone.
        as_json: the same for JSON.
    """
    from unstuck.report.formats import render

    if format is Format.text:
        from unstuck.report.terminal import diagnosis_text, to_plain

        shown = diagnosis_text(found) if shown is None else shown
        if output is None:
            print_rich(shown)
            return
        text = to_plain(shown)
    elif format is Format.json and as_json is not None:
        text = as_json
    else:
        text = render(found, format.value, codes)
    if output is None:
        print_text(text)
    else:
        write("--output", output, text)


def write_page(html: Path | None, found: "Diagnosis", recording: "Recording") -> None:
    """Write the page of a diagnosis to where it was asked for."""
    if html is None:
        return
    from unstuck.diagnose.outcome import learning_curve
    from unstuck.report.page import diagnosis_page

    write("--html", html, diagnosis_page(found, learning_curve(recording)))


def show(
    format: Format,  # noqa: A002  (the option's name)
    output: Path | None,
    shown: Callable[[], "RenderableType"],
    told: Callable[[], str],
) -> None:
    """Write what is no diagnosis, as text or JSON, to where it was asked for; only one of both is made.

    Args:
        format: text or JSON.
        output: the file; None: standard output.
        shown: makes what stands in the terminal.
        told: makes the same as JSON.
    """
    if format is Format.text and output is None:
        print_rich(shown())
        return
    from unstuck.report.terminal import to_plain

    text = told() if format is Format.json else to_plain(shown())
    if output is None:
        print_text(text)
    else:
        write("--output", output, text)


def print_rich(shown: "RenderableType") -> None:
    """Print with colours where the terminal has them, and without padding where there is none."""
    from rich.console import Console

    from unstuck.report.terminal import to_plain

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        print_text(to_plain(shown, console.width))
        return
    _accept_any_text()
    console.print(shown)


def print_text(text: str) -> None:
    """Print as it stands."""
    _accept_any_text()
    sys.stdout.write(text)
    sys.stdout.flush()


def _accept_any_text() -> None:
    """A terminal of few characters gets question marks instead of an error."""
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def check_targets(output: Path | None, html: Path | None) -> None:
    """Refuse files that cannot be written before anything is computed for them."""
    from unstuck.report.files import check_target

    for option, path in (("--output", output), ("--html", html)):
        if path is not None:
            check_target(option, path)


def write(option: str, path: Path, text: str) -> None:
    """Write a file that an option asked for, and say so."""
    from unstuck.report.files import write_atomically

    write_atomically(option, path, text)
    typer.echo(f"wrote {path}", err=True)


@contextmanager
def plain_errors() -> Generator[None]:
    """Turn every error into one line and an exit status; UNSTUCK_DEBUG=1 shows where it came from."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        end("interrupted", INTERRUPTED)
    except UnstuckError as error:
        end(f"error: {error}", 2, error)
    except MemoryError as error:
        end("error: not enough memory", 2, error)
    except Exception as error:  # noqa: BLE001  (whatever it is: a reader wants a line, not a traceback)
        kind = f"{type(error).__name__}: {error}"
        end(f"error: a mistake of unstuck itself ({kind}); please report it with UNSTUCK_DEBUG=1", 2, error)


def end(line: str, status: int, error: BaseException | None = None) -> NoReturn:
    """End the program with a line on standard error and an exit status."""
    if error is not None and os.environ.get("UNSTUCK_DEBUG") == "1":
        raise error
    from unstuck.report.numbers import clean

    typer.echo(clean(line), err=True)
    raise typer.Exit(status)
