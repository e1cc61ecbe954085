"""JSON, SARIF, GitHub's commands and JUnit: what other programs read."""

import json
import math
from dataclasses import replace
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree as ET

import msgspec
import pytest

import stories
from unstuck.diagnose.diagnosis import Diagnosis, LayerRow, Skipped
from unstuck.diagnose.finding import Consequence, Evidence, Finding, TreatmentRef
from unstuck.diagnose.outcome import Outcome
from unstuck.diagnose.registry import RULES
from unstuck.errors import UnstuckError
from unstuck.report.formats import FORMATS, networks, render
from unstuck.report.json_form import case_dict, dumps
from unstuck.report.selection import selected, selected_case
from unstuck.trace.structure import Location

ENDED = Outcome("not learned", 1.25, math.nan, 0.449)
ROOT = Finding(
    "INI001",
    "zero-weights",
    "error",
    "net.fc1",
    3,
    0.99,
    "100% zero: a, b\nand c",
    evidence=(Evidence("weight_norm", math.inf),),
    consequences=(Consequence("GRD003", "conv1", "no-gradient"),),
    treatments=(TreatmentRef("lr*10", "multiply"),),
    location=Location("my dir/train.py", 12),
)
WARNING = msgspec.structs.replace(
    ROOT,
    code="ACT003",
    name="saturated-units",
    severity="warning",
    layer=None,
    consequences=(),
    location=None,
)
INFO = msgspec.structs.replace(WARNING, code="LRN009", name="lazy-training", severity="info")
DIAGNOSIS = Diagnosis(
    (ROOT, WARNING, INFO),
    ENDED,
    layers=(LayerRow("net.fc1", "Linear", math.nan, math.inf, 1.0),),
    not_checked=(Skipped("INI003", "<too few> layers"),),
    kind="torch",
    name="a & b: <net>",
    steps=9,
)
HEALTHY = Diagnosis((), Outcome("learned", 2.3, 0.1, 2.3))


def strict(text):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("diagnosis", [DIAGNOSIS, HEALTHY], ids=["faulty", "healthy"])
def test_every_format_ends_with_one_line_break(diagnosis, format_):
    text = render(diagnosis, format_)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_an_unknown_format_is_refused_by_name():
    with pytest.raises(UnstuckError, match=r"'xml': expected text, json, sarif, github or junit"):
        render(HEALTHY, "xml")


def test_json_is_the_contract_with_null_for_what_is_not_finite():
    told = strict(render(DIAGNOSIS, "json"))
    assert told == DIAGNOSIS.to_dict()
    assert told["layers"] == [
        {"name": "net.fc1", "type": "Linear", "drift": None, "update_ratio": None, "loss_share": 1.0}
    ]
    assert told["findings"][0]["evidence"] == {"weight_norm": None}


def test_what_a_case_adds_stands_under_one_key():
    case = stories.case()
    told = strict(dumps(case_dict(case)))
    plain = strict(render(case.diagnosis, "json"))
    assert {key: value for key, value in told.items() if key != "case"} == plain
    assert told["status"] == "faulty"
    assert [variant["status"] for variant in told["variants"]] == ["healthy"]
    extra = told["case"]
    assert extra["conclusions"] == list(case.conclusions)
    assert [reading["key"] for reading in extra["readings"]] == ["V2", "wide"]
    main = extra["readings"][0]
    assert main["loss"]["by_constant"] == 1.0
    assert main["trial"]["criterion"].startswith("A run succeeds when its final training loss is below half")
    assert set(main["trial"]["refused"]) == {"loss=cross_entropy"}
    assert len(main["trial"]["verdicts"]) == len(told["verdicts"]) == 3
    assert main["rates"][2] == {
        "lr": 10.0,
        "loss": None,
        "accuracy": 0.1,
        "saturated": 0.97,
        "outcome": "diverged",
    }
    shares = [layer["share"] for layer in main["layers"]]
    assert sum(shares) == pytest.approx(1, abs=0.02)
    assert extra["readings"][1]["trial"] is None


def test_the_shares_and_types_of_the_contract_hold_for_a_real_training():
    told = strict(render(stories.diagnosis(zero=True), "json"))
    assert isinstance(told["schema"], int)
    assert set(told["subject"]) == {"kind", "name"}
    assert told["healthy"] is False
    for finding in told["findings"]:
        assert finding["severity"] in {"error", "warning", "info"}
        assert isinstance(finding["step"], int)
        assert 0 <= finding["confidence"] <= 1
        assert finding["url"] == f"docs/rules/{finding['name']}"
        assert all(set(effect) == {"code", "layer"} for effect in finding["consequences"])
    assert sum(layer["loss_share"] for layer in told["layers"]) == pytest.approx(1, abs=0.02)


