"""`unstuck grow`: a network that grows with a stream of samples; it goes on where it was interrupted."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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

    from unstuck.grow.result import StreamResult
    from unstuck.grow.run import Tell

STREAM = (
    "split-digits, split-mnist5k or split-fashion; an .npz file with X and y; a folder with a folder of "
    "images, or an .npy file, for each class; a .csv or .jsonl file, or - for standard input: a sample a "
    'line, its label and then its numbers, or {"x": [...], "y": label}.'
)


def grow_command(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help=STREAM)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results go to DIR/NAME.")] = Path("results"),
    memory: Annotated[int, typer.Option(min=0, help="Samples kept, over all classes.")] = 500,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Passes over each chunk; default 1, which suits long streams; of named ones 10."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="New samples in an update.")] = 32,
    lr: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-3,
    strategy: Annotated[str, typer.Option(help="replay, naive, gdumb, ewc or lwf.")] = "replay",
    growth: Annotated[str, typer.Option(help="outputs, or auto: hidden parts too, when stuck.")] = "outputs",
    masked: Annotated[
        bool, typer.Option("--masked", help="Without a memory: a softmax of the present classes only.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides all that is random.")] = 0,
    chunk: Annotated[int, typer.Option(min=1, help="Samples that are learned together.")] = 1000,
    stage: Annotated[int, typer.Option(min=1, help="Samples between two tests.")] = 10_000,
    checkpoint: Annotated[int, typer.Option(min=1, help="Chunks between two checkpoints.")] = 10,
    format: FormatOption = Format.text,  # noqa: A002  (the option's name)
    output: OutputOption = None,
    html: HtmlOption = None,
) -> None:
    r"""Learn a stream of samples whose classes may appear at any time, or go on with it.

    After every --stage samples a line tells how many are told right, of all classes seen so far. Where the
    stream has no test set, every tenth sample is set aside for that. Killed or interrupted, the same command
    goes on at the last checkpoint, and ends with the same network. The network is
    DIR/NAME/network-*.safetensors: CNNClassifier.load(path) reads it.

    \b
    unstuck grow split-digits --memory 200         a stream to try it with
    unstuck grow photos --epochs 10                photos/cat/*.png, photos/dog/*.png, ...
    unstuck grow samples.npz --html page.html      np.savez("samples.npz", X=images, y=labels)
    producer | unstuck grow - --stage 1000         cat 0.1 0.7 ...
    """
    with plain_errors():
        if format not in {Format.text, Format.json}:
            raise UnstuckError(f"--format {format.value}: a stream is told as text or json only")
        check_targets(output, html)
        from unstuck.grow.protocols import NAMES
        from unstuck.grow.run import Plan, run_stream
        from unstuck.grow.settings import Settings

        passes = epochs or (10 if stream in NAMES else 1)
        settings = Settings(
            memory, passes, batch_size, lr, cast("Any", strategy), cast("Any", growth), masked
        )
        plan = Plan(settings, chunk, stage, checkpoint, seed)
        try:
            with _progress() as tell:
                result = run_stream(stream, plan, out, tell, sys.stdin)
        except KeyboardInterrupt:
            end("interrupted: the last checkpoint is kept; the same command goes on", INTERRUPTED)
        _show(result, format, output, html)


def _show(result: "StreamResult", format: Format, output: Path | None, html: Path | None) -> None:  # noqa: A002  (see grow_command)
    from unstuck.diagnose.diagnosis import diagnose
    from unstuck.report.json_form import dumps
    from unstuck.report.stream_report import stream_page, stream_text

    def as_json() -> str:
        findings = diagnose(result.recording()).to_dict()["findings"]
        return dumps(result.to_dict() | {"findings": findings})

    show(format, output, lambda: stream_text(result), as_json)
    if html is not None:
        write("--html", html, stream_page(result))


@contextmanager
def _progress() -> "Generator[Tell]":
    """A line after each stage, on standard error."""
    told = [0]

    def tell(result: "StreamResult", samples: int, /) -> None:
        from unstuck.report.stream_report import headline

        if len(result.stages) > told[0]:
            told[0] = len(result.stages)
            typer.echo(f"stage {told[0]}: {headline(result)} ({samples} samples read)", err=True)

    yield tell
