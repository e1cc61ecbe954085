import pytest

from small_network import Network
from unstuck.diagnose.causes import explains, fold
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.registry import RULES, find
from unstuck.trace.recording import Recording


def told(findings):
    return [(finding.code, finding.severity, finding.layer) for finding in findings]


def finding(code, layer=None, severity="error", confidence=0.9):
    return Finding(code, find(code).name, severity, layer, 0, confidence, "")


@pytest.fixture(scope="module")
def trace():
    return Recording(Network((4, 8, 8, 8, 3)).structure)


def test_no_rule_explains_itself_round_a_corner():
    edges = {code: {to for to in known.explains if to != code} for code, known in RULES.items()}
    done = set()
    while len(done) < len(edges):
        free = {code for code, to in edges.items() if code not in done and to <= done}
        assert free, "these explain each other: " + ", ".join(set(edges) - done)
        done |= free
    for code, known in RULES.items():
        assert set(known.explains) <= set(RULES), code
        assert known.explains.get(code, "after") in {"after", "before"}, code


def test_a_chain_is_folded_to_its_root(trace):
    found = [
        finding("OUT010", "fc4"),
        finding("ACT005", "fc3"),
        finding("GRD003", "fc1", "info"),
        finding("INI001", "fc2"),
    ]
    roots = fold(found, trace)
    assert told(roots) == [("INI001", "error", "fc2")]
    assert sorted(effect.code for effect in roots[0].consequences) == ["ACT005", "GRD003", "OUT010"]


def test_each_consequence_stands_once_and_roots_that_explain_more_come_first(trace):
    found = [
        finding("INI002", "fc1", confidence=0.99),
        finding("OUT010", "fc4"),
        finding("GRD003", "fc1", "info"),
        finding("INI001", "fc2"),
    ]
    roots = fold(found, trace)
    assert [root.code for root in roots] == ["INI001", "INI002"]
    assert [effect.code for root in roots for effect in root.consequences].count("OUT010") == 1
    assert fold(found[::-1], trace) == roots


def test_place_and_harm_decide_what_explains_what(trace):
    assert explains(finding("INI001", "fc2"), finding("INI002", "fc2"), trace)
    assert not explains(finding("INI001", "fc2"), finding("INI002", "fc1"), trace)
    assert not explains(finding("INI001", "fc2", "info"), finding("OUT010", "fc4"), trace)
    assert explains(finding("INI001", "fc2", "info"), finding("GRD003", "fc1", "info"), trace)
    assert not explains(finding("ACT005", "fc2"), finding("GRD003", "fc1", "info"), trace)
    assert explains(finding("ACT005", "fc2"), finding("GRD003", "fc1"), trace)


def test_severity_comes_before_everything(trace):
    roots = fold([finding("LRN002", None, "warning", 1.0), finding("ACT005", "fc1", "error", 0.1)], trace)
    assert [root.severity for root in roots] == ["error", "warning"]
