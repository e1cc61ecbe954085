"""`unstuck prove`: run a script, then again with each proposed treatment over seeds; verdicts."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

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
    print_rich,
    print_text,
    project,
    report,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from unstuck.prove.trial import TrialProgress


def _list(asked: bool) -> None:
    """All treatments, before anything else is read."""
    if asked:
        from unstuck.report.treatments_text import treatments_text

        print_rich(treatments_text())
        raise typer.Exit


def prove_command(
    script: Annotated[str, typer.Argument(help="The training script.")],
    args: Annotated[
        list[str] | None, typer.Argument(help="Its own arguments, just as after python SCRIPT.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is a module's name, as in python -m.")] = False,
    list_: Annotated[
        bool,
        typer.Option("--list", callback=_list, is_eager=True, help="All treatments and what calls for them."),
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most so many runs of each change; default 20.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop every run after N optimiser steps.")
    ] = None,
    treatment: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Try this, as lr*0.1; may be given several times.")
    ] = None,
    success: Annotated[
        str, typer.Option(metavar='"loss<0.1"', help="When a run succeeds: on loss or accuracy.")
    ] = "",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes; default: as many as processors.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler; its workers make the runs.")
    ] = None,
    engine_seeds: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="So many more seeds on our engine, where it does the same; 0: none."
        ),
    ] = 200,
    format: FormatOption = Format.text,  # noqa: A002  (the option's name)
    output: OutputOption = None,
    html: HtmlOption = None,
    select: SelectOption = "",
    ignore: IgnoreOption = "",
    exit_zero: ExitZeroOption = False,
) -> None:
    """Run a script, then again with each proposed change over seeds; options stand before the script."""
    del list_  # its callback has ended the command
    with plain_errors():
        check_targets(output, html)
        from unstuck.prove.script.prove import Request, prove
        from unstuck.report.json_form import dumps
        from unstuck.report.proof_text import diff_text, proof_dict, proof_text

        rules = project(select, ignore)
        request = Request(
            script,
            tuple(args or ()),
            module=module,
            seeds=seeds,
            steps=steps,
            treatments=tuple(treatment or ()),
            success=success,
            workers=workers,
            dask=dask,
            engine=engine_seeds,
            rules=rules,
        )
        with _progress() as tell:
            proof = prove(request, _say, tell)
        told = dumps(proof_dict(proof)) if format is Format.json else None
        report(format, output, proof.diagnosis, rules.codes, shown=proof_text(proof), as_json=told)
        if proof.diff and format is Format.text and output is None:
            print_text("\n" + diff_text(proof.diff))
        if html is not None:
            from unstuck.report.trial_page import proof_page

            write("--html", html, proof_page(proof))
        if proof.trial is not None and proof.trial.interrupted:
            end("interrupted: what is finished is kept; the same command goes on", INTERRUPTED)
        if proof.diagnosis.status == "faulty" and not exit_zero:
            raise typer.Exit(1)


def _say(line: str) -> None:
    from unstuck.report.numbers import clean

    typer.echo(f"unstuck: {clean(line)}", err=True)


@contextmanager
def _progress() -> "Generator[TrialProgress]":
    """A line that is written over where somebody watches; else one for each stage."""
    told: set[str] = set()
    live = sys.stderr.isatty()

    def tell(what: str, done: int, total: int) -> None:
        if live:
            typer.echo(f"\r{what}: {done} of {total} runs   ", err=True, nl=False)
        elif what not in told and done < total:
            told.add(what)
            typer.echo(f"unstuck: {what}: {total} runs, {done} of them known", err=True)

    yield tell
    if live:
        typer.echo("", err=True)
