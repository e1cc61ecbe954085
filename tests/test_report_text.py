"""Reports in the terminal: the sentences that matter, widths, and names that try to steer the terminal."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from rich.console import Console

import stories
from unstuck.cases.story import LayerStory, LossStory
from unstuck.diagnose.diagnosis import Diagnosis, LayerRow, Skipped
from unstuck.diagnose.finding import ArmCount, Consequence, Evidence, Finding, TreatmentRef, Verdict
from unstuck.diagnose.outcome import Outcome
from unstuck.diagnose.registry import RULES
from unstuck.report import words
from unstuck.report.case_text import case_text
from unstuck.report.numbers import percent, scientific, short
from unstuck.report.rule_text import known_rules, readable_maths, rule_text, rules_text
from unstuck.report.sparkline import BARS, sparkline
from unstuck.report.terminal import diagnosis_text, to_plain
from unstuck.trace.recording import Series

ENDED = Outcome("not learned", 1.25, 0.45, 0.449, "the loss ended at 0.45")
ROOT = Finding(
    "INI001",
    "zero-weights",
    "error",
    "fc1",
    0,
    0.99,
    "The weights of fc1 are 0.",
    evidence=(
        Evidence("weight_norm", 0.0, "=", 0.0, "fc1"),
        Evidence("grad_ratio", 2.0e-5, "<=", 0.01, "conv1"),
        Evidence("distinct_units", 1.0),
        Evidence("never_shown", 1.0),
    ),
    rival="GRD001 vanishing-gradient: never exactly 0.",
    consequences=(
        Consequence("GRD003", "conv1", "no-gradient"),
        Consequence("GRD003", "conv2", "no-gradient"),
        Consequence("OUT010", None, "constant-prediction"),
    ),
    treatments=(TreatmentRef("init=glorot_uniform*4", "draw all weights"),),
)
FAULTY = Diagnosis((ROOT,), ENDED, layers=(LayerRow("fc1", "Linear", None, 2.26e-2, 1.0),), steps=900)


def text(diagnosis, width=100):
    return to_plain(diagnosis_text(diagnosis), width)


def flat(string):
    return " ".join(string.split())


def test_a_faulty_network_is_told_from_cause_to_treatment():
    lines = text(FAULTY).splitlines()
    assert lines[0] == "faulty: zero-weights in fc1"
    assert lines[1] == "loss 0.45 against 0.449 for a constant prediction"
    told = flat(text(FAULTY))
    for part in (
        "1. INI001 zero-weights in fc1 (error) The weights of fc1 are 0.",
        "measured weight_norm = 0; grad_ratio of conv1 = 2e-5 (fires at <= 0.01); distinct_units = 1 ",
        "explains no-gradient in conv1 and conv2; constant-prediction",
        "rival GRD001 vanishing-gradient: never exactly 0.",
        "try init=glorot_uniform*4 draw all weights",
        "fc1 Linear – 2.3e-2 100 %",
        "next: unstuck rule zero-weights",
    ):
        assert part in told
    assert "never_shown" not in told


def test_a_healthy_network_is_one_line():
    healthy = Diagnosis((), Outcome("learned", 2.3, 0.1, 2.302), layers=FAULTY.layers)
    assert text(healthy, 80) == "healthy: loss 0.1 against 2.3 for a constant prediction\n"
    partly = replace(healthy, not_checked=(Skipped("INI003", "too few layers"),))
    assert text(partly, 80) == "healthy: loss 0.1 against 2.3 for a constant prediction (1 not checked)\n"


def test_what_is_only_worth_knowing_does_not_make_a_network_faulty():
    info = msgspec.structs.replace(ROOT, severity="info")
    told = text(Diagnosis((info,), Outcome("learned", 2.3, 0.1, 2.3)))
    assert told.startswith("healthy: ")
    assert "INI001 zero-weights in fc1  (info)" in told
    assert "rival" not in told


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (
            ENDED,
            "no known cause: loss 0.45 against 0.449 for a constant prediction, and no rule explains it",
        ),
        (
            Outcome("unknown", because="no loss was measured"),
            "undetermined: nothing was found, but no loss was measured",
        ),
        (Outcome("unknown"), "undetermined: nothing was found, but no loss was measured"),
    ],
)
def test_without_findings_the_verdict_says_why(outcome, line):
    assert text(Diagnosis((), outcome)).splitlines()[0] == line


def test_the_reason_is_told_when_one_rule_was_not_checked_and_only_codes_when_several_were():
    one = replace(FAULTY, not_checked=(Skipped("INI003", "it needs more layers"),))
    assert "not checked: INI003, because it needs more layers" in text(one)
    two = replace(one, not_checked=(*one.not_checked, Skipped("ACT003", "there is no sigmoid")))
    line = next(line for line in text(two).splitlines() if line.startswith("not checked"))
    assert line.startswith("not checked: INI003, ACT003 ")


def test_a_cause_that_its_trial_ruled_out_stands_apart():
    none = ArmCount(0, 12)
    verdict = Verdict("init=glorot_uniform*4", "INI001", none, none, (-0.2, 0.2), "not shown")
    told = text(FAULTY.with_verdicts([verdict]))
    assert told.startswith("faulty: the cause is not known; the trial ruled out zero-weights in fc1\n")
    assert "ruled out by the trial" in told
    assert "because  its own treatment changed nothing in the trial (init=glorot_uniform*4: 0 of 12" in told
    assert "1. INI001" not in told


def test_a_treatment_is_told_with_its_verdict():
    verdict = Verdict(
        "init=glorot_uniform*4", "INI001", ArmCount(0, 12), ArmCount(10, 12), (0.4, 0.9), "proved"
    )
    assert "draw all weights (proved, 0/12 -> 10/12)" in text(FAULTY.with_verdicts([verdict]))


def test_names_cannot_steer_the_terminal_nor_style_the_text():
    name = "fc\x1b[31m\n[bold]x[/bold]\u202e"
    shown = text(Diagnosis((msgspec.structs.replace(ROOT, layer=name, summary=name),), ENDED))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "zero-weights in fc\ufffd[31m [bold]x[/bold]\ufffd" in shown


def test_long_names_of_layers_leave_the_numbers_whole():
    long = "backbone.features.denseblock4.denselayer16.conv2"
    rows = (LayerRow(long, "Conv2d", 0.0123, 1.6e-7, 0.25),)
    shown = text(replace(FAULTY, layers=rows), 80)
    assert "denselayer16.conv2 Conv2d 1.2 % 1.6e-7 25 %" in flat(shown)
    assert max(len(line) for line in shown.splitlines()) <= 80


@pytest.mark.parametrize("width", [80, 120])
def test_a_case_fits_the_terminal(width):
    shown = to_plain(case_text(stories.case()), width)
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "…" not in shown


def test_a_case_tells_its_story():
    case = stories.case()
    told = flat(to_plain(case_text(case), 100))
    ratios = [layer.update_ratio for layer in case.readings[1].layers if layer.type != "bias"]
    first = case.main.diagnosis.verdicts[0]
    assert told.startswith(f"{case.question} {case.data}; 9 seeds for each change tried (quick); 12 s;")
    for part in (
        "V2 one convolution, two dense layers at zero",
        "the loss fell from 0.25 to 0.09; 100 % of that is what a constant prediction explains: nothing was",
        'People quote steps of "1e-3 in the first layers, 1e-4 in the last"',
        f"The healthy network below: ratios {scientific(min(ratios))} to {scientific(max(ratios))}.",
        "A run succeeds when its final training loss is below half of the best constant prediction's.",
        f"{first.treatment} 0/9 {first.after.successes}/9 {first.verdict} 0/9 ",
        "10 inf 10 % 97 % diverged",
        "Other readings of the question wide a wide network that learns well",
        "healthy: nothing is wrong, it learns",
        "In short 1. The dense layers start at zero: draw them at random. 2.",
    ):
        assert part in told


def test_a_case_prints_in_colour_and_without():
    console = Console(file=None, width=80, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(case_text(stories.case()))
    assert "\x1b[" in capture.get()
    assert "\x1b[" not in to_plain(case_text(stories.case()))


def loss_story(start, end, constant):
    return LossStory(start, end, constant, 0.5, Series(np.array([0, 1]), np.array([start, end])))


@pytest.mark.parametrize(
    ("start", "end", "constant", "said"),
    [
        (
            1.25,
            0.45,
            0.45,
            "100 % of that is what a constant prediction explains: nothing was learned beyond",
        ),
        (
            1.25,
            0.25,
            0.45,
            "80 % of that is what a constant prediction explains (0.45), the rest was learned",
        ),
        (0.40, 0.25, 0.45, "it started below the 0.45 of a constant prediction: all was learned"),
        (0.40, 0.50, 0.45, "the loss did not fall: 0.4 at the start, 0.5 at the end"),
        (0.40, math.inf, 0.45, "the loss went from 0.4 to inf: it diverged"),
    ],
)
def test_the_fall_of_the_loss_is_split(start, end, constant, said):
    assert said in words.split(loss_story(start, end, constant))


@pytest.mark.parametrize(
    ("frozen", "said"),
    [(0.25, "0 %"), (0.35, "50 %"), (0.45, "all"), (1.25, "all"), (None, "–"), (math.nan, "–")],
)
def test_what_freezing_a_layer_costs(frozen, said):
    layer = LayerStory("fc", "Linear", 0.1, 1.0, 1e-3, 1e-3, 1e-3, 1e-3, 0.5, frozen)
    assert words.carried(loss_story(1.25, 0.25, 0.45), layer) == said


def test_a_sparkline_starts_at_zero_and_marks_what_is_not_finite():
    curve = Series(np.array([0, 50, 100]), np.array([1.0, 0.5, math.inf]))
    line = sparkline(curve, 5)
    assert line[0] == BARS[-1]
    assert line[2] == BARS[4]
    assert line[-1] == "×"
    assert sparkline(Series(np.array([], np.int64), np.array([])), 5) == ""
    assert sparkline(Series(np.array([3]), np.array([0.0])), 4) == BARS[0] * 4


@pytest.mark.parametrize("value", [0.0, -1e-300, 1e-300, 9.9949, 0.9996, 99.96, 12345.6, 1e30, -0.0012349])
def test_numbers_stay_short_and_near_their_value(value):
    for form, most in ((short, 8), (scientific, 9)):
        assert len(form(value)) <= most
        assert float(form(value)) == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize("share", [0.0999, 0.09951, 0.0099, 1e-5, 0.99951, 1.0, -0.5, 25.0])
def test_percentages_stay_near_their_value(share):
    assert float(percent(share).removesuffix(" %")) / 100 == pytest.approx(share, rel=0.06)


def test_every_rule_can_be_read_in_the_terminal():
    for rule in known_rules():
        shown = to_plain(rule_text(rule), 80)
        assert f"{rule.name} ({rule.code})" in shown
        assert "\\" not in shown
        assert "$" not in shown
        assert max(len(line) for line in shown.splitlines()) <= 80


def test_the_list_of_rules_names_all_with_what_they_see():
    shown = flat(to_plain(rules_text(known_rules()), 80))
    for rule in RULES.values():
        preview = " preview" if rule.preview else ""
        assert f"{rule.code} {rule.name} {rule.severity}{preview} {rule.summary}" in shown


def test_formulas_become_readable():
    assert (
        readable_maths(r"$10^{-3}$ and $\lVert W \rVert^{1/(L-1)}$, 5 $ left")
        == "10⁻³ and ‖ W ‖^(1/(L-1)), 5 $ left"
    )
