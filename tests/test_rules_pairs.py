"""DAT004 in a plain run: what updates teach of their own batches, and whether any of it holds for others."""

import pytest

from traces import facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.pairs import misaligned_labels

BOUNDS = load_bounds()
STUCK = {"start": 2.3, "final": 2.3, "baseline": 2.3}
LEARNED = {"start": 2.3, "final": 0.4, "baseline": 2.3}
LOOKS = (4, 6, 10, 16, 25, 40, 63, 100, 158)


def updates(*, learned=0.004, fall=0.005, others=1.0, layer="", ended=STUCK, looks=LOOKS, steps=200):
    nodes = [linear("fc1", "input"), op("mid", "Tanh", "fc1"), linear("fc2", "mid")]
    run = recorded(
        nodes, "CrossEntropyLoss", facts("fc2", given=(32, 10), wanted=(32,)), steps=steps, **ended
    )
    for i, step in enumerate(looks):
        values = {"pairs.loss": others + 0.004 * (-1) ** i, "pairs.learned": learned, "pairs.fall": fall}
        run.add_row(step, layer, values)
    return run


def test_pairs_that_are_learned_by_heart_batch_after_batch_and_hold_for_no_other():
    found = misaligned_labels(updates(), BOUNDS)
    assert told(found) == [("DAT004", "error", None)]
    assert "0.8 times the loss" in found[0].summary
    assert "inputs and targets" in found[0].summary
    of_one_input = misaligned_labels(updates(layer="input.image"), BOUNDS)
    assert told(of_one_input) == [("DAT004", "error", None)]
    assert "the image of other samples" in of_one_input[0].summary


@pytest.mark.parametrize(
    "more",
    [
        {"ended": LEARNED},
        {"learned": 0.0001, "fall": 0.0001},  # the rate is too low
        {"learned": 0.0, "fall": 0.01},  # a constant answer: nothing is tied to a sample
        {"learned": 0.05, "fall": -0.2},  # steps that make their own batch worse: the rate is too high
        {"learned": 0.8, "fall": 0.9},  # so large that nothing else can be left
        {"others": 1.1},  # it does hold for others
        {"learned": 0.001, "others": 1.018},  # a good part of the little that was learned does
        {"looks": (4, 6, 10, 16), "steps": 20},  # too few
    ],
)
def test_what_has_another_reason_or_none(more):
    assert misaligned_labels(updates(**more), BOUNDS) == []


def evaluated(*fits, samples=400, final=0.4, first=150):
    run = updates(ended={"start": 2.3, "final": final, "baseline": 2.3}, looks=())
    for i, fit in enumerate(fits):
        run.add_row(first + 20 * i, "evaluation.1", {"evaluation.fit": fit, "evaluation.samples": samples})
    return run


def test_what_is_learned_and_holds_for_nothing_that_it_is_evaluated_with():
    found = misaligned_labels(evaluated(0.3, -1.2), BOUNDS)
    assert told(found) == [("DAT004", "error", None)]
    assert "21% of the best constant answer's" in found[0].summary
    assert "400 samples" in found[0].summary
    among_others = evaluated(30.0, 32.0)
    among_others.add_row(170, "evaluation.2", {"evaluation.fit": 1.0, "evaluation.samples": 300})
    assert "300 samples" in misaligned_labels(among_others, BOUNDS)[0].summary


@pytest.mark.parametrize(
    "run",
    [
        evaluated(20.0),
        evaluated(24.0, -25.0),  # of an accuracy and of a loss
        evaluated(0.3, 8.0),  # it comes late
        evaluated(0.5, samples=30),  # too few to tell
        evaluated(0.5, first=60),  # what came later is not known
        evaluated(1.0, final=2.25),  # hardly anything was learned that could hold
        evaluated(0.0, samples=100, final=2.2),
    ],
)
def test_evaluations_that_say_otherwise_or_too_little(run):
    assert misaligned_labels(run, BOUNDS) == []


def test_without_either_measurement_it_is_not_checked():
    with pytest.raises(NotChecked, match="one update"):
        misaligned_labels(updates(looks=()), BOUNDS)
