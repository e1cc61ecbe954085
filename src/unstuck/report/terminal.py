"""A diagnosis as text in the terminal."""

import io
from collections.abc import Iterable, Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import Finding, Severity, Verdict
from unstuck.report import words
from unstuck.report.numbers import clean, fit, percent, scientific

STATUS_STYLE = {
    "faulty": "bold red",
    "healthy": "bold green",
    "no known cause": "bold yellow",
    "undetermined": "bold yellow",
}
SEVERITY_STYLE: dict[Severity, str] = {"error": "red", "warning": "yellow", "info": "cyan"}
VERDICT_STYLE = {"proved": "bold green", "harmful": "bold red", "not shown": "dim"}
FILE_WIDTH = 100


def diagnosis_text(diagnosis: Diagnosis) -> RenderableType:
    """A diagnosis to print with rich: one line for a healthy network, else the causes first.

    Args:
        diagnosis: of one network; its variants are left out.
    """
    if diagnosis.status == "healthy":
        return Group(verdict_line(words.headline(diagnosis)), *findings_text(diagnosis))
    parts: list[RenderableType] = [verdict_line(words.headline(diagnosis))]
    if diagnosis.status == "faulty":
        parts.append(Text(words.ending(diagnosis), style="dim"))
    parts += findings_text(diagnosis)
    if diagnosis.layers:
        parts += [Text(), layers_table(diagnosis)]
    if words.gradient_matters(diagnosis):
        parts += [Text(), Text(words.GRADIENT, style="bold"), gradient_table(diagnosis)]
    skipped = words.not_checked(diagnosis)
    parts += [Text(), Text(skipped, style="dim")] if skipped else []
    if diagnosis.findings:
        parts += [Text(), next_step(diagnosis)]
    return Group(*parts)


def verdict_line(sentence: str) -> Text:
    """A sentence that begins with a status and a colon, the status in colour."""
    status, _, rest = sentence.partition(":")
    return Text.assemble((status, STATUS_STYLE[status]), ":", rest)


def next_step(diagnosis: Diagnosis) -> Text:
    """Where to read on."""
    first = diagnosis.roots[0] if diagnosis.roots else diagnosis.findings[0]
    return Text.assemble(("next: ", "bold"), f"unstuck rule {first.name}")


def findings_text(diagnosis: Diagnosis) -> list[RenderableType]:
    """Root causes in order, then what a trial has ruled out."""
    parts: list[RenderableType] = []
    roots = diagnosis.roots
    for number, finding in enumerate(roots[: words.MOST_CAUSES], start=1):
        parts += [Text(), _title(finding, f"{number}. "), _body(finding, diagnosis.verdicts)]
    if len(roots) > words.MOST_CAUSES:
        parts += [Text(), Text(words.further(roots[words.MOST_CAUSES :]), style="dim")]
    demoted = [finding for finding in diagnosis.findings if finding.demoted]
    if demoted:
        parts += [Text(), Text("ruled out by the trial", style="bold")]
    for finding in demoted:
        reason = fields([("because", Text(clean(finding.demoted)))])
        parts += [Padding(_title(finding, "- "), (0, 0, 0, 1)), Padding(reason, (0, 0, 0, 3))]
    return parts


def _title(finding: Finding, number: str) -> Text:
    return Text.assemble(
        number,
        (finding.code, f"bold {SEVERITY_STYLE[finding.severity]}"),
        " ",
        (words.place(finding.name, finding.layer), "bold"),
        (f"  ({finding.severity})", SEVERITY_STYLE[finding.severity]),
    )


def _body(finding: Finding, verdicts: Sequence[Verdict]) -> RenderableType:
    if finding.severity == "info":
        return Padding(Text(clean(finding.summary)), (0, 0, 0, 3))
    rows: list[tuple[str, Text]] = []
    if finding.location is not None:
        rows.append(("where", Text(f"{clean(finding.location.file)}:{finding.location.line}")))
    if finding.evidence:
        rows.append(("measured", Text("; ".join(words.measured(finding)))))
    if finding.consequences:
        rows.append(("explains", Text(words.explained(finding))))
    if finding.rival:
        rows.append(("rival", Text(clean(finding.rival))))
    for number, treatment in enumerate(finding.treatments):
        text = Text.assemble((treatment.id, "bold"), f"  {clean(treatment.summary)}")
        said = words.tried(verdicts, treatment.id)
        if said:
            text.append(f" ({said})", style=VERDICT_STYLE[said.partition(",")[0]])
        rows.append(("" if number else "try", text))
    return Padding(Group(Text(clean(finding.summary)), fields(rows)), (0, 0, 0, 3))


def fields(rows: Iterable[tuple[str, Text]]) -> Table:
    """Labels in one column, text that may wrap beside them."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(ratio=1)
    for label, text in rows:
        grid.add_row(label, text)
    return grid


def columns(headers: Sequence[str], *, left: int = 1) -> Table:
    """An empty table whose cells never wrap: the first `left` columns are text, the others numbers."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for number, header in enumerate(headers):
        table.add_column(
            header,
            justify="left" if number < left else "right",
            no_wrap=True,
            overflow="ellipsis",
            vertical="bottom",
        )
    return table


def layers_table(diagnosis: Diagnosis) -> Table:
    """What each layer did over the whole training."""
    table = columns(["layer", "type", "drift", "a step changes", "share of loss change"], left=2)
    for row in diagnosis.layers:
        table.add_row(
            Text(fit(row.name, 28)),
            Text(fit(row.type, 12)),
            percent(row.drift),
            scientific(row.update_ratio),
            percent(row.loss_share),
        )
    return table


def gradient_table(diagnosis: Diagnosis) -> Table:
    """What each layer did to the gradient on its way back."""
    table = columns(words.GRADIENT_HEADS)
    for row in words.gradient_rows(diagnosis):
        table.add_row(*(Text(fit(row[0], 40)), *row[1:]))
    return table


def to_plain(renderable: RenderableType, width: int = FILE_WIDTH) -> str:
    """Text without colours, for a file or for other formats."""
    console = Console(
        file=io.StringIO(),
        width=width,
        color_system=None,
        force_terminal=False,
        legacy_windows=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(renderable, markup=False, highlight=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
