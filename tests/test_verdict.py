"""Verdicts: the word, the interval and the p-values, against independent computation."""

import itertools
import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from unstuck.errors import UnstuckError
from unstuck.prove.arms import Comparison, compare
from unstuck.prove.subject import Runs
from unstuck.prove.verdict import ALPHA, Arms, decide, needed_seeds, state, tell_rival


def make_runs(success) -> Runs:
    success = np.asarray(success, dtype=bool)
    return Runs(
        success=success,
        loss=np.where(success, 0.1, 1.0),
        outcome=tuple("success" if ok else "stuck" for ok in success),
        seconds=np.full(success.size, 0.5),
    )


def make_pair(both, only_before, only_after, neither) -> tuple[Runs, Runs]:
    counts = [both, only_before, only_after, neither]
    return make_runs(np.repeat([1, 1, 0, 0], counts)), make_runs(np.repeat([1, 0, 1, 0], counts))


def word_of(before: Runs, after: Runs, sham: Runs | None = None, family: int = 1) -> str:
    against_sham = compare(before if sham is None else sham, after)
    return decide([compare(before, after)], [against_sham], family=family)[0].word


@pytest.mark.parametrize("table", [(3, 1, 9, 7), (0, 0, 12, 0), (5, 8, 2, 1), (4, 3, 3, 4), (9, 0, 0, 0)])
def test_p_values_agree_with_statsmodels_and_with_all_sign_patterns(table):
    comparison = compare(*make_pair(*table))
    _, only_before, only_after, _ = table
    changed = only_before + only_after
    # Every pattern of directions is as likely as any other when the treatment does nothing.
    gains = [sum(pattern) for pattern in itertools.product([0, 1], repeat=changed)]
    assert comparison.helps == pytest.approx(np.mean([gain >= only_after for gain in gains]))
    assert comparison.harms == pytest.approx(np.mean([gain <= only_after for gain in gains]))
    oracle = mcnemar([[table[0], only_before], [only_after, table[3]]], exact=True).pvalue if changed else 1.0
    assert min(1.0, 2 * min(comparison.helps, comparison.harms)) == pytest.approx(oracle)


def test_interval_is_the_one_of_the_formula_and_points_from_before_to_after():
    both, only_before, only_after, neither = 6, 2, 16, 40
    n = both + only_before + only_after + neither
    z = 1.959963984540054

    def limits(k):
        centre, half = k / n + z * z / (2 * n), z * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
        return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)

    after, before = both + only_after, both + only_before
    (low_a, high_a), (low_b, high_b) = limits(after), limits(before)
    phi = (both * neither - only_before * only_after - n / 2) / math.sqrt(
        after * (n - after) * before * (n - before)
    )
    a, b = after / n - low_a, high_b - before / n
    c, d = high_a - after / n, before / n - low_b
    difference = (after - before) / n
    interval = compare(*make_pair(both, only_before, only_after, neither)).interval
    assert interval.low == pytest.approx(difference - math.sqrt(a * a - 2 * phi * a * b + b * b))
    assert interval.high == pytest.approx(difference + math.sqrt(c * c - 2 * phi * c * d + d * d))


@pytest.mark.parametrize("treatments", range(1, 40))
def test_needed_seeds_is_the_edge_of_what_a_trial_can_prove(treatments):
    needed = needed_seeds(treatments)
    assert word_of(*make_pair(0, 0, needed, 0), family=treatments) == "proved"
    assert word_of(*make_pair(0, 0, needed - 1, 0), family=treatments) == "not shown"
    assert word_of(*make_pair(0, needed, 0, 0), family=treatments) == "harmful"
    # Seeds that do not change neither help nor hinder the test.
    assert word_of(*make_pair(2, 0, needed, 50), family=treatments) == "proved"


def test_twelve_treatments_need_nine_seeds():
    assert needed_seeds(12) == 9


