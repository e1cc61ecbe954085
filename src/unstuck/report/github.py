"""GitHub's workflow commands: findings as annotations of a run."""

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import Finding
from unstuck.report import words
from unstuck.report.formats import networks

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}


def github(diagnosis: Diagnosis) -> str:
    """One command a finding; for a network without any, a notice of the verdict."""
    lines: list[str] = []
    for network in networks(diagnosis):
        lines += [_annotation(finding, network) for finding in network.findings]
        if not network.findings:
            lines.append(_command("notice", {"title": "unstuck"}, _of(network) + words.headline(network)))
    return "".join(f"{line}\n" for line in lines)


def _annotation(finding: Finding, network: Diagnosis) -> str:
    command = "notice" if finding.demoted else _COMMANDS[finding.severity]
    title = f"{finding.code} {words.place(finding.name, finding.layer)}"
    properties: dict[str, str] = {}
    if finding.location is not None:
        properties = {"file": finding.location.file, "line": str(finding.location.line)}
    properties["title"] = title
    text = _of(network) + finding.summary
    if finding.demoted:
        text += f"\nNo cause: {finding.demoted}."
    text += "".join(f"\nTry {treatment.id}: {treatment.summary}" for treatment in finding.treatments)
    return _command(command, properties, text)


def _of(network: Diagnosis) -> str:
    return f"[{network.name}] " if network.name else ""


def _command(command: str, properties: dict[str, str], text: str) -> str:
    told = ",".join(f"{key}={escape(value, inside=True)}" for key, value in properties.items())
    return f"::{command} {told}::{escape(text)}"


def escape(text: str, *, inside: bool = False) -> str:
    """Text that a workflow command can hold.

    Args:
        text: of any kind.
        inside: whether it is the value of a property, where a comma or colon would end it.

    Example:
        >>> escape("50%: a,b", inside=True)
        '50%25%3A a%2Cb'
    """
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace(":", "%3A").replace(",", "%2C") if inside else text
