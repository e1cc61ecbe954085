"""The looks of a trial: what they may spend, and that a trial of useless treatments keeps to it."""

import numpy as np
import pytest

from unstuck.prove.looks import plan_looks
from unstuck.prove.sequential import SequentialTrial
from unstuck.prove.subject import Runs, Sham
from unstuck.prove.verdict import ALPHA, needed_seeds
from unstuck.study.statistics import wilson


class Coins:
    """A subject whose runs succeed by chance: what a treatment does to the chance is known."""

    name = "coins"
    criterion = "the coin says so"
    sham = Sham("order=reshuffled", "another coin")

    def __init__(self, chances, usual, draw):
        self.chances, self.usual, self.draw = chances, usual, draw
        self.asked = []
        self.made = {}

    def refuses(self, treatment):
        return "never" if treatment == "refused" else None

    def run(self, treatment, seeds, progress=None):
        del progress
        chance = self.chances.get(treatment, self.usual)
        for seed in seeds:
            if (treatment, seed) not in self.made:
                self.made[treatment, seed] = bool(self.draw.random() < chance)
        self.asked.append((treatment, len(seeds)))
        success = np.array([self.made[treatment, seed] for seed in seeds])
        words = tuple("success" if good else "stuck" for good in success)
        return Runs(success, np.where(success, 0.0, 1.0), words, np.full(len(success), 0.1))


def trial(chances, *, usual=0.3, seeds=20, seed=0, treatments=None, rivals=None):
    subject = Coins(chances, usual, np.random.default_rng(seed))
    names = list(chances) if treatments is None else treatments
    return SequentialTrial(subject, names, range(seeds), rivals=rivals or {})


@pytest.mark.parametrize("treatments", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("seeds", [1, 6, 8, 9, 10, 12, 20, 40])
def test_looks_end_at_the_last_seed_and_spend_the_error_once(seeds, treatments):
    looks = plan_looks(seeds, treatments)
    assert looks[-1].seeds == seeds
    assert [look.seeds for look in looks] == sorted({look.seeds for look in looks})
    assert sum(look.alpha for look in looks) == pytest.approx(ALPHA)
    for look in looks[:-1]:
        assert 2 * treatments * 0.5**look.seeds <= look.alpha
    if len(looks) > 1:
        assert 2 * treatments * 0.5 ** (looks[0].seeds - 1) > looks[0].alpha


def test_a_clear_cure_is_proved_at_the_first_look_and_useless_ones_are_not():
    result = trial({"cure": 1.0, "nothing": 0.0, "little": 0.0}, usual=0.0).run()
    words = {one.treatment: one.verdict for one in result}
    assert words == {"cure": "proved", "nothing": "not shown", "little": "not shown"}
    trials = {one.treatment: one.after.trials for one in result}
    assert trials == {"cure": plan_looks(20, 3)[0].seeds, "nothing": 4, "little": 4}
    assert result.decisive


@pytest.mark.parametrize("names", [["a"], ["a", "b"], ["a", "b", "c", "d", "e"]])
@pytest.mark.parametrize("seeds", [9, 20])
def test_the_runs_of_a_clear_trial_are_foreseen(names, seeds):
    names = [f"lr*{number}" for number in range(2, 2 + len(names))]
    rivals = dict.fromkeys(names, "clip=1")
    made = trial({names[0]: 1.0}, usual=0.0, treatments=names, rivals=rivals, seeds=seeds)
    result = made.run()
    assert result.runs == made.least_runs <= made.most_runs


def test_harm_is_told():
    result = trial({"poison": 0.0, "nothing": 1.0}, usual=1.0).run()
    assert {one.treatment: one.verdict for one in result} == {"poison": "harmful", "nothing": "not shown"}
    assert result[0].difference[1] < 0


def test_the_rival_of_what_is_proved_runs_over_the_first_of_its_seeds_until_that_is_clear():
    result = trial(
        {"cure": 1.0, "other": 0.0}, usual=0.0, treatments=["cure"], rivals={"cure": "other"}
    ).run()
    assert result[0].arms["rival"].trials == 6  # 1/64 is below 0.025, 1/32 is not
    assert "this cause and not that one" in result.details["cure"].rival
    result = trial(
        {"cure": 1.0, "other": 1.0}, usual=0.0, treatments=["cure"], rivals={"cure": "other"}
    ).run()
    assert result[0].arms["rival"].trials == result[0].after.trials
    assert "does not tell the two causes apart" in result.details["cure"].rival


def test_the_rival_of_what_is_not_proved_is_not_run():
    made = trial(
        {"useless": 0.0, "other": 0.0}, usual=0.0, treatments=["useless"], rivals={"useless": "other"}
    )
    assert "rival" not in made.run()[0].arms
    assert "other" not in dict(made.subject.asked)


def test_the_sham_gets_as_many_seeds_as_it_takes_to_tell_it_from_the_treatment():
    clear = trial({"cure": 1.0}, usual=0.0).run()
    assert clear[0].verdict == "proved"
    assert (clear[0].arms["sham"].trials, clear[0].after.trials) == (5, 7)
    # a sham that does as much as the treatment takes the verdict away, over all seeds
    as_good = trial({"cure": 1.0, "order=reshuffled": 1.0}, usual=0.0, treatments=["cure"]).run()
    assert as_good[0].verdict == "not shown"
    assert as_good[0].arms["sham"].trials == as_good[0].after.trials
    assert any("The sham change alone moved successes from 0 to" in line for line in as_good.warnings)


def test_what_is_refused_does_not_count_in_the_family():
    result = trial({"cure": 1.0}, usual=0.0, treatments=["cure", "refused"]).run()
    assert dict(result.refused) == {"refused": "never"}
    assert result[0].after.trials == plan_looks(20, 1)[0].seeds


def test_two_that_help_only_together_are_proved_together_and_a_useless_pair_is_not():
    names = ["lr*0.1", "lr*0.3", "clip=1"]
    subject = Coins({"lr*0.1+clip=1": 1.0}, 0.0, np.random.default_rng(0))
    result = SequentialTrial(subject, names, range(20), combine=True).run()
    assert [one.treatment for one in result if one.verdict == "proved"] == ["lr*0.1+clip=1"]
    useless = Coins({}, 0.4, np.random.default_rng(0))
    result = SequentialTrial(useless, names, range(20), combine=True).run()
    assert {one.verdict for one in result} == {"not shown"}


def test_too_few_seeds_are_told():
    needed = needed_seeds(1)
    result = trial({"cure": 1.0}, usual=0.0, seeds=needed - 1).run()
    assert result[0].verdict == "not shown"
    assert any("cannot prove anything" in line for line in result.warnings)


@pytest.mark.parametrize("usual", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("combine", [False, True])
def test_trials_of_useless_treatments_prove_or_condemn_one_in_twenty_at_most(usual, combine):
    names = ["lr*0.1", "clip=1", "init=he_normal", "zero_grad"]
    results = [
        SequentialTrial(
            Coins({}, usual, np.random.default_rng(seed)), names, range(20), combine=combine
        ).run()
        for seed in range(400)
    ]
    false = sum(any(one.verdict != "not shown" for one in result) for result in results)
    assert wilson(false, len(results)).low <= ALPHA
    assert false > 0 or usual != 0.5  # the trials are able to err
