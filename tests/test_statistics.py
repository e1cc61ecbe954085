"""Intervals and tests against statsmodels, published examples, and what they promise: their coverage."""

import doctest
import math
from functools import cache

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from unstuck.errors import UnstuckError
from unstuck.study import statistics
from unstuck.study.statistics import (
    Count,
    Interval,
    PairedTable,
    holm,
    mcnemar_exact,
    newcombe_difference,
    newcombe_paired,
    paired_table,
    tost_difference,
    tost_paired,
    wilson,
)

NAN = float("nan")
COUNTS = [(0, 1), (1, 1), (0, 64), (64, 64), (1, 64), (63, 64), (7, 10), (500, 1000), (1, 100_000)]


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(statistics)
    assert result.attempted > 8
    assert result.failed == 0


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "trials"), COUNTS)
def test_wilson_equals_statsmodels(successes, trials, confidence):
    low, high = proportion_confint(successes, trials, alpha=1 - confidence, method="wilson")
    ours = wilson(successes, trials, confidence)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-12)


def test_wilson_ends_are_exact_where_nothing_or_everything_succeeded():
    for trials in range(1, 200):
        none, everything = wilson(0, trials), wilson(trials, trials)
        assert none.low == 0.0
        assert everything.high == 1.0
        assert none.high == pytest.approx(1 - everything.low, abs=1e-12)
        assert 0 < none.high < 1


def test_numpy_integers_are_counts():
    assert wilson(np.int64(3), np.int32(10)) == wilson(3, 10)


@pytest.mark.parametrize(
    ("successes", "trials", "named"),
    [
        (0, 0, "trials: found 0"),
        (3, 2, "successes: found 3"),
        (-1, 2, "successes: found -1"),
        (NAN, 2, "successes: found nan"),
        (1, NAN, "trials: found nan"),
        (0.5, 2, "successes: found 0.5"),
    ],
)
def test_impossible_counts_are_refused_by_name(successes, trials, named):
    with pytest.raises(UnstuckError, match=named):
        wilson(successes, trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.1, 95, NAN])
def test_a_confidence_outside_0_to_1_is_refused(confidence):
    with pytest.raises(UnstuckError, match="confidence: found"):
        wilson(1, 2, confidence)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("a", COUNTS)
@pytest.mark.parametrize("b", COUNTS)
def test_newcombe_difference_equals_statsmodels(a, b, confidence):
    low, high = confint_proportions_2indep(*a, *b, method="newcomb", compare="diff", alpha=1 - confidence)
    ours = newcombe_difference(Count(*a), Count(*b), confidence)
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=1e-12)


def test_newcombe_paired_equals_the_published_example():
    # Complete response before and after consolidation therapy (Cavo et al. 2012), 161 patients, as worked out
    # in Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables (2017), chapter 8.
    ours = newcombe_paired(59, 6, 16, 80)
    assert (round(ours.low, 4), round(ours.high, 4)) == (-0.1186, -0.0046)
    # The correction of phi is part of that figure: without it the upper end would be another.
    phi = (59 * 80 - 6 * 16) / math.sqrt(65 * 96 * 75 * 86)
    plain = statistics._square_and_add(Count(65, 161), Count(75, 161), phi, 0.95)
    assert round(plain.high, 4) != -0.0046


def test_newcombe_paired_without_correlation_is_the_independent_interval():
    # ad = bc, and an excess of ad over bc below n/2, both give phi = 0.
    for both, first, second, neither in [(10, 10, 10, 10), (4, 6, 2, 3), (11, 10, 10, 10), (0, 30, 0, 0)]:
        n = both + first + second + neither
        unpaired = newcombe_difference(Count(both + first, n), Count(both + second, n))
        assert newcombe_paired(both, first, second, neither) == unpaired


def test_newcombe_paired_narrows_with_agreement_and_widens_with_opposition():
    independent = newcombe_paired(25, 25, 25, 25)
    agreeing = newcombe_paired(45, 5, 5, 45)
    opposed = newcombe_paired(5, 45, 45, 5)
    widths = [i.high - i.low for i in (agreeing, independent, opposed)]
    assert widths == sorted(widths)
    assert widths[2] > 1.3 * widths[1] > 1.3 * 1.3 * widths[0]


