"""What a value of a factor does against another, seed by seed; and the way of a few members."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

import unstuck
from small_study import tables
from unstuck.report import study_words as words
from unstuck.report.study_page import study_page
from unstuck.report.trajectory_chart import trajectory_chart
from unstuck.study.comparisons import Comparison, comparisons
from unstuck.study.families import single_confidence
from unstuck.study.statistics import Interval, newcombe_paired
from unstuck.study.trajectories import MEMBERS, Trajectories, trajectories

TYPE, RATE, ORDER = "network.layers.1.type", "train.optimizer.lr", "init.order"


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    study = tables()
    study["factors"][ORDER] = ["layer", "across"]
    return unstuck.run_study(study, out=tmp_path_factory.mktemp("out"), workers=1)


def ended(result, **factors):
    wanted = {path: factors[key] for key, path in {"kind": TYPE, "rate": RATE, "order": ORDER}.items()}
    rows = result.relation().fetchall()
    names = result.relation().columns
    found = [dict(zip(names, row, strict=True)) for row in rows]
    return {
        row["seed"]: row["success"]
        for row in found
        if all(row[path] == value for path, value in wanted.items())
    }


def test_cells_that_differ_in_one_factor_are_compared_in_pairs(result):
    found = comparisons(result)
    assert len(found) == 12  # three factors with two values, four settings of the others each
    each = single_confidence(12, method="bonferroni")
    one = next(item for item in found if item.factor == TYPE and item.where == {RATE: 0.5, ORDER: "across"})
    assert (one.value, one.against, one.pairs) == ("ReLU", "Sigmoid", 130)
    after = ended(result, kind="ReLU", rate=0.5, order="across")
    before = ended(result, kind="Sigmoid", rate=0.5, order="across")
    table = [
        sum(after[seed] == first and before[seed] == second for seed in after)
        for first, second in ((True, True), (True, False), (False, True), (False, False))
    ]
    assert one.interval == newcombe_paired(*table, each)
    assert one.difference == pytest.approx((table[1] - table[2]) / 130)


def test_an_unfinished_study_is_compared_over_the_seeds_that_both_have(result, tmp_path):
    small = tables()
    small["study"]["seeds"] = 40
    first = unstuck.run_study(small, out=tmp_path, workers=1)
    for path in list(first.files)[1:]:
        (tmp_path / path).unlink()
    part = type(first).load(tmp_path / "points")
    assert comparisons(part) == ()
    assert words.differences(part) == []
    assert len(comparisons(result)) == 12


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.01, 0.3, "more"),
        (-0.3, -0.01, "fewer"),
        (-0.04, 0.03, "the same"),
        (-0.2, 0.1, "undecided"),
        (-0.01, 0.05, "undecided"),
    ],
)
def test_the_word_follows_from_the_interval(low, high, word):
    assert Comparison("a", 1, 0, {}, 0.0, Interval(low, high), 10).word == word


def test_rows_of_numbers_are_told_by_their_boundary(tmp_path):
    study = tables()
    study["factors"] = {RATE: [0.1, 0.2, 0.4, 0.8]}
    study["study"]["seeds"] = 8
    assert comparisons(unstuck.run_study(study, out=tmp_path, workers=1)) == ()


def test_it_is_told_in_the_text_and_on_the_page(result):
    lines = words.differences(result)
    assert len(lines) == 3
    assert lines[0].startswith("lr: 1 against 0.5: ")
    assert "of 4 settings" in lines[0]
    page = study_page(result)
    assert "What makes a difference" in page
    assert "ReLU against Sigmoid" in page
    assert page.count("trained again from its seed") == len(trajectories(result))


def test_members_are_trained_again_bit_for_bit(result):
    found = trajectories(result)
    assert 1 <= len(found) <= 3
    for one in found:
        rows = ended(result, kind=one.factors[TYPE], rate=one.factors[RATE], order=one.factors[ORDER])
        assert len(one.outcome) == MEMBERS
        assert [word == "success" for word in one.outcome] == [rows[seed] for seed in range(MEMBERS)]
        rate = sum(rows.values()) / len(rows)
        assert 0 < rate < 1


def test_the_chart_draws_a_line_for_each_member():
    loss = np.geomspace(1, 1e-3, 40) * np.array([[1.0], [2.0]])
    loss[1, 20:] = np.nan
    svg = trajectory_chart(Trajectories({}, ("success", "diverged"), np.arange(40), loss))
    lines = [one for one in ET.fromstring(svg).iter() if one.tag.endswith("polyline")]  # noqa: S314  (our own drawing)
    assert [len(one.get("points", "").split()) for one in lines] == [40, 20]
    assert "success (1)" in svg
    assert "stuck" not in svg
    nothing = Trajectories({}, ("diverged",), np.arange(3), np.full((1, 3), np.nan))
    assert trajectory_chart(nothing) == ""
