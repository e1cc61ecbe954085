"""Four explanations of what the second case's person saw, weighed by all that was reported."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck.cases.experiments import Experiments
from unstuck.cases.lottery import Lottery
from unstuck.cases.story import Facts
from unstuck.study.accounts import Account, Chance, Ranking, rank_accounts
from unstuck.study.statistics import Count

TRIED = (0.05, 0.15, 0.5, 0.9)
"""Learning rates at which ReLU is said to have failed with four points: some; which ones is not told."""
REPEATS = 5
"""Runs that "always" is taken for."""
REPORTS = {
    "sigmoid always learns 4 points": Lottery("Sigmoid"),
    "ReLU learns 2 points": Lottery(points=2),
    "ReLU learns 3 points at 0.15": Lottery(points=3, lr=0.15),
}
NEVER = "ReLU learns 4 points at no learning rate"
OTHER = "a program that draws in another order learns them"
ACCOUNTS: dict[str, tuple[dict[str, Any], bool]] = {
    "new draws in every run: chance": ({}, False),
    "one fixed seed in every run": ({}, True),
    "seeded again for each layer": ({"streams": "reseeded_per_layer"}, False),
    "seeded again for each neuron": ({"streams": "reseeded_per_neuron"}, False),
}
"""How the draws are made, and whether all runs of a program are the same run."""


def explanations(experiments: Experiments) -> tuple[Facts, Ranking]:
    """Which explanation makes the reports likely."""
    ranking = rank_accounts([_account(experiments, name, *how) for name, how in ACCOUNTS.items()])
    rows = tuple(
        (
            one.name,
            f"{one.probability:.2f}",
            f"{one.interval.low:.2f} to {one.interval.high:.2f}",
            min(one.parts, key=lambda report: one.parts[report]),
        )
        for one in ranking.accounts
    )
    about = (
        "Probability of each explanation, were one of these four true and none likelier beforehand. How "
        f"surely the first is told from the second: {ranking.sure}. The interval is what more simulations "
        "could change, not what the person's memory could."
    )
    heads = ("explanation", "probability", "95 %", "explains worst")
    return Facts("What happened to them?", about, heads, rows, text=(3,)), ranking


def _account(experiments: Experiments, name: str, init: dict[str, Any], same: bool) -> Account:
    """The chance of every report."""
    times = {report: REPEATS if "always" in report and not same else 1 for report in REPORTS}
    chances = {
        report: Chance(experiments.play(_with(lottery, init)).count, times[report])
        for report, lottery in REPORTS.items()
    }
    # one run for each learning rate: the same seed in all of them, or another one in each
    seeds = [0 if same else (number + 1) * experiments.tickets for number in range(len(TRIED))]
    runs = [
        experiments.play(_with(Lottery(lr=lr), init), first).success
        for lr, first in zip(TRIED, seeds, strict=True)
    ]
    chances[NEVER] = _chance(~np.any(runs, axis=0))
    own = experiments.play(_with(Lottery(init={"order": "neuron"}), init)).success
    other = experiments.play(Lottery(), 0 if same else 9 * experiments.tickets).success
    # with one seed for all, the program that failed has shown already that its ticket is a blank
    chances[OTHER] = _chance(other[~own] if same and not own.all() else other)
    return Account(name, chances)


def _with(lottery: Lottery, init: Mapping[str, Any]) -> Lottery:
    return replace(lottery, init={**lottery.init, **init})


def _chance(happened: NDArray[np.bool_]) -> Chance:
    return Chance(Count(int(happened.sum()), happened.size))