def test_sarif_has_what_its_standard_demands():
    told = strict(render(DIAGNOSIS, "sarif"))
    assert told["version"] == "2.1.0"
    (run,) = told["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted(RULES)
    for rule in rules:
        address = urlparse(rule["helpUri"])
        assert address.scheme == "file"
        with open(unquote(address.path), encoding="utf-8") as page:  # noqa: PTH123  (the address as it was given)
            assert rule["help"]["markdown"] == page.read()
        assert rule["shortDescription"]["text"]
    results = run["results"]
    assert [result["level"] for result in results] == ["error", "warning", "note"]
    assert [rules[result["ruleIndex"]]["id"] for result in results] == ["INI001", "ACT003", "LRN009"]
    (location,) = results[0]["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "my%20dir/train.py"},
        "region": {"startLine": 12},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "net.fc1"
    assert "locations" not in results[1]
    assert "It explains no-gradient in conv1." in results[0]["message"]["text"]
    (notice,) = run["invocations"][0]["toolExecutionNotifications"]
    assert notice["associatedRule"] == {"id": "INI003"}


def test_sarif_describes_only_the_rules_that_were_asked_for():
    told = strict(render(DIAGNOSIS, "sarif", ["INI001"]))
    (run,) = told["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["INI001"]
    assert "ruleIndex" not in run["results"][1]


def test_github_commands_are_escaped():
    first, second, third = render(DIAGNOSIS, "github").splitlines()
    assert first.startswith("::error file=my dir/train.py,line=12,title=INI001 zero-weights in net.fc1::")
    assert "100%25 zero: a, b%0Aand c" in first
    assert second.startswith("::warning title=ACT003 saturated-units::")
    assert third.startswith("::notice title=LRN009 lazy-training::")
    odd = msgspec.structs.replace(ROOT, layer="a:b,c%\r", location=None)
    (line,) = render(Diagnosis((odd,), ENDED), "github").splitlines()
    assert line.startswith("::error title=INI001 zero-weights in a%3Ab%2Cc%25")
    assert render(HEALTHY, "github").startswith("::notice title=unstuck::healthy: loss 0.1")


def test_junit_has_a_case_for_each_rule():
    root = ET.fromstring(render(DIAGNOSIS, "junit"))  # noqa: S314  (our own output)
    (suite,) = root
    assert suite.get("name") == "unstuck a & b: <net>"
    cases = {case.get("name").split()[0]: case for case in suite}
    assert sorted(cases) == sorted(RULES)
    failed = {code for code, case in cases.items() if case.find("failure") is not None}
    assert failed == {"INI001", "ACT003", "GRD003"}
    consequence = cases["GRD003"].find("failure").text
    assert consequence == "no-gradient in conv1: a consequence of INI001 zero-weights in net.fc1"
    assert cases["INI003"].find("skipped").get("message") == "not checked: <too few> layers"
    assert cases["LRN009"].find("failure") is None
    for element in (root, suite):
        assert [element.get(key) for key in ("tests", "failures", "skipped")] == [str(len(RULES)), "3", "1"]


def test_junit_survives_characters_that_no_xml_may_hold():
    odd = msgspec.structs.replace(ROOT, summary="a\x00\x1b[31m\ud800b")
    root = ET.fromstring(render(Diagnosis((odd,), ENDED), "junit"))  # noqa: S314  (our own output)
    assert any("a\ufffd\ufffd[31m\ufffdb" in failure.text for failure in root.iter("failure"))


def test_what_a_trial_ruled_out_fails_nothing():
    demoted = replace(DIAGNOSIS, findings=(msgspec.structs.replace(ROOT, demoted="it changed nothing"),))
    assert ET.fromstring(render(demoted, "junit")).get("failures") == "0"  # noqa: S314  (our own output)
    assert render(demoted, "github").startswith("::notice ")
    assert strict(render(demoted, "sarif"))["runs"][0]["results"][0]["level"] == "note"


def test_variants_are_written_too():
    several = replace(DIAGNOSIS, variants=(replace(HEALTHY, name="wide"),))
    assert [network.name for network in networks(several)] == ["a & b: <net>", "wide"]
    assert len(strict(render(several, "sarif"))["runs"]) == 2
    assert len(ET.fromstring(render(several, "junit"))) == 2  # noqa: S314  (our own output)
    assert "::notice title=unstuck::[wide] healthy" in render(several, "github")


def test_a_selection_keeps_a_cause_for_its_consequences():
    shown = selected(DIAGNOSIS, {"GRD003", "LRN009"})
    assert [finding.code for finding in shown.findings] == ["INI001", "LRN009"]
    assert shown.not_checked == ()
    assert selected(DIAGNOSIS, {"GRD003"}, {"INI001"}).findings == ()
    assert selected(DIAGNOSIS, set(RULES) - {"GRD003"}).findings[0].consequences == ()
    case = stories.case()
    assert selected_case(case, set(RULES)) is case
    assert selected_case(case, {"LRN009"}).diagnosis.findings == ()
