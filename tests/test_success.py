"""When a run of a script counts as a success."""

import pytest

from unstuck.errors import UnstuckError
from unstuck.prove.script.row import Row
from unstuck.prove.success import BETTER, default_success, parse_success


def rows(*losses, constant=1.0, **more):
    return [Row(loss=loss, start=1.5, constant=constant, steps=10, **more) for loss in losses]


@pytest.mark.parametrize(
    ("text", "row", "met"),
    [
        ("loss<0.1", Row(loss=0.09), True),
        ("loss<0.1", Row(loss=0.1), False),
        ("loss<=0.1", Row(loss=0.1), True),
        ("loss<0.1", Row(loss=None), False),
        ("accuracy>=0.9", Row(loss=5.0, accuracy=0.9), True),
        ("accuracy > 0.9, loss < 1", Row(loss=5.0, accuracy=0.95), False),
        ("loss<0.1", Row(loss=0.01, ending="raised", error="KeyError"), False),
        ("loss<0.1", Row(loss=0.01, ending="killed"), False),
    ],
)
def test_the_users_own_criterion(text, row, met):
    assert parse_success(text).met(row) is met


@pytest.mark.parametrize("text", ["", "loss", "loss=1", "loss<a", "speed<1", "loss<1;accuracy>0"])
def test_what_cannot_be_read_is_told(text):
    with pytest.raises(UnstuckError, match="--success"):
        parse_success(text)


def test_a_program_that_does_not_beat_the_constant_prediction_must():
    success = default_success(rows(0.97, 2.0, 0.99), alters_loss=False)
    assert success.met(Row(loss=0.94))
    assert not success.met(Row(loss=0.96))


def test_so_must_one_that_diverges_or_crashes():
    for pilot in (rows(None, 0.5, 0.5), [*rows(0.5, 0.5), Row(ending="raised", error="x", constant=1.0)]):
        success = default_success(pilot, alters_loss=False)
        assert success.met(Row(loss=0.94))
        assert not success.met(Row(loss=0.96))


def test_a_program_that_learns_must_learn_clearly_better():
    success = default_success(rows(0.5, 0.6, 0.7), alters_loss=False)
    assert success.met(Row(loss=0.5 * BETTER - 0.01))
    assert not success.met(Row(loss=0.5 * BETTER + 0.01))
    below_zero = default_success(rows(-1.0, -2.0, -1.5, constant=None), alters_loss=False)
    assert below_zero.met(Row(loss=-2.5))
    assert not below_zero.met(Row(loss=-2.3))


def test_every_class_counts_the_same_where_some_are_rare():
    success = default_success(
        rows(0.3, 0.3, 0.3, accuracy=0.95, balanced=0.5), alters_loss=True, by_class=True
    )
    assert not success.met(Row(loss=0.3, accuracy=0.99, balanced=0.5))
    assert success.met(Row(loss=0.6, accuracy=0.8, balanced=0.7))
    assert "each class alike" in success.because


def test_a_loss_whose_sign_is_in_question_must_come_nearer_to_0():
    success = default_success(rows(-9.0, -8.0, -9.0), alters_loss=True, alters_sign=True)
    assert not success.met(Row(loss=-50.0, start=-1.5))
    assert success.met(Row(loss=0.1, start=1.5))
    assert "nearer to 0" in str(success)


def test_answers_are_judged_where_the_loss_means_something_else():
    success = default_success(rows(1.6, 1.7, 1.8, accuracy=0.9), alters_loss=True)
    assert success.quantities == {"accuracy"}
    assert success.met(Row(loss=9.0, accuracy=0.93))
    assert not success.met(Row(loss=0.0, accuracy=0.91))
    error = default_success(rows(1.6, 1.7, squared_error=0.5), alters_loss=True)
    assert error.met(Row(squared_error=0.39))
    assert not error.met(Row(squared_error=0.41))


def test_without_anything_known_the_loss_must_fall():
    success = default_success([Row(ending="raised", error="IndexError")], alters_loss=False)
    assert success.met(Row(loss=0.5, start=1.0))
    assert not success.met(Row(loss=0.9, start=1.0))
