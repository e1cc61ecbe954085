"""Trials on fake subjects whose odds are known: what is proved, how often by mistake, and what is told."""

import numpy as np
import pytest

from unstuck.diagnose.finding import Finding, TreatmentRef
from unstuck.diagnose.remedies import parse
from unstuck.errors import UnstuckError
from unstuck.prove.subject import RunCache, Runs, Sham, Subject
from unstuck.prove.treatments import choose
from unstuck.prove.trial import Trial
from unstuck.study.statistics import wilson

SHAM = Sham("sham", "the same with another order of draws")
USELESS = tuple(f"lr*{factor}" for factor in range(2, 14))


class FakeSubject:
    """Succeeds with known odds. `shared` of the seeds have one fate in all arms that have the same odds."""

    name = "fake"
    criterion = "the coin shows heads"
    sham = SHAM

    def __init__(self, odds: dict[str | None, float], *, world: int = 0, shared: float = 0.0) -> None:
        self.odds = odds
        self.rng = np.random.default_rng(world)
        self.shared = shared
        self.common: dict[int, np.ndarray] = {}
        self.ran: list[str | None] = []
        self.refusals: dict[str, str] = {}
        self.stop_at: str | None = None

    def refuses(self, treatment):
        return self.refusals.get(treatment)

    def run(self, treatment, seeds, progress=None):
        if self.stop_at is not None and treatment == self.stop_at:
            raise KeyboardInterrupt
        self.ran.append(treatment)
        n = len(seeds)
        common = self.common.setdefault(n, self.rng.random(n))
        luck = np.where(np.arange(n) < self.shared * n, common, self.rng.random(n))
        success = luck < self.odds.get(treatment, self.odds[None])
        if progress is not None:
            progress(n, n)
        return Runs(success, np.where(success, 0.1, 1.0), ("success",) * n, np.full(n, 0.25))


def run_trial(odds, treatments=("good",), seeds=64, **options):
    subject = FakeSubject(odds, **options)
    return Trial(subject, treatments, range(seeds)).run()


def words(result):
    return {verdict.treatment: verdict.verdict for verdict in result.verdicts}


def test_the_fake_is_a_subject():
    assert isinstance(FakeSubject({None: 0.5}), Subject)


@pytest.mark.parametrize(("odds", "shared"), [(0.5, 0.0), (0.1, 0.0), (0.9, 0.5), (0.5, 0.9)])
def test_useless_treatments_are_rarely_proved_or_called_harmful(odds, shared):
    trials = 1000
    mistaken = 0
    for world in range(trials):
        found = words(run_trial({None: odds}, USELESS, 40, world=world, shared=shared)).values()
        mistaken += set(found) != {"not shown"}
    # Both directions together, so each of them alone as well.
    assert wilson(mistaken, trials).low <= 0.05


def test_a_lucky_sham_does_not_help_useless_treatments():
    """The sham condition may only take verdicts away, so the error does not depend on the sham's own odds."""
    proved = 0
    for world in range(300):
        result = run_trial({None: 0.5, "sham": 0.0}, USELESS, 40, world=world)
        proved += "proved" in words(result).values()
    assert wilson(proved, 300).low <= 0.05


def test_a_strong_effect_is_proved_among_twelve_treatments():
    for world in range(20):
        result = run_trial({None: 0.05, "good": 0.95, "bad": 0.0}, ("good", *USELESS[:11]), world=world)
        assert words(result)["good"] == "proved"


def test_harm_is_told():
    result = run_trial({None: 0.95, "bad": 0.02}, ("bad",))
    verdict = result.verdicts[0]
    assert verdict.verdict == "harmful"
    assert verdict.difference[1] < 0


def test_a_sham_that_helps_as_much_takes_the_verdict_away():
    assert words(run_trial({None: 0.05, "good": 0.9}))["good"] == "proved"
    result = run_trial({None: 0.05, "good": 0.9, "sham": 0.9})
    assert words(result)["good"] == "not shown"
    assert any("The sham change alone moved successes" in line for line in result.warnings)


