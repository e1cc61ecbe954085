"""Pictures of a study: every number is there, names are escaped, nothing is drawn of nothing."""

import re
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from unstuck.report.heat_map import heat_map
from unstuck.report.study_charts import OUTCOMES, outcome_chart, phase_diagram, rate, success_chart
from unstuck.study.odds import Odds
from unstuck.study.statistics import Count, wilson

RATES, ACTIVATIONS = ("0.05", "0.5"), ("ReLU", "Sigmoid")
COUNTS = {
    ("0.05", "ReLU"): Count(29, 100),
    ("0.5", "ReLU"): Count(58, 100),
    ("0.05", "Sigmoid"): Count(0, 100),
    ("0.5", "Sigmoid"): Count(100, 100),
}


def odds(counts, names=("lr", "activation"), columns=RATES, rows=ACTIVATIONS):
    return Odds("", "", names, tuple(columns), tuple(rows), counts)


def texts(svg):
    root = ET.fromstring(svg)  # noqa: S314  (our own drawing)
    return [element.text for element in root.iter() if element.tag.endswith("text")]


def notes(svg):
    return re.findall(r"<title>(.*?)</title>", svg)[1:]


def test_a_map_shows_each_field_with_its_rate_and_tells_its_interval():
    svg = phase_diagram(odds(COUNTS))
    assert [word for word in texts(svg) if word in {".29", ".58", "0", "1"}] == [".29", ".58", "0", "1"]
    interval = wilson(58, 100)
    assert f"lr 0.5, activation ReLU: 58 of 100, {interval.low:.3f} to {interval.high:.3f}" in notes(svg)
    assert re.findall(r'fill-opacity="([\d.]+)"', svg) == ["0.290", "0.580", "0.000", "1.000"]


def test_a_map_leaves_missing_fields_empty_and_names_no_more_columns_than_fit():
    many = [str(2**i) for i in range(40)]
    svg = phase_diagram(odds({("1", "ReLU"): Count(1, 2)}, columns=many, rows=["ReLU"]))
    assert svg.count("fill-opacity") == 1
    assert len([word for word in texts(svg) if word in many]) < 12
    assert phase_diagram(odds({})) == ""


def test_names_are_escaped():
    name = "<script>"
    counted = {(name, name): Count(1, 2)}
    for svg in (
        phase_diagram(odds(counted, (name, name), [name], [name])),
        success_chart(
            name, {name: [(1, Count(1, 2)), (2, Count(1, 2))], "b": [(1, Count(1, 2)), (2, Count(1, 2))]}
        ),
        outcome_chart([(name, {"success": 3})]),
    ):
        assert "<script>" not in svg
        assert "&lt;script&gt;" in svg


def test_a_curve_rises_with_success_and_has_its_band():
    svg = success_chart("width", {"net": [(4, Count(10, 100)), (8, Count(60, 100)), (12, Count(90, 100))]})
    path = re.search(r'<polyline class="curve first" points="([^"]*)"', svg).group(1)
    heights = [float(point.split(",")[1]) for point in path.split()]
    assert heights == sorted(heights, reverse=True)
    band = re.search(r'<polygon class="region first" points="([^"]*)"', svg).group(1).split()
    assert len(band) == 6
    assert "net, width 8: 60 of 100" in notes(svg)


@pytest.mark.parametrize(
    ("values", "even"), [((0.01, 0.1, 1.0), True), ((1.0, 2.0, 3.0), True), ((1.0, 2.0, 9.0), False)]
)
def test_the_axis_is_logarithmic_for_values_of_several_sizes(values, even):
    svg = success_chart("lr", {"net": [(value, Count(1, 2)) for value in values]})
    first, second, third = (float(x) for x in re.findall(r'<circle class="[^"]*" cx="([\d.]+)"', svg))
    assert (abs((second - first) - (third - second)) < 0.5) == even


def test_too_many_curves_or_too_few_points_are_not_drawn():
    point = [(1.0, Count(1, 2))]
    assert success_chart("lr", {"one": point}) == ""
    five = {str(i): [*point, (2.0, Count(1, 2))] for i in range(5)}
    assert success_chart("lr", five) == ""


def test_how_members_ended_adds_up():
    ended = {"success": 50, "stuck": 30, "diverged": 20}
    svg = outcome_chart([("ReLU", ended), ("none", {})])
    widths = [
        float(w) for w in re.findall(r'<rect class="outcome \w+" x="[\d.]+" y="4.0" width="([\d.]+)"', svg)
    ]
    assert widths == pytest.approx([0.5 * sum(widths), 0.3 * sum(widths), 0.2 * sum(widths)], abs=0.2)
    assert notes(svg)[0] == "ReLU: success 50 of 100 members"
    assert [word for word in texts(svg) if word in OUTCOMES] == list(OUTCOMES)
    assert outcome_chart([]) == ""


def test_the_terminal_shows_the_same_numbers_without_colours():
    console = Console(width=80, color_system=None, record=True)
    console.print(heat_map(odds({**COUNTS, ("0.5", "Sigmoid"): Count(2, 3)})))
    lines = console.export_text().splitlines()
    assert lines[0].split() == ["activation", "0.05", "0.5"]
    assert lines[1].split() == ["ReLU", ".29", ".58"]
    assert lines[2].split() == ["Sigmoid", "0", ".67"]
    assert lines[3].split() == ["lr"]


@pytest.mark.parametrize(
    ("successes", "trials", "said"),
    [(0, 9, "0"), (9, 9, "1"), (1, 1000, ".00"), (999, 1000, ".99"), (1, 2, ".50")],
)
def test_a_rate_is_1_or_0_only_where_all_or_none_succeed(successes, trials, said):
    assert rate(Count(successes, trials)) == said
