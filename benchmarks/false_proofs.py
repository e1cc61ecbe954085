"""How often a trial of useless treatments proves or condemns one of them: 5 % at most, early stopping too.

Real trainings of the engine: 1-8-2 networks on four points with alternating labels, more than half of which
learn them. Every arm of every trial is the unchanged training, from seeds that no other arm has.
Usage: python benchmarks/false_proofs.py [TRIALS]
"""

import sys
import time
from collections.abc import Sequence

import numpy as np

from unstuck import nn
from unstuck.nn.training import Training
from unstuck.prove.sequential import SequentialTrial
from unstuck.prove.subject import Runs, Sham
from unstuck.prove.subjects.engine import EngineSubject
from unstuck.study.statistics import wilson

SEEDS = 20
ARMS = (None, "order=reshuffled", "lr*0.1", "clip=1", "init=he_normal")
"""Names only: what a trial calls its arms. All are the unchanged training from seeds of their own."""


class Useless:
    """Arms of one trial, read from trainings that were all made at once."""

    name = "useless"
    criterion = "it learns the four points"
    sham = Sham("order=reshuffled", "other seeds")

    def __init__(self, made: Runs, number: int) -> None:
        """Take the part of the trainings that belongs to a trial."""
        self.made, self.start = made, number * SEEDS * len(ARMS)

    def refuses(self, treatment: str) -> str | None:
        """Nothing."""
        del treatment

    def run(self, treatment: str | None, seeds: Sequence[int], progress: object = None) -> Runs:
        """One arm's trainings."""
        del progress
        places = self.start + ARMS.index(treatment) * SEEDS + np.array(seeds)
        words = tuple(self.made.outcome[place] for place in places)
        return Runs(self.made.success[places], self.made.loss[places], words, self.made.seconds[places])


def main(trials: int) -> None:
    """Run and count."""
    x = np.array([[0.0], [0.3], [0.6], [1.0]], np.float32)
    net = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 2), nn.Sigmoid())
    training = Training(
        net,
        (x, np.array([0, 1, 0, 1])),
        nn.MSELoss(),
        nn.SGD(lr=0.5),
        batch_size=1,
        epochs=3000,
        success={"accuracy": 1.0},
    )
    began = time.perf_counter()
    made = EngineSubject(training).run(None, range(trials * SEEDS * len(ARMS)))
    print(
        f"{len(made)} trainings, {made.successes / len(made):.1%} learn, {time.perf_counter() - began:.0f} s"
    )
    results = [
        SequentialTrial(Useless(made, number), ARMS[2:], range(SEEDS)).run() for number in range(trials)
    ]
    false = sum(any(one.verdict != "not shown" for one in result) for result in results)
    interval = wilson(false, trials)
    print(f"{false} of {trials} trials err: {false / trials:.1%} ({interval.low:.1%} to {interval.high:.1%})")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
