import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.errors import UnstuckError
from unstuck.study.boundary import logistic_boundary
from unstuck.study.statistics import Count

RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7]


def counts(*successes, trials=200):
    return [Count(k, trials) for k in successes]


def binomial(x, wins, trials, offset=None):
    return sm.GLM(
        np.column_stack([wins, trials - wins]), x, family=sm.families.Binomial(), offset=offset
    ).fit()


@pytest.mark.parametrize(
    ("wins", "direction"), [((192, 184, 152, 94, 38, 1), "falling"), ((3, 30, 70, 130, 160, 199), "rising")]
)
def test_value_and_interval_are_those_of_statsmodels(wins, direction):
    wins = np.array(wins)
    found = logistic_boundary(RATES, counts(*wins))
    x = np.log(RATES)
    best = binomial(sm.add_constant(x), wins, np.full(6, 200))
    a, b = best.params
    assert found.direction == direction
    assert not found.separable
    assert found.value == pytest.approx(np.exp(-a / b), rel=1e-4)
    for end in (found.low, found.high):
        # at the ends, the likelihood of the best slope through one half is lower by half a chi-squared
        fixed = binomial((x - np.log(end))[:, None], wins, np.full(6, 200))
        assert 2 * (best.llf - fixed.llf) == pytest.approx(3.841459, abs=1e-3)
    # the delta method's interval is close where there is much data
    covariance = best.cov_params()
    slope = np.array([-1 / b, a / b**2])
    half = 1.96 * np.sqrt(slope @ covariance @ slope)
    assert np.log(found.high / found.low) == pytest.approx(2 * half, rel=0.1)


def test_a_linear_factor():
    found = logistic_boundary([-2, -1, 0, 1, 2], counts(1, 20, 100, 180, 199), log=False)
    assert found.value == pytest.approx(0, abs=0.02)
    assert found.low < 0 < found.high


def test_separable_data_leave_the_gap_open():
    found = logistic_boundary(RATES, counts(200, 200, 200, 0, 0, 0))
    assert found.separable
    assert 0.3 < found.value < 0.4
    assert found.low == pytest.approx(0.3, rel=0.02)
    assert found.high == pytest.approx(0.4, rel=0.02)
    few = logistic_boundary([1, 2], counts(1, 0, trials=1), log=False)
    assert few.low is None
    assert few.high is None
    assert few.value == pytest.approx(1.5, abs=0.05)


def test_without_a_crossing_no_value_is_given():
    never = logistic_boundary(RATES, counts(200, 199, 200, 200, 198, 200), direction="falling")
    assert never.value is None
    assert never.high is None
    late = logistic_boundary(RATES, counts(200, 199, 196, 190, 180, 150))
    assert late.value is None
    assert late.low > 0.7
    assert 0.5 not in late
    assert 5.0 in late or late.high < 5.0


def test_up_and_down_again():
    rates, wins = [0.01, 0.05, 0.1, 0.3, 0.5, 0.9], counts(2, 60, 190, 196, 90, 0)
    up, down = (logistic_boundary(rates, wins, direction=way) for way in ("rising", "falling"))
    assert 0.05 < up.value < 0.1
    assert 0.4 < down.value < 0.55
    assert logistic_boundary(rates, counts(200, 150, 20, 5, 1, 0), direction="rising").value is None


def test_measured_tables_of_learning_rates():
    """1-8-2 networks with linear outputs on three points: the limit lies near what theory predicts."""
    relu = logistic_boundary([0.1, 0.2, 0.3, 0.4, 0.5, 0.7], counts(192, 184, 152, 94, 38, 0))
    tanh = logistic_boundary([0.1, 0.2, 0.3, 0.4], counts(200, 154, 66, 1))
    assert 0.27 / 2 < relu.value < 0.27 * 2
    assert 0.147 / 2 < tanh.value < 0.147 * 2


@settings(max_examples=15, deadline=None)
@given(st.floats(-1.5, 1.5), st.floats(2, 8), st.integers(0, 2**31))
def test_the_interval_covers_and_mirrors(middle, slope, seed):
    x = np.linspace(-2, 2, 7)
    p = 1 / (1 + np.exp(-slope * (x - middle)))
    wins = np.random.default_rng(seed).binomial(400, p)
    found = logistic_boundary(x, counts(*wins, trials=400), log=False, direction="rising", confidence=0.9999)
    assert middle in found
    turned = logistic_boundary(
        -x, counts(*wins, trials=400), log=False, direction="falling", confidence=0.9999
    )
    assert turned.low == pytest.approx(-found.high, abs=1e-3)
    assert turned.high == pytest.approx(-found.low, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "successes", "words"),
    [
        ([1.0], [1], "two values at least"),
        ([1.0, 2.0], [1], "one count a value"),
        ([0.0, 1.0], [1, 0], "positive"),
        ([1.0, float("nan")], [1, 0], "finite"),
        ([1.0, 1.0], [1, 0], "twice"),
    ],
)
def test_what_cannot_be_fitted_is_refused(values, successes, words):
    with pytest.raises(UnstuckError, match=words):
        logistic_boundary(values, counts(*successes))
    with pytest.raises(UnstuckError, match="confidence"):
        logistic_boundary([1, 2], counts(1, 0), confidence=1.0)
