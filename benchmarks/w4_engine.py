"""W4, the engine: what it costs to record a training of our own, in CPU time.

    python benchmarks/w4_engine.py [--epochs 200] [--rounds 5]

The network of W2 on 256 digits, batch 32, trained without being watched, recorded at the default steps, and
recorded with every step measured; they take turns. A recording's time includes what is done once: the
allocation of the loss's change and the probes.
"""

import argparse
import statistics
import time
from typing import TYPE_CHECKING, Any

from w2_cnn_ensemble import BATCH, LR, MOMENTUM, data, network

from unstuck import nn
from unstuck.sources.engine import record_training

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Print milliseconds a training and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    training = nn.Training(
        network(), data(), nn.CrossEntropyLoss(), nn.SGD(lr=LR, momentum=MOMENTUM), BATCH, given.epochs
    )

    ways: dict[str, Callable[[int], Any]] = {
        "unwatched": lambda seed: training.run(seed, threads=1),
        "recorded": lambda seed: training.run(seed, record=True),
        "recorded, every step": lambda seed: record_training(training, seed, every=1),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds + 1):
        for name, way in ways.items():
            begin = time.process_time()
            way(number)
            if number:  # the first round warms up
                found[name].append(time.process_time() - begin)
    steps = given.epochs * training.steps_per_epoch
    for name, times in found.items():
        ratios = [own / plain for own, plain in zip(times, found["unwatched"], strict=True)]
        middle = statistics.median(times)
        print(
            f"{name:22} {1e3 * middle:9.1f} ms {1e6 * middle / steps:9.1f} us/step  "
            f"x{statistics.median(ratios):.2f}"
        )


if __name__ == "__main__":
    main()
