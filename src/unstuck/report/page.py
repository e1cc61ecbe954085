"""A page of one file: the same story as in the terminal, with charts. Every name in it is escaped."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import Finding, Severity, Verdict
from unstuck.report import charts, words
from unstuck.report.numbers import percent, scientific, short
from unstuck.trace.recording import Series


@dataclass(frozen=True)
class Chart:
    """A drawing with its title, what its marks mean, and what one should see in it."""

    title: str
    svg: Markup
    reading: str
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A table: the first `left` columns are text, the others numbers, except those in `text`."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    text: tuple[int, ...] = ()

    @property
    def words(self) -> list[bool]:
        """For each column, whether it holds text among the numbers."""
        return [number in self.text for number in range(len(self.heads))]


@dataclass(frozen=True)
class Table:
    """A table with a title and what one should see in it."""

    title: str
    about: str
    grid: Grid


@dataclass(frozen=True)
class Proposed:
    """A treatment of a cause, and what a trial said of it."""

    id: str
    summary: str
    said: str


@dataclass(frozen=True)
class Cause:
    """A finding as the page shows it."""

    code: str
    name: str
    layer: str
    severity: Severity
    summary: str
    fields: tuple[tuple[str, str], ...]
    treatments: tuple[Proposed, ...]
    badge: str


@dataclass(frozen=True)
class Part:
    """One network on the page."""

    verdict: str
    status: str
    causes: tuple[Cause, ...]
    demoted: tuple[Cause, ...]
    layers: Grid | None
    skipped: tuple[tuple[str, str], ...]
    passages: Grid | None = None
    why: str = "Why"
    key: str = ""
    title: str = ""
    about: str = ""
    split: str = ""
    accuracy: str = ""
    charts: tuple[Chart, ...] = ()
    trial: Grid | None = None
    criterion: str = ""
    notes: tuple[str, ...] = ()
    rates: Grid | None = None
    legend: tuple[str, ...] = ()
    maps: tuple[Chart, ...] = ()
    facts: tuple[Table, ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """All that the template is given."""

    title: str
    parts: tuple[Part, ...]
    setting: str = ""
    conclusions: tuple[str, ...] = ()
    rule: str = ""
    change: str = ""
    """A diff: what to change in the user's own lines."""
    body: str = "body.html"


def diagnosis_page(diagnosis: Diagnosis, curve: Series | None = None) -> str:
    """A page of one diagnosis.

    Args:
        diagnosis: of one network; its variants are left out.
        curve: its loss by step, for a chart.

    Returns:
        HTML that needs no other file.
    """
    return render("page.html", _page(diagnosis, curve))


def diagnosis_fragment(diagnosis: Diagnosis) -> str:
    """A diagnosis as HTML to stand inside another page, such as a notebook."""
    template = _environment().from_string(
        '<style>{% include "page.css" %}</style><div class="unstuck">{% include "body.html" %}</div>'
    )
    return template.render(page=_page(diagnosis, None))


def _page(diagnosis: Diagnosis, curve: Series | None) -> Page:
    title = diagnosis.name or "Diagnosis of a training"
    plural = "" if diagnosis.steps == 1 else "s"
    steps = f"{diagnosis.steps} update{plural} seen" if diagnosis.steps else ""
    return Page(title, (network(diagnosis, curve),), setting=steps, rule=rule_to_read(diagnosis))


