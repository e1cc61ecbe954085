import math

import numpy as np
import pytest

from unstuck.errors import UnstuckError
from unstuck.study.accounts import Account, Chance, rank_accounts
from unstuck.study.statistics import Count


def account(name, prior=1.0, **chances):
    counts = {key: Chance(Count(round(1000 * p), 1000)) for key, p in chances.items()}
    return Account(name, counts, prior)


def test_shares_are_those_of_bayes_rule():
    a, b, c = account("a", x=0.9, y=0.5), account("b", x=0.3, y=0.5), account("c", prior=2, x=0.1, y=0.5)
    ranking = rank_accounts([c, b, a], reliability=1.0)
    assert [one.name for one in ranking.accounts] == ["a", "b", "c"]
    weights = np.array([(900.5 / 1001), (300.5 / 1001), 2 * (100.5 / 1001)])
    shares = [one.probability for one in ranking.accounts]
    assert shares == pytest.approx((np.sort(weights)[::-1] / weights.sum()).tolist())
    assert ranking.factor == pytest.approx(900.5 / 300.5)
    assert ranking.factor_interval.low < ranking.factor < ranking.factor_interval.high


def test_many_simulations_leave_less_open_than_few():
    def ranked(trials):
        pair = [
            Account(name, {"x": Chance(Count(round(p * trials), trials))})
            for name, p in (("a", 0.6), ("b", 0.5))
        ]
        return rank_accounts(pair)

    few, many = ranked(20), ranked(20_000)
    widths = [one.accounts[0].interval.high - one.accounts[0].interval.low for one in (few, many)]
    assert widths[0] > 10 * widths[1]
    assert few.sure == "not at all: the order may be the reverse"
    assert few.accounts[0].best < 0.9
    assert many.accounts[0].best > 0.999
    assert many.sure == "hardly"


def test_one_mistaken_report_does_not_decide_alone():
    a = account("a", x=0.0, y=0.9, z=0.9, w=0.9, v=0.9)
    b = account("b", x=0.9, y=0.2, z=0.2, w=0.2, v=0.2)
    assert rank_accounts([a, b]).accounts[0].name == "a"
    assert rank_accounts([a, b], reliability=1.0).accounts[0].name == "b"
    assert rank_accounts([a, b]).accounts[0].unexplained == ("x",)


def test_runs_that_are_one_run_count_once():
    same = Account("one fixed seed", {"all five runs fail": Chance(Count(450, 1000))})
    lottery = Account("a lottery", {"all five runs fail": Chance(Count(450, 1000), times=5)})
    ranking = rank_accounts([lottery, same], reliability=1.0)
    assert ranking.accounts[0].name == "one fixed seed"
    assert ranking.accounts[1].log_likelihood == pytest.approx(5 * math.log(0.45), rel=0.01)


def test_what_did_not_happen_counts_too():
    found = rank_accounts(
        [
            Account(name, {"NaN": Chance(Count(k, 1000), happened=False)})
            for name, k in (("a", 0), ("b", 900))
        ],
        reliability=1.0,
    )
    assert found.accounts[0].name == "a"
    assert found.accounts[0].parts["NaN"] == pytest.approx(math.log(1000.5 / 1001))


def test_the_second_case():
    """Three accounts of "ReLU fails on four points, sigmoid does not, the order decides", 8 hidden units.

    Seeding again for every neuron would have stopped the sigmoid too; seeding per layer, or one fixed seed,
    explains all three reports.
    """
    reports = ("ReLU fails", "sigmoid succeeds", "another order differs")
    table = {
        "independent seeds": (0.45, 0.999, 0.46),
        "seeded again per neuron": (0.977, 0.087, 0.10),
        "seeded again per layer": (0.868, 0.992, 0.50),
    }
    accounts = [account(name, **dict(zip(reports, row, strict=True))) for name, row in table.items()]
    ranking = rank_accounts(accounts)
    assert [one.name for one in ranking.accounts] == [
        "seeded again per layer",
        "independent seeds",
        "seeded again per neuron",
    ]
    assert ranking.sure == "hardly"
    assert sum(one.probability for one in ranking.accounts) == pytest.approx(1)
    assert rank_accounts(accounts) == ranking


def test_what_cannot_be_ranked_is_refused():
    a = account("a", x=0.5)
    assert rank_accounts([a]).accounts[0].probability == 1
    for accounts, words in (
        ([], "none"), ([a, a], "twice"), ([a, account("b", y=0.5)], "under every account"),
        ([account("a", prior=0.0, x=0.5)], "prior"),
    ):  # fmt: skip
        with pytest.raises(UnstuckError, match=words):
            rank_accounts(accounts)
    with pytest.raises(UnstuckError, match="reliability"):
        rank_accounts([a], reliability=0.0)
    with pytest.raises(UnstuckError, match="draws"):
        rank_accounts([a], draws=0)
    with pytest.raises(UnstuckError, match="times"):
        Chance(Count(1, 2), times=0)
