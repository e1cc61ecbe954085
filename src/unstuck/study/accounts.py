"""Several accounts of one story: which makes what was reported likely, and how sure can one be?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.study.statistics import Count, Interval

Floats = NDArray[np.float64]

DRAWS = 20_000
"""Random draws of the unknown chances, for the uncertainty that the counts leave."""
RELIABILITY = 0.95
"""A report is taken to be right with this probability: people round, forget, and misread a plot."""
UNLIKELY = 0.05
"""An account under which a report has a smaller chance than this for sure does not explain it."""


@dataclass(frozen=True)
class Chance:
    """How often something happens under an account, as simulated."""

    count: Count
    """Simulations in which what was reported came out, among all."""
    times: int = 1
    """How often it was seen independently: 5 runs that all succeeded are 5, but 1 under an account in which
    all runs are the same run."""
    happened: bool = True
    """False: the report says that it did not happen."""

    def __post_init__(self) -> None:
        """Refuse what was never seen."""
        if self.times < 1:
            raise UnstuckError(f"times: found {self.times}, expected at least 1")


@dataclass(frozen=True)
class Account:
    """One explanation: the chance of everything that was reported, by the report's name."""

    name: str
    chances: Mapping[str, Chance]
    prior: float = 1.0
    """Weight before anything was reported; they need not sum to 1."""


@dataclass(frozen=True)
class Ranked:
    """What the reports say of one account."""

    name: str
    log_likelihood: float
    """Natural logarithm of the probability of all reports under it."""
    probability: float
    """Its share of the posterior, among the accounts that were weighed and no others."""
    interval: Interval
    """Of that share, 95 %: what more simulations could still change."""
    best: float
    """Share of the draws in which it is the likeliest."""
    parts: Mapping[str, float]
    """Report to its own log-likelihood: where the account is strong or weak."""
    unexplained: tuple[str, ...]
    """Reports that have a chance below 5 % for sure, weakest first."""


@dataclass(frozen=True)
class Ranking:
    """The accounts, likeliest first, and how sure one can be of that order."""

    accounts: tuple[Ranked, ...]
    factor: float
    """Probability of the reports under the first account / under the second; infinite for a single one."""
    factor_interval: Interval
    """95 %, from the counts."""

    @property
    def sure(self) -> str:
        """In words, by the lower end of the factor's interval."""
        low = self.factor_interval.low
        words = (
            (1, "not at all: the order may be the reverse"),
            (3, "hardly"),
            (20, "somewhat"),
            (150, "strongly"),
        )
        return next((word for bound, word in words if low < bound), "very strongly")


def rank_accounts(
    accounts: Sequence[Account], *, reliability: float = RELIABILITY, draws: int = DRAWS, seed: int = 0
) -> Ranking:
    r"""Weigh accounts by the likelihood of all that was reported.

    With k of n simulations giving what was reported, its chance p has the posterior
    Beta(k + 1/2, n - k + 1/2) (Jeffreys). A report is right with probability r and otherwise says nothing:

    $$L = \prod_i \mathrm{E}\bigl[\,r\,p_i^{t_i} + (1 - r)/2\,\bigr],\qquad
      P(\text{account}) = \frac{\text{prior}\cdot L}{\sum \text{prior}\cdot L}$$

    The product takes the reports as independent given the account, so leave out those that follow from
    another. The intervals come from drawing all p anew: they say what the finite number of simulations leaves
    open, and nothing of accounts that nobody thought of.

    Args:
        accounts: at least one, all with chances for the same reports.
        reliability: r, in (0, 1]. With 1 a single impossible report rules an account out.
        draws: of the unknown chances.
        seed: of these draws.

    Returns:
        The ranking.

    Raises:
        UnstuckError: no accounts, a name twice, different reports, or numbers out of range.

    Example:
        >>> def account(name, relu_fails, sigmoid_works):
        ...     counts = {"ReLU fails": relu_fails, "sigmoid works": sigmoid_works}
        ...     return Account(name, {key: Chance(Count(k, 1000)) for key, k in counts.items()})
        >>> ranking = rank_accounts([account("seeded again", 980, 90), account("lottery", 420, 999)])
        >>> ranking.accounts[0].name, round(ranking.accounts[0].probability, 1), ranking.sure
        ('lottery', 0.8, 'somewhat')

    References:
        R. E. Kass, A. E. Raftery, 1995, Bayes factors, J. Am. Stat. Assoc. 90:773-795 (the words).
        H. Jeffreys, 1961, Theory of Probability, 3rd ed. (the prior of a chance).
    """
    reports = _check(accounts, reliability, draws)
    exact = np.array([[_log_mean(one.chances[name], reliability) for name in reports] for one in accounts])
    weights = np.log([one.prior for one in accounts])
    total = exact.sum(axis=1)
    random = np.random.default_rng(seed)
    drawn = np.array([_drawn(one, reports, reliability, draws, random) for one in accounts])
    shares = _softmax(total + weights)
    open_shares = _softmax((drawn + weights[:, None]).T).T
    order = np.argsort(-(total + weights), kind="stable")
    winners = np.bincount(np.argmax(drawn + weights[:, None], axis=0), minlength=len(accounts)) / draws
    ranked = tuple(
        Ranked(
            name=accounts[i].name,
            log_likelihood=float(total[i]),
            probability=float(shares[i]),
            interval=_interval(open_shares[i]),
            best=float(winners[i]),
            parts=dict(zip(reports, exact[i].tolist(), strict=True)),
            unexplained=_unexplained(accounts[i], reports),
        )
        for i in order
    )
    if len(accounts) == 1:
        return Ranking(ranked, math.inf, Interval(math.inf, math.inf))
    first, second = int(order[0]), int(order[1])
    return Ranking(
        ranked,
        float(np.exp(total[first] - total[second])),
        _interval(np.exp(drawn[first] - drawn[second])),
    )


