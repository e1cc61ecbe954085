import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from unstuck.errors import UnstuckError
from unstuck.study.families import benjamini_hochberg, difference_family, single_confidence, wilson_family
from unstuck.study.statistics import Count, newcombe_difference

COUNTS = [Count(3, 40), Count(20, 40), Count(0, 25), Count(25, 25)]


@pytest.mark.parametrize("method", ["sidak", "bonferroni"])
def test_intervals_are_those_of_statsmodels_at_the_family_level(method):
    each = single_confidence(len(COUNTS), 0.9, method)
    for count, interval in zip(COUNTS, wilson_family(COUNTS, 0.9, method), strict=True):
        low, high = proportion_confint(count.successes, count.trials, 1 - each, method="wilson")
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_the_levels_are_those_of_statsmodels():
    _, _, sidak, bonferroni = multipletests([0.5] * 7, alpha=0.05)
    assert single_confidence(7) == pytest.approx(1 - sidak)
    assert single_confidence(7, method="bonferroni") == pytest.approx(1 - bonferroni)
    assert single_confidence(1) == 0.95


def test_a_whole_family_holds_as_often_as_it_says():
    random = np.random.default_rng(0)
    chances = np.linspace(0.1, 0.9, 15)
    holds = 0
    for _ in range(400):
        found = wilson_family([Count(int(k), 300) for k in random.binomial(300, chances)], 0.9)
        holds += all(p in interval for p, interval in zip(chances, found, strict=True))
    assert 0.86 < holds / 400 < 0.96


def test_differences_of_a_family():
    pairs = [(Count(50, 100), Count(55, 100)), (Count(10, 100), Count(90, 100))]
    found = difference_family(pairs)
    assert found[0] == newcombe_difference(*pairs[0], single_confidence(2))
    assert [0.0 in interval for interval in found] == [True, False]
    assert difference_family([]) == wilson_family([]) == []


def test_false_discoveries_are_adjusted_as_in_statsmodels():
    random = np.random.default_rng(1)
    for size in (1, 2, 30):
        p = random.random(size) ** 3
        assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])
    assert benjamini_hochberg([]).size == 0


def test_impossible_arguments_are_refused():
    with pytest.raises(UnstuckError, match="cells"):
        single_confidence(0)
    with pytest.raises(UnstuckError, match="confidence"):
        wilson_family(COUNTS, 1.0)
    with pytest.raises(UnstuckError, match="method"):
        wilson_family(COUNTS, 0.9, "other")
    for bad in ([0.1, float("nan")], [1.2], [[0.1]]):
        with pytest.raises(UnstuckError, match="p_values"):
            benjamini_hochberg(bad)
