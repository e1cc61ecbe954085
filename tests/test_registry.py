import pytest

from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import RULES, NotChecked, chosen, find, rule
from unstuck.errors import UnstuckError
from unstuck.trace.recording import Meta, Recording
from unstuck.trace.structure import Node, Structure


def test_rules_are_found_by_code_and_name():
    assert find("INI001") is find("ini001") is find("zero-weights") is find("zero_weights")
    with pytest.raises(UnstuckError, match="did you mean zero-weights"):
        find("zero-wieghts")
    with pytest.raises(UnstuckError, match="INI001"):
        find("INI01")
    with pytest.raises(UnstuckError, match="known are"):
        find("???")


def test_select_and_ignore_by_prefix():
    assert [known.code for known in chosen(select=["INI", "lazy-training"], ignore=["INI003"])] == [
        "INI001",
        "INI002",
        "INI004",
        "INI005",
        "LRN009",
    ]
    assert len(chosen()) == len(RULES)
    with pytest.raises(UnstuckError, match="'XYZ'"):
        chosen(ignore=["XYZ"])


def test_a_rule_must_fit_its_name_and_its_quantities():
    with pytest.raises(UnstuckError, match="expected 'other_name'"):
        rule("XXX001", "other-name", severity="error")(find("INI001").check)
    with pytest.raises(UnstuckError, match="already"):
        rule("INI001", "zero-weights", severity="error")(find("INI001").check)
    assert "XXX001" not in RULES


def test_every_rule_says_what_it_does():
    for known in RULES.values():
        assert known.summary.endswith("."), known.code
        assert known.name.replace("-", "_") == known.check.__name__


def test_what_was_not_measured_is_not_checked():
    diagnosis = diagnose(Recording())
    streams = {code for code in RULES if code.startswith("GRW")}
    assert {skipped.code for skipped in diagnosis.not_checked} == set(RULES) - streams
    assert all(skipped.because for skipped in diagnosis.not_checked)
    assert str(NotChecked("reason")) == "reason"


def test_rules_that_cannot_concern_a_subject_are_not_listed():
    """Only what grows can forget, and only batch normalisations can have too small a batch."""

    def listed(trace):
        return {skipped.code for skipped in diagnose(trace).not_checked}

    plain = Recording(Structure((Node("fc", "Linear", (), (4,), {"weight": (4, 4)}),)), Meta(kind="torch"))
    assert not any(code.startswith("GRW") for code in listed(plain))
    assert "NRM002" not in listed(plain)
    assert "ARC002" in listed(plain)
    assert "ARC002" not in listed(Recording(plain.structure, Meta(kind="engine")))
    normed = Recording(Structure((Node("norm", "BatchNorm1d", (), (4,)),)), Meta(kind="torch"))
    assert "NRM002" in listed(normed)
    assert {"GRW001", "GRW004"} <= listed(Recording(meta=Meta(grows=True)))
    grown = Recording()
    grown.add(0, "", "new_accuracy", 1.0)
    assert {"GRW001", "GRW003"} <= listed(grown)
