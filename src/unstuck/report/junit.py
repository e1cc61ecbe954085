"""JUnit XML: one test case a rule, as continuous integration shows them."""

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.registry import RULES, Rule
from unstuck.report import words
from unstuck.report.formats import networks

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(diagnosis: Diagnosis, codes: Sequence[str] = ()) -> str:
    """One suite a network, one case a rule: failed, skipped (with the reason) or passed.

    Args:
        diagnosis: and its variants.
        codes: rules to list; empty: all.
    """
    rules = [RULES[code] for code in sorted(codes or RULES)]
    root = Element("testsuites", name="unstuck")
    for network in networks(diagnosis):
        _suite(root, network, rules)
    for suite in list(root):
        for key in ("tests", "failures", "errors", "skipped"):
            root.set(key, str(int(root.get(key, "0")) + int(suite.get(key, "0"))))
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(root: Element, network: Diagnosis, rules: Sequence[Rule]) -> None:
    suite = SubElement(root, "testsuite", name=_xml(f"unstuck {network.name}".strip()))
    reasons = {rule.code: rule.because for rule in network.not_checked}
    failures = 0
    for rule in rules:
        case = SubElement(
            suite, "testcase", classname=f"unstuck.{rule.code[:3]}", name=f"{rule.code} {rule.name}"
        )
        found = _told(network, rule.code)
        if found:
            failures += 1
            message = _xml(found[0].partition("\n")[0])
            SubElement(case, "failure", type=rule.severity, message=message).text = _xml("\n\n".join(found))
        elif rule.code in reasons:
            SubElement(case, "skipped", message=_xml(f"not checked: {reasons[rule.code]}"))
    skipped = len(suite.findall("testcase/skipped"))
    suite.attrib.update(tests=str(len(rules)), failures=str(failures), errors="0", skipped=str(skipped))


def _told(network: Diagnosis, code: str) -> list[str]:
    """What is wrong by one rule: its findings, and where it is only a consequence, of what."""
    harmful = [finding for finding in network.roots if finding.severity != "info"]
    found = [_cause(finding) for finding in harmful if finding.code == code]
    for finding in harmful:
        cause = words.place(finding.name, finding.layer)
        found += [
            f"{words.place(effect.name, effect.layer)}: a consequence of {finding.code} {cause}"
            for effect in finding.consequences
            if effect.code == code
        ]
    return found


def _cause(finding: Finding) -> str:
    lines = [f"{words.place(finding.name, finding.layer)}: {finding.summary}"]
    lines += [f"measured: {'; '.join(words.measured(finding))}"] if finding.evidence else []
    lines += [f"try {treatment.id}: {treatment.summary}" for treatment in finding.treatments]
    return "\n".join(lines)


def _xml(text: str) -> str:
    """Text without the characters that no XML may hold."""
    return _FORBIDDEN.sub("\ufffd", text)
