"""What a trial will take is told beforehand; a shorter one is offered for a long one, hours are refused."""

import re

import numpy as np
import pytest

from unstuck.errors import UnstuckError
from unstuck.prove.script.cost import OFFERED, foretell, refuse_unfinished
from unstuck.prove.script.pilot import Pilot
from unstuck.prove.script.row import Row
from unstuck.prove.sequential import SequentialTrial
from unstuck.prove.subject import Runs, Sham


class Nothing:
    name, criterion, sham = "nothing", "never", Sham("sham", "the same")

    def refuses(self, treatment):
        del treatment

    def run(self, treatment, seeds, progress=None):
        del treatment, progress
        n = len(seeds)
        return Runs(np.zeros(n, bool), np.zeros(n), ("stuck",) * n, np.zeros(n))


TRIAL = SequentialTrial(Nothing(), ["lr*0.1", "clip=1", "zero_grad"], range(20), combine=True)


def told(seconds, *, steps=None, seeds=None, workers=2, made=1000):
    row = Row(seed=1, seconds=seconds, steps=made, loss=1.0)
    return foretell(TRIAL, Pilot((row,), row), workers, "train.py", steps=steps, seeds=seeds)


def test_a_short_trial_is_told_with_its_size_and_time():
    (line,) = told(2.0)
    assert line.startswith("3 treatments, up to 20 seeds, 2.5 s a run, 2 at a time: between 44 s and 3 min")


def test_a_shorter_one_is_offered_for_a_long_one_and_takes_as_long_as_it_says():
    _, offer = told(60.0)
    steps = int(re.search(r"--steps (\d+) train.py", offer)[1])
    assert f"shown on {steps} steps only" in offer
    assert (steps * 0.06 + 2) * TRIAL.least_runs / 2 == pytest.approx(OFFERED, rel=0.01)


def test_hours_are_refused_unless_they_were_asked_for():
    with pytest.raises(UnstuckError, match=r"train.py: a trial would take 2.9 h or more; give --steps \d+ "):
        told(600.0)
    assert len(told(600.0, seeds=8)) == 2
    assert len(told(600.0, steps=500)) == 1


def test_a_first_run_that_does_not_end_gives_the_number_of_steps_for_a_shorter_one():
    row = Row(ending="interrupted", seconds=301.0, steps=602)
    with pytest.raises(
        UnstuckError, match=r"ended after 301 s and 602 optimiser steps; .*--steps 20 train.py"
    ):
        refuse_unfinished(row, 300.0, "train.py")
    refuse_unfinished(Row(ending="interrupted", seconds=12.0), 300.0, "train.py")  # by somebody else
    refuse_unfinished(Row(ending="finished", seconds=301.0), 300.0, "train.py")


@pytest.mark.parametrize(
    ("again", "repeatable"),
    [
        ({"loss": 0.5, "fingerprint": "a"}, True),
        ({"loss": 0.50001, "fingerprint": "b"}, True),  # a last bit of a sum
        ({"loss": 0.6, "fingerprint": "b"}, False),
        ({"loss": None, "fingerprint": "b"}, False),
    ],
)
def test_whether_a_seed_determines_a_run(again, repeatable):
    assert (
        Pilot((Row(loss=0.5, fingerprint="a", start=2.0),), Row(start=2.0, **again)).repeatable is repeatable
    )


@pytest.mark.parametrize(("start", "repeatable"), [(2.0, True), (2.1, False), (None, False)])
def test_of_runs_that_diverge_the_first_loss_tells(start, repeatable):
    first = Row(fingerprint="a", start=2.0)
    assert Pilot((first,), Row(fingerprint="b", start=start)).repeatable is repeatable
