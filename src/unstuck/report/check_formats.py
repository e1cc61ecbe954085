"""Gradient checks as text, JSON, SARIF, GitHub's commands and JUnit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from unstuck.diagnose.handwritten import CODE, NAME
from unstuck.errors import UnstuckError
from unstuck.gradcheck.mistakes import KINDS
from unstuck.gradcheck.report import Report
from unstuck.report.json_form import dumps
from unstuck.report.numbers import clean


def render_checks(subject: str, reports: Sequence[Report], format: str) -> str:  # noqa: A002  (the option's name)
    """Write checks in one of the formats.

    Args:
        subject: the file or program that was checked.
        reports: of its checks.
        format: text, json, sarif, github or junit.

    Returns:
        The whole text, with a line break at its end.

    Raises:
        UnstuckError: an unknown format.
    """
    if format == "text":
        return "\n".join(_text(report) for report in reports)
    if format == "json":
        return dumps(_json(subject, reports))
    if format == "sarif":
        return dumps(_sarif(subject, reports))
    if format == "github":
        return "".join(_annotation(subject, message) for message in _messages(reports))
    if format == "junit":
        return _junit(subject, reports)
    raise UnstuckError(f"format {format!r}: expected text, json, sarif, github or junit")


def _text(report: Report) -> str:
    told = str(report)
    if not report.ok:
        told += f"{CODE} {NAME}: `unstuck rule {CODE}` tells more\n"
    return "\n".join(clean(line) for line in told.split("\n"))


def _messages(reports: Sequence[Report]) -> list[tuple[str, str, str, str]]:
    """Check, tensor, kind and sentence of everything that was found."""
    found: list[tuple[str, str, str, str]] = []
    for report in reports:
        found += [(report.name, m.tensor, m.kind, m.explanation) for m in report.mistakes]
        if report.forward is not None and not report.forward.same:
            found.append((report.name, "forward", "forward-differs", report.forward.text))
    return found


def _json(subject: str, reports: Sequence[Report]) -> dict[str, Any]:
    ok = all(report.ok for report in reports)
    undecided = any(report.undecided for report in reports)
    return {
        "schema": 1,
        "subject": {"kind": "check", "name": subject},
        "status": "faulty" if not ok else "undetermined" if undecided else "healthy",
        "healthy": ok and not undecided,
        "findings": [
            {
                "code": CODE,
                "name": NAME,
                "severity": "error",
                "layer": tensor,
                "check": name,
                "kind": kind,
                "summary": text,
                "url": f"docs/rules/{NAME}",
            }
            for name, tensor, kind, text in _messages(reports)
        ],
        "checks": [report.to_dict() for report in reports],
    }


def _sarif(subject: str, reports: Sequence[Report]) -> dict[str, Any]:
    from unstuck import __version__
    from unstuck.report.rule_text import known_rule
    from unstuck.report.sarif import SCHEMA, page_uri

    results = [
        {
            "ruleId": CODE,
            "level": "error",
            "message": {"text": f"{name}: {tensor}: {kind}: {text}"},
            "locations": [_location(subject, tensor)],
        }
        for name, tensor, kind, text in _messages(reports)
    ]
    rule = {
        "id": CODE,
        "name": NAME,
        "shortDescription": {"text": known_rule(CODE).summary},
        "helpUri": page_uri(known_rule(CODE)),
        "defaultConfiguration": {"level": "error"},
    }
    driver = {"name": "unstuck", "semanticVersion": __version__, "rules": [rule]}
    runs = [{"tool": {"driver": driver}, "results": results}]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}


def _location(subject: str, tensor: str) -> dict[str, Any]:
    location: dict[str, Any] = {"logicalLocations": [{"name": tensor, "kind": "member"}]}
    if Path(subject).is_file():
        path = Path(subject)
        uri = path.as_uri() if path.is_absolute() else quote(path.as_posix())
        location["physicalLocation"] = {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}
    return location


def _annotation(subject: str, message: tuple[str, str, str, str]) -> str:
    name, tensor, kind, text = message
    file = f"file={_property(subject)}," if Path(subject).is_file() else ""
    body = _data(f"{name}: {tensor}: {text}")
    return f"::error {file}title={_property(f'{CODE} {NAME}: {kind}')}::{body}\n"


def _data(text: str) -> str:
    return clean(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _junit(subject: str, reports: Sequence[Report]) -> str:
    root = Element("testsuites", name="unstuck")
    suite = SubElement(root, "testsuite", name=clean(f"unstuck check {subject}"))
    failures = 0
    for report in reports:
        case = SubElement(suite, "testcase", classname="unstuck.check", name=clean(report.name or subject))
        if not report.ok:
            failures += 1
            messages = [f"{tensor}: {kind}: {text}" for _, tensor, kind, text in _messages([report])]
            SubElement(case, "failure", type=NAME, message=clean(messages[0])).text = clean(
                "\n".join(messages)
            )
    counts = {"tests": str(len(reports)), "failures": str(failures), "errors": "0", "skipped": "0"}
    suite.attrib.update(counts)
    root.attrib.update(counts)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def kinds_table() -> str:
    """All kinds of mistakes as a Markdown table, for the documentation."""
    rows = [f"| `{name}` | {kind.title} |" for name, kind in KINDS.items()]
    return "\n".join(["| kind | what it is |", "| --- | --- |", *rows])