def _check(accounts: Sequence[Account], reliability: float, draws: int) -> list[str]:
    if not accounts:
        raise UnstuckError("accounts: found none, expected at least one")
    if len({one.name for one in accounts}) < len(accounts):
        raise UnstuckError("accounts: found a name twice, expected distinct ones")
    if not 0 < reliability <= 1:
        raise UnstuckError(f"reliability: found {reliability}, expected a number in (0, 1]")
    if draws < 1:
        raise UnstuckError(f"draws: found {draws}, expected at least 1")
    reports = list(accounts[0].chances)
    for one in accounts:
        if set(one.chances) != set(reports):
            odd = min(set(one.chances) ^ set(reports))
            raise UnstuckError(
                f"account {one.name!r}: the report {odd!r} must have a chance under every account"
            )
        if not one.prior > 0 or not math.isfinite(one.prior):
            raise UnstuckError(f"account {one.name!r}: prior {one.prior}, expected a positive number")
    return reports


def _beta(chance: Chance) -> tuple[float, float]:
    """Parameters of the posterior of the chance of what was reported."""
    seen = chance.count.successes + 0.5
    unseen = chance.count.trials - chance.count.successes + 0.5
    return (seen, unseen) if chance.happened else (unseen, seen)


def _log_mean(chance: Chance, reliability: float) -> float:
    """Log E[r p^t + (1 - r) / 2]; E[p^t] = B(a + t, b) / B(a, b)."""
    from scipy.special import betaln

    a, b = _beta(chance)
    power = float(np.exp(betaln(a + chance.times, b) - betaln(a, b)))
    return math.log(reliability * power + (1 - reliability) / 2)


def _drawn(
    account: Account, reports: Sequence[str], reliability: float, draws: int, random: np.random.Generator
) -> Floats:
    """(draws,) log-likelihoods with the chances drawn from their posteriors."""
    total = np.zeros(draws)
    for name in reports:
        chance = account.chances[name]
        p = random.beta(*_beta(chance), size=draws) ** chance.times
        with np.errstate(divide="ignore"):
            total += np.log(np.maximum(reliability * p + (1 - reliability) / 2, 1e-300))
    return total


def _unexplained(account: Account, reports: Sequence[str]) -> tuple[str, ...]:
    """Reports whose chance is below the bound with 97.5 % certainty."""
    from scipy.stats import beta

    upper = {
        name: float(beta.ppf(0.975, *_beta(account.chances[name]))) ** account.chances[name].times
        for name in reports
    }
    return tuple(name for name in sorted(reports, key=upper.__getitem__) if upper[name] < UNLIKELY)


def _softmax(scores: Floats) -> Floats:
    """Over the last axis."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _interval(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))
