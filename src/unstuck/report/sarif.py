"""SARIF 2.1.0: findings as code scanners report them.

References:
    OASIS, 2020, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.registry import RULES, Rule
from unstuck.report import words
from unstuck.report.formats import networks
from unstuck.report.json_form import dumps

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def sarif(diagnosis: Diagnosis, codes: Sequence[str] = ()) -> str:
    """One run a network; consequences stand in the message of their cause.

    Args:
        diagnosis: and its variants.
        codes: rules to describe; empty: all.
    """
    rules = [RULES[code] for code in sorted(codes or RULES)]
    runs = [_run(network, rules) for network in networks(diagnosis)]
    return dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": runs})


def _run(network: Diagnosis, rules: Sequence[Rule]) -> dict[str, Any]:
    from unstuck import __version__

    index = {rule.code: number for number, rule in enumerate(rules)}
    return {
        "tool": {
            "driver": {
                "name": "unstuck",
                "semanticVersion": __version__,
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "automationDetails": {"id": f"unstuck/{network.name or 'network'}/"},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {
                        "level": "note",
                        "message": {"text": f"{rule.code} was not checked: {rule.because}"},
                        "associatedRule": {"id": rule.code},
                    }
                    for rule in network.not_checked
                ],
            }
        ],
        "results": [_result(finding, index) for finding in network.findings],
        "properties": {"subject": network.subject, "status": network.status, "steps": network.steps},
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.summary},
        "help": {"text": f"unstuck rule {rule.code}", "markdown": rule.page},
        "helpUri": page_uri(rule),
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"preview": rule.preview},
    }


def page_uri(rule: Rule) -> str:
    """Where the rule's page lies: SARIF wants an absolute address, and the page ships with the package."""
    return Path(str(resources.files("unstuck.diagnose") / "pages" / f"{rule.name}.md")).absolute().as_uri()


def _result(finding: Finding, index: dict[str, int]) -> dict[str, Any]:
    text = finding.summary
    if finding.demoted:
        text += f" No cause: {finding.demoted}."
    if finding.consequences:
        text += f" It explains {words.explained(finding)}."
    text += "".join(f" Try {treatment.id}: {treatment.summary}." for treatment in finding.treatments)
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": "note" if finding.demoted else _LEVELS[finding.severity],
        "message": {"text": text},
        "properties": {"step": finding.step, "confidence": finding.confidence},
    }
    if finding.code in index:
        result["ruleIndex"] = index[finding.code]
    location = _location(finding)
    if location:
        result["locations"] = [location]
    return result


def _location(finding: Finding) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if finding.layer:
        location["logicalLocations"] = [
            {"name": finding.layer.rsplit(".", 1)[-1], "fullyQualifiedName": finding.layer, "kind": "member"}
        ]
    if finding.location is not None:
        file = Path(finding.location.file)
        uri = file.as_uri() if file.is_absolute() else quote(file.as_posix())
        location["physicalLocation"] = {
            "artifactLocation": {"uri": uri},
            "region": {"startLine": max(1, finding.location.line)},
        }
    return location