@pytest.mark.parametrize(("odds", "success"), [(1.0, 64), (0.0, 0)])
def test_ties_are_not_shown(odds, success):
    result = run_trial({None: odds})
    assert words(result) == {"good": "not shown"}
    assert result.verdicts[0].before.successes == success
    assert result.verdicts[0].difference[0] < 0 < result.verdicts[0].difference[1]


def test_a_program_that_always_succeeds_leaves_nothing_to_prove_and_says_so():
    result = run_trial({None: 1.0})
    assert any("succeeds for 64 of 64 seeds" in line for line in result.warnings)
    assert not result.decisive
    assert not run_trial({None: 0.0, "good": 1.0}).warnings


@pytest.mark.parametrize(("seeds", "warned"), [(1, True), (8, True), (9, False)])
def test_too_few_seeds_are_told(seeds, warned):
    result = run_trial({None: 0.0, "good": 1.0}, ("good", *USELESS[:11]), seeds)
    assert result.needed_seeds == 9
    assert any("cannot prove anything for 12 treatments" in line for line in result.warnings) is warned
    assert words(result)["good"] == ("not shown" if warned else "proved")
    assert result.unchanged is not None
    assert len(result.unchanged) == seeds
    assert result.decisive is not warned


def test_the_lottery_of_the_unchanged_program_is_told():
    result = run_trial({None: 0.5}, seeds=400)
    assert result.success_rate == wilson(result.unchanged.successes, 400)
    assert 0.5 in result.success_rate


def test_arms_are_run_once_and_rivals_stand_beside_their_treatment():
    subject = FakeSubject({None: 0.0, "init=glorot": 1.0})
    trial = Trial(
        subject, ("init=glorot", "lr*10", "lr*10"), range(20),
        rivals={"init=glorot": "lr*10", "lr*10": "init=glorot"}, codes={"init=glorot": "INI001"},
    )  # fmt: skip
    result = trial.run()
    assert subject.ran == [None, "sham", "init=glorot", "lr*10"]
    assert result.runs == 80
    assert result.seconds == pytest.approx(20.0)
    first, second = result
    assert (first.code, second.code) == ("INI001", "")
    assert (first.arms["rival"].treatment, first.arms["rival"].successes) == ("lr*10", 0)
    assert second.arms["rival"].successes == 20
    assert "this cause and not that one" in result.details["init=glorot"].rival
    assert "look there first" in result.details["lr*10"].rival
    assert result.details["init=glorot"].runs == 80


def test_the_criterion_is_whole_before_the_first_run():
    subject = FakeSubject({None: 0.5})
    trial = Trial(subject, ("good",), range(10))
    for words_ in ("the coin shows heads", "same 10 seeds", SHAM.summary, "p < 0.05"):
        assert words_ in trial.criterion
    assert not subject.ran
    assert trial.run().criterion == trial.criterion


def test_refused_treatments_are_told_and_are_no_part_of_the_family():
    subject = FakeSubject({None: 0.0, "good": 1.0})
    subject.refusals = dict.fromkeys(USELESS, "there is no such layer")
    result = Trial(subject, ("good", *USELESS), range(6), rivals={"good": USELESS[0]}).run()
    assert words(result) == {"good": "proved"}
    assert set(result.refused) == set(USELESS)
    assert set(result.verdicts[0].arms) == {"sham"}
    assert subject.ran == [None, "sham", "good"]


def test_all_refused_leaves_the_odds_of_the_unchanged_program():
    subject = FakeSubject({None: 0.5})
    subject.refusals = {"good": "no"}
    result = Trial(subject, ("good",), range(50)).run()
    assert len(result) == 0
    assert subject.ran == [None]
    assert result.success_rate is not None