def test_adjusted_p_values_are_holms_over_both_directions():
    tables = [(3, 1, 20, 7), (3, 6, 9, 13), (1, 20, 2, 8), (31, 0, 0, 0)]
    comparisons = [compare(*make_pair(*table)) for table in tables]
    decisions = decide(comparisons, comparisons)
    raw = [c.helps for c in comparisons] + [c.harms for c in comparisons]
    oracle = multipletests(raw, method="holm")[1]
    assert [d.helps for d in decisions] + [d.harms for d in decisions] == pytest.approx(list(oracle))
    assert [d.word for d in decisions] == ["proved", "not shown", "harmful", "not shown"]


def test_a_treatment_no_better_than_the_sham_is_not_proved():
    before, after = make_pair(0, 0, 20, 0)
    assert word_of(before, after) == "proved"
    assert word_of(before, after, sham=after) == "not shown"
    assert word_of(after, before) == "harmful"
    assert word_of(after, before, sham=before) == "not shown"


def test_an_interval_that_holds_zero_is_not_proved_however_small_the_p_value():
    before, after = make_pair(0, 0, 20, 0)
    clear = compare(before, after)
    wide = Comparison(clear.table, type(clear.interval)(-0.01, 0.5), clear.helps, clear.harms)
    assert decide([wide], [clear])[0].word == "not shown"


@pytest.mark.parametrize("success", [[0] * 20, [1] * 20, [0, 1] * 10, [0], [1]])
def test_an_arm_that_changed_nothing_is_not_shown(success):
    runs = make_runs(success)
    decision = decide([compare(runs, runs)], [compare(runs, runs)])[0]
    assert decision == ("not shown", 1.0, 1.0)


def test_one_seed_shows_nothing():
    assert word_of(make_runs([0]), make_runs([1])) == "not shown"


def test_treatments_not_reached_count_in_the_family():
    comparison = compare(*make_pair(0, 0, 7, 0))
    assert decide([comparison], [comparison], family=1)[0].word == "proved"
    assert decide([comparison], [comparison], family=12)[0].word == "not shown"
    with pytest.raises(UnstuckError, match="family: found 0"):
        decide([comparison], [comparison], family=0)


def test_the_statement_holds_counts_interval_and_other_arms():
    before, after = make_pair(1, 0, 19, 0)
    arms = Arms(before, make_runs([0] * 20), after, make_runs([1] * 3 + [0] * 17), "lr*10")
    decision = decide([compare(before, after)], [compare(arms.sham, after)])[0]
    verdict = state("init=glorot", "INI001", arms, decision)
    assert (verdict.treatment, verdict.code, verdict.verdict) == ("init=glorot", "INI001", "proved")
    assert (verdict.before.successes, verdict.after.successes, verdict.after.trials) == (1, 20, 20)
    low, high = verdict.difference
    assert 0 < low < 0.95 < high <= 1
    assert (verdict.arms["sham"].successes, verdict.arms["sham"].treatment) == (0, "")
    assert (verdict.arms["rival"].successes, verdict.arms["rival"].treatment) == (3, "lr*10")
    assert arms.runs == 80
    assert arms.cost == pytest.approx(40.0)
    assert set(state("a", "", Arms(before, before, after), decision).arms) == {"sham"}


@pytest.mark.parametrize(
    ("rival", "words"),
    [(0, "this cause and not that one"), (19, "does not tell the two causes apart"), (20, "does not tell")],
)
def test_the_rival_is_told(rival, words):
    before, after = make_pair(0, 0, 20, 0)
    arms = Arms(before, before, after, make_runs([1] * rival + [0] * (20 - rival)), "lr*10")
    assert words in tell_rival(arms)
    assert f"lr*10 gave {rival} of 20" in tell_rival(arms)
    assert tell_rival(Arms(before, before, after)) == ""


def test_a_better_rival_is_told():
    before, after = make_pair(0, 0, 20, 0)
    assert "look there first" in tell_rival(Arms(before, before, before, after, "lr*10"))


def test_alpha_and_counts():
    assert ALPHA == 0.05
    with pytest.raises(UnstuckError, match="n_treatments: found 0"):
        needed_seeds(0)
    with pytest.raises(UnstuckError, match="expected as many of each"):
        Runs(np.array([True]), np.array([0.1, 0.2]), ("success",), np.array([1.0]))
