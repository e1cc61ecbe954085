import re

import pytest

import unstuck  # noqa: F401  (wires `fit(record=True)` and `Recording.diagnose`)
from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.registry import RULES, chosen

BLOCK = re.compile(r"^```python (fires|silent) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = ["What it does", "How it is measured", "What to do", "Rivals", "Error rates", "References"]


def blocks(rule):
    """{"fires": (layer, code), "silent": ("", code)} of a rule's page."""
    return {kind: (layer, code) for kind, layer, code in BLOCK.findall(rule.page)}


def run(code, name):
    """The diagnosis that an example of our own pages ends with."""
    scope = {}
    exec(compile(code, name, "exec"), scope)  # noqa: S102  (our own documentation, which must run as it stands)
    return scope["diagnosis"]


def all_told(diagnosis: Diagnosis):
    """(code, layer) of all findings, consequences included."""
    return [
        (told.code, told.layer) for finding in diagnosis.findings for told in (finding, *finding.consequences)
    ]


@pytest.mark.parametrize("rule", chosen(), ids=lambda rule: rule.name)
def test_a_page_has_all_its_sections_in_order(rule):
    assert rule.page.startswith(f"# {rule.name} ({rule.code})\n")
    places = [rule.page.find(f"\n## {section}\n") for section in SECTIONS]
    assert min(places) > 0
    assert places == sorted(places)
    assert ("provisional" if rule.code == "GRD006" else "bounds.toml") in rule.page


def test_every_page_is_of_a_rule():
    from importlib import resources

    pages = {path.name for path in (resources.files("unstuck.diagnose") / "pages").iterdir()}
    assert pages == {f"{rule.name}.md" for rule in RULES.values()}


@pytest.mark.parametrize("rule", chosen(), ids=lambda rule: rule.name)
def test_the_example_fires(rule):
    layer, code = blocks(rule)["fires"]
    diagnosis = run(code, f"{rule.name}.md")
    assert (rule.code, layer or None) in all_told(diagnosis)
    assert diagnosis.status in ({"healthy", "undetermined"} if rule.severity == "info" else {"faulty"})


@pytest.mark.parametrize("rule", chosen(), ids=lambda rule: rule.name)
def test_the_repaired_example_is_silent(rule):
    diagnosis = run(blocks(rule)["silent"][1], f"{rule.name}.md")
    assert rule.code not in [code for code, _ in all_told(diagnosis)]
    assert diagnosis.healthy