def render(template: str, page: Any) -> str:
    """Fill a template of this package."""
    from unstuck import __version__

    return _environment().get_template(template).render(page=page, version=__version__)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("unstuck.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def capital(sentence: str) -> str:
    """A sentence with a capital at its beginning; the rest stays as it is."""
    return sentence[:1].upper() + sentence[1:]


def rule_to_read(diagnosis: Diagnosis) -> str:
    """The rule whose page the reader should open first."""
    return diagnosis.findings[0].name if diagnosis.findings else ""


def network(diagnosis: Diagnosis, curve: Series | None) -> Part:
    """One diagnosis as a part of a page."""
    return Part(
        verdict=words.headline(diagnosis),
        **common(diagnosis),
        split=capital(words.ending(diagnosis)) if diagnosis.status == "faulty" else "",
        layers=_layers(diagnosis),
        charts=tuple(
            filter(
                None,
                (
                    loss_chart(curve, diagnosis.outcome.baseline, words.ending(diagnosis)) if curve else None,
                    share_chart([(row.name, row.loss_share) for row in diagnosis.layers]),
                    step_chart(
                        [(row.name, row.update_ratio, None) for row in diagnosis.layers], ("step", "")
                    ),
                ),
            )
        ),
    )


def common(diagnosis: Diagnosis) -> dict[str, Any]:
    """What every part of a page shows of its diagnosis."""
    harmful = any(finding.severity != "info" for finding in diagnosis.roots)
    return {
        "status": {"faulty": "faulty", "healthy": "healthy"}.get(diagnosis.status, "unknown"),
        "why": "Why" if harmful else "Good to know",
        "causes": tuple(_cause(finding, diagnosis.verdicts) for finding in diagnosis.roots),
        "demoted": tuple(_ruled_out(finding) for finding in diagnosis.findings if finding.demoted),
        "passages": Grid(words.GRADIENT_HEADS, tuple(words.gradient_rows(diagnosis)))
        if words.gradient_matters(diagnosis)
        else None,
        "skipped": tuple((rule.code, rule.because) for rule in diagnosis.not_checked),
    }


def _cause(finding: Finding, verdicts: tuple[Verdict, ...]) -> Cause:
    told: list[tuple[str, str]] = []
    if finding.location is not None:
        told.append(("where", f"{finding.location.file}:{finding.location.line}"))
    if finding.evidence:
        told.append(("measured", "; ".join(words.measured(finding))))
    if finding.consequences:
        told.append(("explains", words.explained(finding)))
    if finding.rival:
        told.append(("rival", finding.rival))
    return Cause(
        finding.code,
        finding.name,
        finding.layer or "",
        finding.severity,
        finding.summary,
        tuple(told),
        tuple(Proposed(t.id, t.summary, words.tried(verdicts, t.id)) for t in finding.treatments),
        finding.severity,
    )


def _ruled_out(finding: Finding) -> Cause:
    reason = (("because", finding.demoted),)
    return Cause(
        finding.code, finding.name, finding.layer or "", "info", finding.summary, reason, (), "ruled out"
    )


def _layers(diagnosis: Diagnosis) -> Grid | None:
    rows = tuple(
        (row.name, row.type, percent(row.drift), scientific(row.update_ratio), percent(row.loss_share))
        for row in diagnosis.layers
    )
    heads = ("layer", "type", "drift", "step / weights", "share of the\nloss change")
    return Grid(heads, rows, left=2) if rows else None


def loss_chart(curve: Series, constant: float, reading: str) -> Chart | None:
    """The loss by update."""
    svg = charts.loss_chart(curve, constant)
    return Chart("Loss", Markup(svg), f"{capital(reading)}.") if svg else None  # noqa: S704  (escaped by charts)


def share_chart(shares: list[tuple[str, float | None]]) -> Chart | None:
    """Which layer made how much of the change of the loss."""
    svg = charts.share_chart(shares)
    if not svg:
        return None
    name, most = max(shares, key=lambda row: row[1] or 0.0)
    reading = f"{name} made {percent(most)} of the change of the loss."
    return Chart("Who made the loss change", Markup(svg), reading)  # noqa: S704  (escaped by charts)


def step_chart(rows: list[tuple[str, float | None, float | None]], marks: tuple[str, str]) -> Chart | None:
    """How large a step is beside the weights."""
    rows = [row for row in rows if not row[0].endswith(".bias")]
    svg = charts.step_chart(rows, marks)
    known = [row[1] for row in rows if row[1]]
    if not svg or not known:
        return None
    between = f"from {scientific(min(known))} to {scientific(max(known))} of the weights"
    factor = f", a factor of {short(max(known) / min(known), 2)} between layers" if len(known) > 1 else ""
    legend = marks if marks[1] else ()
    reading = f"Steps range {between}{factor}."
    return Chart("Size of a step", Markup(svg), reading, legend)  # noqa: S704  (escaped by charts)