def test_newcombe_paired_turns_its_sign_with_the_order():
    ours, turned = newcombe_paired(20, 12, 2, 16), newcombe_paired(20, 2, 12, 16)
    assert (ours.low, ours.high) == pytest.approx((-turned.high, -turned.low), abs=1e-15)


def test_newcombe_paired_stays_inside_minus_1_to_1_for_every_small_table():
    for a in range(5):
        for b in range(5):
            for c in range(5):
                for d in range(5):
                    if a + b + c + d == 0:
                        continue
                    ours = newcombe_paired(a, b, c, d)
                    assert -1 <= ours.low <= (b - c) / (a + b + c + d) <= ours.high <= 1


@pytest.mark.parametrize("table", [(0, 0, 0, 0), (1, -1, 1, 1), (NAN, 1, 1, 1), (1, 1, 1.5, 1)])
def test_newcombe_paired_refuses_impossible_tables(table):
    with pytest.raises(UnstuckError, match="found"):
        newcombe_paired(*table)


def test_newcombe_paired_takes_numpy_counts_without_overflow():
    big = [np.int32(70_000), np.int32(10), np.int32(20), np.int32(70_000)]
    ours, plain = newcombe_paired(*big), newcombe_paired(70_000, 10, 20, 70_000)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), rel=1e-12)


def test_paired_table_counts_and_gain_has_the_sign_of_the_improvement():
    before = np.array([True, True, False, False, False, False])
    after = np.array([True, False, True, True, True, False])
    table = paired_table(before, after)
    assert table == PairedTable(both=1, only_before=1, only_after=3, neither=1)
    gain = table.gain()
    assert gain.low < 2 / 6 < gain.high
    assert gain == newcombe_paired(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (np.array([1.0, NAN]), np.array([True, False]), "before: found an array of float64"),
        (np.array([True]), np.array([[True]]), "after: found an array of bool of shape"),
        (np.array([True]), np.array([True, False]), "found 1 and 2 outcomes"),
        (np.array([], dtype=bool), np.array([], dtype=bool), "found 0 pairs"),
    ],
)
def test_paired_table_refuses_what_is_no_pair_of_outcomes(before, after, named):
    with pytest.raises(UnstuckError, match=named):
        paired_table(before, after)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (1, 0), (3, 3), (2, 12), (0, 63), (40, 60), (500, 400)])
def test_mcnemar_equals_statsmodels(b, c):
    oracle = mcnemar([[5, b], [c, 7]], exact=True).pvalue
    assert mcnemar_exact(b, c) == pytest.approx(min(oracle, 1.0), rel=1e-10)


def test_mcnemar_one_sided_is_the_binomial_tail_and_greater_means_more_after():
    tail = sum(math.comb(9, k) for k in (7, 8, 9)) / 2**9
    assert mcnemar_exact(2, 7, "greater") == pytest.approx(tail, rel=1e-12)
    assert mcnemar_exact(7, 2, "less") == pytest.approx(tail, rel=1e-12)
    assert mcnemar_exact(7, 2, "greater") == pytest.approx(1 - math.comb(9, 0) / 2**9 - 9 / 2**9, rel=1e-12)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_mcnemar_says_nothing_when_no_pair_changed(alternative):
    assert mcnemar_exact(0, 0, alternative) == 1.0


def test_mcnemar_refuses_bad_arguments():
    with pytest.raises(UnstuckError, match="only_before: found nan"):
        mcnemar_exact(NAN, 1)
    with pytest.raises(UnstuckError, match="alternative: found 'more'"):
        mcnemar_exact(1, 1, "more")


def test_holm_equals_statsmodels_on_random_families_with_ties():
    rng = np.random.default_rng(7)
    for size in (1, 2, 3, 10, 50):
        p = np.round(rng.random(size) ** 3, 2)
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_holm_of_nothing_is_nothing():
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("p_values", [[0.1, NAN], [0.1, 1.1], [-0.1]])
def test_holm_refuses_what_is_no_probability(p_values):
    with pytest.raises(UnstuckError, match=r"p_values\[\d\]: found"):
        holm(p_values)


