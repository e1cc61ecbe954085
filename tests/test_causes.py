import msgspec
import pytest

from small_network import Network
from traces import facts, linear, op, recorded
from unstuck.diagnose.applied import beside
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.causes import explains, fold
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.finding import Finding
from unstuck.diagnose.registry import RULES, chosen, find
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


def test_some_causes_explain_only_what_nothing_else_does(trace):
    dead = finding("ACT002", "fc2")
    shrinks, unstable = finding("INI003", None, "warning"), finding("LRN003", None, "warning")
    assert [root.code for root in fold([dead, shrinks], trace)] == ["INI003"]
    roots = {
        root.code: [one.code for one in root.consequences] for root in fold([dead, shrinks, unstable], trace)
    }
    assert roots == {"LRN003": ["ACT002"], "INI003": []}


def test_severity_comes_before_everything(trace):
    roots = fold([finding("LRN002", None, "warning", 1.0), finding("ACT005", "fc1", "error", 0.1)], trace)
    assert [root.severity for root in roots] == ["error", "warning"]


# ---- two faults at once


def test_what_a_cause_cannot_have_produced_is_not_folded_under_it(trace):
    cause, effect = finding("NRM001", "fc1", "warning"), finding("LRN002", None, "warning")
    assert [root.code for root in fold([cause, effect], trace)] == ["NRM001"]
    alone = msgspec.structs.replace(effect, apart=("",))
    assert {root.code for root in fold([cause, alone], trace)} == {"NRM001", "LRN002"}
    other = msgspec.structs.replace(effect, apart=("GRD", "LRN001"))
    assert [root.code for root in fold([cause, other], trace)] == ["NRM001"]
    assert not explains(finding("GRD001", "fc1"), other, trace)


def test_what_was_seen_later_stands_behind_findings_of_its_severity(trace):
    first, second = finding("LRN010", None, "warning", 0.5), finding("NRM001", "fc1", "warning", 0.9)
    assert [root.code for root in fold([first, second], trace)] == ["NRM001", "LRN010"]
    assert [root.code for root in fold([first, second], trace, [second])] == ["LRN010", "NRM001"]


NODES = (linear("fc1", "input"), op("drop", "Dropout", "fc1", p=0.97), linear("fc2", "drop"))


def driven(sign, nodes=NODES, **more):
    start, final = (-2.3, -50.0) if sign < 0 else (2.3, 2.3)
    return recorded(
        nodes,
        "CrossEntropyLoss",
        facts("fc2"),
        start=start,
        final=final,
        baseline=sign * 2.3,
        accuracy=0.1,
        **more,
    )


def test_a_negated_loss_does_not_hide_a_second_fault():
    told = diagnose(driven(-1)).findings
    assert [one.code for one in told] == ["OUT009", "NRM001"]
    mild = (NODES[0], op("drop", "Dropout", "fc1", p=0.3), NODES[2])
    assert [one.code for one in diagnose(driven(-1, mild)).findings] == ["OUT009"]


def test_nothing_is_looked_for_beside_what_is_sound():
    sound = recorded(
        NODES, "CrossEntropyLoss", facts("fc2"), start=2.3, final=0.1, baseline=2.3, accuracy=0.9
    )
    assert diagnose(sound).findings == ()
    unknown = recorded(NODES, "SomethingElse", facts("fc2"), start=2.3, final=2.2)
    assert [one.code for one in diagnose(unknown).findings if one.severity != "info"] == []
    assert beside([finding("OUT010", "fc2", "info")], unknown, chosen(), load_bounds()) == []


def test_only_what_the_first_fault_cannot_have_done_counts():
    run = driven(-1)
    found = beside([finding("OUT009")], run, chosen(), load_bounds())
    assert [one.code for one in found] == ["NRM001"]
    assert all(one.stands_apart("OUT009") for one in found)
