import math

import pytest

from traces import facts, linear, op, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.targets import broadcast_target, label_coding

BOUNDS = load_bounds()


def head(units=10):
    return linear("fc2", "input", units=units)


# ---- OUT006 broadcast-target


def compared(given, wanted, **network):
    return recorded([head(1)], "MSELoss", facts("fc2", given, wanted, "float32"), **network)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [((32, 1), (32,)), ((32,), (32, 1)), ((32, 1, 1, 1), (32,)), ((8, 8, 1), (8, 8))],
)
def test_different_shapes_make_a_table(given, wanted):
    assert told(broadcast_target(compared(given, wanted, target__std=1.0), BOUNDS)) == [
        ("OUT006", "error", "fc2")
    ]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((32, 1), (32, 1)),
        ((32,), (32,)),
        ((32, 1), (1,)),
        ((1, 1), (1,)),
        ((32, 4), (4,)),
        ((32, 10), (32,)),
        ((32, 1, 5), (32, 7, 1)),  # every quantile against every other: on purpose
        ((32, 3), (32,)),
    ],
)
def test_what_fits_or_is_meant_is_no_table(given, wanted):
    assert broadcast_target(compared(given, wanted, target__std=1.0), BOUNDS) == []


def test_a_table_of_one_number_does_no_harm():
    assert broadcast_target(compared((32, 1), (32,), target__std=0.0), BOUNDS) == []


def test_without_shapes_it_is_not_checked():
    with pytest.raises(NotChecked, match="shapes"):
        broadcast_target(recorded([head()], "MSELoss"), BOUNDS)


def test_a_table_in_a_loss_written_by_hand():
    stuck = {"start": 1.4, "final": 1.4, "baseline": 1.4}
    run = recorded([head(1)], table__samples=32.0, **stuck)
    found = broadcast_target(run, BOUNDS)
    assert told(found) == [("OUT006", "error", None)]
    assert "(32, 32)" in found[0].summary
    stuck["final"] = 0.1
    fine = recorded([head(1)], "MSELoss", facts("fc2", (32, 1), (32, 1)), table__samples=32.0, **stuck)
    assert broadcast_target(fine, BOUNDS) == []


# ---- OUT007 label-coding


def labelled(loss, low, high, given=(32, 10), wanted=(32,), dtype="int64", reduction="mean", **network):
    nodes = [head(given[1])]
    shapes = facts("fc2", given, wanted, dtype, reduction)
    return recorded(nodes, loss, shapes, target__min=low, target__max=high, **network)


def yes_no(low, high, **more):
    return labelled("BCEWithLogitsLoss", low, high, (32, 1), (32, 1), "float32", **more)


def test_yes_and_no_are_one_and_zero():
    assert told(label_coding(yes_no(-1.0, 1.0), BOUNDS)) == [("OUT007", "error", "fc2")]
    assert told(label_coding(yes_no(1.0, 2.0), BOUNDS)) == [("OUT007", "error", "fc2")]
    assert label_coding(yes_no(0.0, 1.0), BOUNDS) == []
    assert label_coding(yes_no(0.1, 0.9), BOUNDS) == []  # label smoothing
    assert label_coding(yes_no(1.0, 1.0), BOUNDS) == []  # all real, as for a discriminator
    assert label_coding(yes_no(-1.0, 1.0, reduction="none"), BOUNDS) == []  # -1 is masked afterwards


def test_a_class_that_no_output_has_stops_the_loss():
    run = labelled("CrossEntropyLoss", 1.0, 9.0)
    run.add(40, "", "target.min", 1.0)
    run.add(40, "", "target.max", 10.0)
    found = label_coding(run, BOUNDS)
    assert told(found) == [("OUT007", "error", "fc2")]
    assert "step 40" in found[0].summary
    assert "from 1" in found[0].summary


def test_a_class_that_the_loss_ignores_is_no_mistake():
    assert label_coding(labelled("CrossEntropyLoss", 0.0, 255.0), BOUNDS) == []
    assert label_coding(labelled("CrossEntropyLoss", -100.0, 9.0), BOUNDS) == []


def test_class_probabilities():
    def soft(low, high, mean):
        shapes = {"given": (32, 10), "wanted": (32, 10), "dtype": "float32"}
        return labelled("CrossEntropyLoss", low, high, **shapes, target__mean=mean)

    assert label_coding(soft(0.0, 1.0, 0.1), BOUNDS) == []
    assert label_coding(soft(0.0, 1.0, 0.08), BOUNDS) == []  # rows of zeros: samples that do not count
    assert told(label_coding(soft(-1.2, 2.0, 0.1), BOUNDS)) == [("OUT007", "error", "fc2")]
    assert told(label_coding(soft(0.0, 1.0, 0.3), BOUNDS)) == [("OUT007", "warning", "fc2")]


def test_all_labels_the_same():
    same = labelled("CrossEntropyLoss", 3.0, 3.0)
    assert told(label_coding(same, BOUNDS)) == [("OUT007", "warning", "fc2")]
    assert label_coding(labelled("CrossEntropyLoss", 3.0, 3.0, steps=5), BOUNDS) == []
    changing = labelled("CrossEntropyLoss", 3.0, 3.0)
    changing.add(39, "", "target.min", 2.0)
    assert label_coding(changing, BOUNDS) == []
    scores = op("mm_1", "mm", "input", shape=(32,))
    contrastive = recorded(
        [scores], "CrossEntropyLoss", facts("mm_1", (32, 32)), target__min=0.0, target__max=0.0
    )
    assert label_coding(contrastive, BOUNDS) == []


def test_all_answers_are_to_be_yes():
    found = label_coding(yes_no(1.0, 1.0, baseline=0.0), BOUNDS)
    assert told(found) == [("OUT007", "warning", "fc2")]
    assert "yes" in found[0].summary
    assert label_coding(yes_no(1.0, 1.0, baseline=0.0, steps=5), BOUNDS) == []  # by chance, perhaps
    assert label_coding(yes_no(0.0, 1.0, baseline=0.6), BOUNDS) == []


def test_quantities_have_no_coding():
    regression = labelled("MSELoss", -50.0, 900.0, (32, 1), (32, 1), "float32")
    assert label_coding(regression, BOUNDS) == []
    lost = labelled("BCELoss", math.nan, math.nan, (32, 1), (32, 1), "float32")
    assert label_coding(lost, BOUNDS) == []