def test_an_interrupt_leaves_what_is_finished():
    odds = {None: 0.0, "good": 1.0}
    subject = FakeSubject(odds)
    subject.stop_at = "third"
    result = Trial(subject, ("good", "second", "third"), range(20)).run()
    assert result.interrupted
    assert words(result) == {"good": "proved", "second": "not shown"}
    assert any("2 of 3 treatments have a verdict" in line for line in result.warnings)
    # What was not reached still counts: 7 seeds are enough for one treatment, not for twelve.
    subject = FakeSubject(odds)
    subject.stop_at = USELESS[0]
    assert words(Trial(subject, ("good", *USELESS[:11]), range(7)).run()) == {"good": "not shown"}


@pytest.mark.parametrize("stop_at", [None, "sham"])
def test_an_interrupt_before_the_controls_are_there_gives_no_verdict(stop_at):
    subject = FakeSubject({None: 0.0, "good": 1.0})
    subject.stop_at = stop_at
    if stop_at is None:
        subject.run = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    result = Trial(subject, ("good",), range(20)).run()
    assert result.interrupted
    assert len(result) == 0
    assert (result.unchanged is None) is (stop_at is None)


def test_an_interrupt_in_a_rival_arm_leaves_the_verdict_without_it():
    subject = FakeSubject({None: 0.0, "good": 1.0})
    subject.stop_at = "lr*10"
    result = Trial(subject, ("good",), range(20), rivals={"good": "lr*10"}).run()
    assert words(result) == {"good": "proved"}
    assert set(result.verdicts[0].arms) == {"sham"}


def test_progress_counts_all_runs():
    told = []
    Trial(FakeSubject({None: 0.5}), ("good",), range(10)).run(lambda *step: told.append(step))
    assert told[0] == ("unchanged", 0, 30)
    assert told[-1] == ("good", 30, 30)
    assert [step[1] for step in told] == sorted(step[1] for step in told)


@pytest.mark.parametrize(
    ("treatments", "seeds", "message"),
    [
        ((), range(5), "nothing to treat"),
        (("good",), (), "seeds: found none"),
        (("good",), (1, 1), "found one twice"),
    ],
)
def test_a_trial_that_can_say_nothing_is_refused(treatments, seeds, message):
    with pytest.raises(UnstuckError, match=message):
        Trial(FakeSubject({None: 0.5}), treatments, seeds)


def make_finding(code, *treatments):
    return Finding(
        code,
        "name",
        "error",
        None,
        0,
        0.9,
        "",
        treatments=tuple(TreatmentRef(name, "") for name in treatments),
    )


def test_proposals_follow_the_findings_and_meet_the_rival_of_another_cause():
    proposals = choose(
        [make_finding("INI001", "init=glorot", "init=he"), make_finding("LRN002", "lr*10", "init=he")]
    )
    assert [tuple(proposal) for proposal in proposals] == [
        ("init=glorot", "INI001", "lr*10"),
        ("init=he", "INI001", "lr*10"),
        ("lr*10", "LRN002", "init=glorot"),
    ]
    trial = Trial.of(FakeSubject({None: 0.5}), proposals, range(5))
    assert trial.treatments == ("init=glorot", "init=he", "lr*10")
    assert trial.codes["lr*10"] == "LRN002"
    assert trial.rivals["lr*10"] == "init=glorot"


def test_a_single_cause_meets_the_one_it_is_most_often_taken_for():
    for name in (
        "init=glorot",
        "lr*10",
        "activation=relu",
        "data=standardise",
        "order=reshuffled",
        "insert=batch_norm",
    ):
        proposal = choose([make_finding("INI001", name)])[0]
        assert proposal.rival is not None
        assert parse(proposal.rival).kind != parse(name).kind


def test_the_cache_keeps_seeds_and_treatments_apart():
    cache = RunCache()
    cache.add(
        None, [3, 1], Runs(np.array([True, False]), np.array([0.1, 1.0]), ("success", "stuck"), np.ones(2))
    )
    assert cache.missing(None, [1, 2, 3]) == [2]
    assert cache.missing("lr*10", [1]) == [1]
    again = cache.runs(None, [1, 3])
    assert again.success.tolist() == [False, True]
    assert again.outcome == ("stuck", "success")
