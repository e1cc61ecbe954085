"""The second case: its odds, its orders, its findings; quick, so with few seeds and wide tolerances."""

import json

import pytest

from unstuck.cases.experiments import Experiments
from unstuck.cases.lottery import Lottery
from unstuck.cases.registry import run_case
from unstuck.errors import UnstuckError
from unstuck.report.case_page import case_page
from unstuck.report.case_text import case_text
from unstuck.report.json_form import case_dict, dumps
from unstuck.report.terminal import to_plain

TOLERANCE = 0.12
"""Four standard deviations of a rate over 300 seeds, at most."""


@pytest.fixture(scope="module")
def case():
    shares = []
    result = run_case("init-order", quick=True, progress=lambda _what, share: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    return result


def rate(case, number, column, row):
    return case.odds[number].counts[column, row].rate


def test_the_odds_are_those_that_were_measured(case):
    for (number, column, row), expected in {
        (0, "4", "ReLU 4"): 0.15,
        (0, "4", "ReLU 8"): 0.55,
        (0, "4", "ReLU 16"): 0.87,
        (0, "4", "Sigmoid 8"): 1.0,
        (0, "3", "ReLU 8"): 0.96,
        (1, "0.15", "ReLU, ReLU"): 0.17,
        (1, "0.9", "ReLU, ReLU"): 0.0,
        (1, "0.5", "ReLU, Sigmoid"): 0.97,
        (2, "He, b=0", "ReLU 8"): 0.04,
        (2, "He, b=0", "ReLU 16"): 0.04,
        (3, "ReLU 8", "seeded per neuron"): 0.023,
        (3, "ReLU 8", "seeded per layer"): 0.132,
        (3, "Sigmoid 8", "seeded per neuron"): 0.087,
        (3, "ReLU 8", "neuron by neuron"): 0.55,
    }.items():
        assert rate(case, number, column, row) == pytest.approx(expected, abs=TOLERANCE), (column, row)


def test_nothing_with_a_sigmoid_output_diverges_and_the_order_flips_seeds(case):
    assert " 0 diverged" in case.conclusions[0]
    orders = case.facts[0]
    flips = {row[0]: row[4] for row in orders.rows}
    assert {row[3] for row in orders.rows} <= {"–", "yes", "not shown"}
    assert float(flips["neuron by neuron"]) == pytest.approx(0.46, abs=TOLERANCE)
    assert float(flips["biases first"]) == pytest.approx(0.48, abs=TOLERANCE)
    assert "no more than chance" in case.conclusions[1]


def test_failing_members_rest_where_a_line_would(case):
    loss, share, words = case.facts[1].rows[0]
    assert float(loss) == pytest.approx(0.2004, abs=0.002)
    assert float(share.removesuffix(" %")) > 50
    assert words == "the best sigmoid of a line"


def test_each_reading_is_diagnosed_as_what_it_is(case):
    found = {reading.key: reading.diagnosis for reading in case.readings}
    assert found["relu"].findings[0].code == "LRN013"
    assert found["reseeded"].findings[0].code == "INI005"
    assert found["relu-output"].findings[0].code in {"ACT001", "ACT002", "OUT001"}
    assert found["sigmoid"].healthy
    verdicts = {one.treatment: one.verdict for one in case.main.diagnosis.verdicts}
    assert verdicts["activation=sigmoid"] == "proved"
    assert verdicts["lr*0.1"] == "harmful"


def test_explanations_are_weighed_and_none_is_sure(case):
    story = case.facts[2]
    assert {row[0] for row in story.rows[:2]} == {
        "seeded again for each layer",
        "one fixed seed in every run",
    }
    assert story.rows[-1][0] == "seeded again for each neuron"
    assert "hardly" in story.about or "not at all" in story.about


def test_text_page_and_json_tell_the_same(case):
    text = to_plain(case_text(case), 100)
    page = case_page(case)
    told = json.loads(dumps(case_dict(case)))["case"]
    for words in ("LRN013", "seeded per neuron", "What was claimed, and what is true of it"):
        assert words in text
        assert words in page
    assert page.count('class="field"') == sum(len(odds.counts) for odds in case.odds)
    cells = told["odds"][0]["cells"]
    assert cells[0]["trials"] == 300
    assert cells[0]["low"] <= cells[0]["p"] <= cells[0]["high"]
    assert len(told["facts"]) == 4


def test_it_has_data_of_its_own():
    with pytest.raises(UnstuckError, match="data of its own"):
        run_case("init-order", data="mnist5k")


def test_a_configuration_is_played_once():
    played = []
    experiments = Experiments(20, played.append)
    first = experiments.play(Lottery(epochs=100))
    assert experiments.play(Lottery(epochs=100)) is first
    assert len(played) == 1
    assert experiments.play(Lottery(epochs=100), 20) is not first


@pytest.mark.long
def test_batch_normalisation_as_it_was_measured():
    norms = Experiments(200, lambda _what: None).norms().counts
    expected = {
        ("none", "ReLU 8, Sigmoid"): 0.18,
        ("batch norm", "ReLU 8, Sigmoid"): 0.97,
        ("batch norm", "ReLU 8, ReLU"): 0.0,
        ("with random shifts", "Sigmoid 4, Sigmoid"): 0.94,
    }
    for place, rate in expected.items():
        assert norms[place].rate == pytest.approx(rate, abs=TOLERANCE), place


@pytest.mark.long
def test_a_further_layer_and_batch_normalisation_with_five_points():
    rows = {row[0]: row[1:] for row in Experiments(300, lambda _what: None).deep_norms().rows}
    online, _, batch, epochs, normed, fewer = (float(word) for word in rows["Sigmoid, Sigmoid"])
    assert online < 0.5
    assert min(batch, normed) > 0.9
    assert 5 * fewer < epochs  # ten times fewer, as reported


def test_other_suspicions_change_one_thing_each():
    few = Experiments(40, lambda _what: None).suspicions()
    rows = {row[0]: row[1:] for row in few.rows}
    assert len(few.heads) == 5
    assert float(rows["as it is"][2]) > 0.8
    assert float(rows["inputs / 10"][2]) < 0.2
    assert float(rows["and 4 sigmoid layers"][2]) < 0.2
    assert float(rows["2 points, ReLU output"][0]) < 0.3 < float(rows["2 points"][0])