def test_holm_refuses_two_axes():
    with pytest.raises(UnstuckError, match="expected \\(m,\\)"):
        holm([[0.1], [0.2]])


def test_tost_is_the_inclusion_of_the_interval_at_1_minus_2_alpha():
    a, b = Count(80, 100), Count(82, 100)
    low, high = confint_proportions_2indep(80, 100, 82, 100, method="newcomb", compare="diff", alpha=0.1)
    answer = tost_difference(a, b, margin=-low + 1e-9)
    assert (answer.interval.low, answer.interval.high) == pytest.approx((low, high), abs=1e-12)
    assert answer.equivalent
    assert not tost_difference(a, b, margin=-low - 1e-9).equivalent


def test_tost_wants_both_sides():
    assert not tost_difference(Count(900, 1000), Count(500, 1000), margin=0.1).equivalent
    assert not tost_difference(Count(500, 1000), Count(900, 1000), margin=0.1).equivalent


@pytest.mark.parametrize(("margin", "alpha"), [(0, 0.05), (1.1, 0.05), (NAN, 0.05), (0.1, 0.5), (0.1, NAN)])
def test_tost_refuses_bad_margins_and_levels(margin, alpha):
    with pytest.raises(UnstuckError, match="found"):
        tost_difference(Count(1, 2), Count(1, 2), margin, alpha)
    with pytest.raises(UnstuckError, match="found"):
        tost_paired(PairedTable(1, 1, 1, 1), margin, alpha)


# What an interval promises is its coverage. Cells: probabilities of (both, only first, only second, neither).
CELLS = [(0.25, 0.25, 0.25, 0.25), (0.6, 0.3, 0.05, 0.05), (0.05, 0.02, 0.1, 0.83), (0.45, 0.05, 0.05, 0.45)]
PAIRS, RUNS = 50, 4000


def _coverage(interval, seed):
    """Share of simulated tables whose interval holds the true difference, for each cell."""
    rng = np.random.default_rng(seed)
    cached = cache(interval)
    shares = []
    for cell in CELLS:
        truth = cell[1] - cell[2]
        tables = rng.multinomial(PAIRS, cell, size=RUNS).tolist()
        shares.append(np.mean([truth in cached(*table) for table in tables]))
    return np.array(shares)


def _keeps_its_promise(coverage):
    # Three standard errors of a share of .95 in 4000 runs are .010; what is left of the band is the
    # lumpiness of a discrete distribution, as Newcombe reports it for this method.
    return bool(np.all(coverage > 0.935)) and 0.945 < coverage.mean() < 0.975


def _wald(a, b, c, d):
    n = a + b + c + d
    half = 1.959964 * math.sqrt((b + c) / n - ((b - c) / n) ** 2) / math.sqrt(n)
    return Interval((b - c) / n - half, (b - c) / n + half)


def test_paired_interval_covers_the_truth_as_often_as_it_says():
    assert _keeps_its_promise(_coverage(newcombe_paired, seed=11))


def test_the_coverage_check_sees_an_interval_that_is_wrong():
    assert not _keeps_its_promise(_coverage(_wald, seed=11))
    assert not _keeps_its_promise(_coverage(lambda *t: newcombe_paired(*t, confidence=0.9), seed=11))
    assert not _keeps_its_promise(_coverage(lambda *t: newcombe_paired(*t, confidence=0.99), seed=11))


def test_tost_errs_as_often_as_alpha_at_the_margin_and_finds_equal_rates():
    rng = np.random.default_rng(12)
    n, margin = 400, 0.1

    def share(p, q):
        draws = zip(rng.binomial(n, p, RUNS), rng.binomial(n, q, RUNS), strict=True)
        return np.mean([tost_difference(Count(x, n), Count(y, n), margin).equivalent for x, y in draws])

    assert 0.03 < share(0.6, 0.5) < 0.065
    assert 0.03 < share(0.5, 0.6) < 0.065
    assert share(0.55, 0.55) > 0.75
