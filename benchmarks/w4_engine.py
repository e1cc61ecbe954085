"""W4, the engine: what it costs to record a training of our own, in CPU time.

    python benchmarks/w4_engine.py [--epochs 1000] [--rounds 7] [--size w2|lenet]

The network of W2 on 256 digits in batches of 32 (or LeNet-5 on 1,024 images in batches of 64), trained
without being watched, recorded at the default steps, and recorded with every step measured; they take turns.
A recording has costs that come once, however long the training is: looks at the trained and the untrained
network, the probes, and the allocation of the loss's change. So each way is also run for a tenth of the
epochs: the difference of both is what the other nine tenths cost, without anything that comes once.
"""

import argparse
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import w2_cnn_ensemble as w2
import w3_lenet as w3

from unstuck import nn

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Print milliseconds a training and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", choices=("w2", "lenet"), default="w2")
    given = parser.parse_args()
    training = _training(given.size, given.epochs)
    short = replace(training, epochs=max(given.epochs // 10, 1))

    ways: dict[str, Callable[[nn.Training, int], Any]] = {
        "unwatched": lambda plan, seed: plan.run(seed, threads=1),
        "recorded": lambda plan, seed: plan.run(seed, record=True),
        "recorded, every step": lambda plan, seed: plan.run(seed, record=True, every=1),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(given.rounds + 1):
        for name, way in ways.items():
            times = [_cost(way, plan, number) for plan in (training, short)]
            if number:  # the first round warms up
                found[name].append((times[0], times[0] - times[1]))
    steps = training.steps_per_epoch * training.epochs
    print(f"{steps} steps")
    for name, times in found.items():
        pairs = list(zip(times, found["unwatched"], strict=True))
        whole = statistics.median(own[0] / plain[0] for own, plain in pairs)
        lasting = statistics.median(own[1] / plain[1] for own, plain in pairs)
        once = statistics.median(own[0] - plain[0] - (own[1] - plain[1]) / 0.9 for own, plain in pairs)
        middle = statistics.median(own[0] for own in times)
        print(
            f"{name:22} {1e3 * middle:9.1f} ms  x{whole:.2f}  without what comes once x{lasting:.3f}"
            f"  once {1e3 * once:6.1f} ms"
        )


def _training(size: str, epochs: int) -> nn.Training:
    if size == "w2":
        rule = nn.SGD(lr=w2.LR, momentum=w2.MOMENTUM)
        return nn.Training(w2.network(), w2.data(), nn.CrossEntropyLoss(), rule, w2.BATCH, epochs)
    case = w3.CASES["lenet"]
    net, rule = w3.network(case), nn.SGD(lr=w3.LR)
    return nn.Training(net, w3.data(case), nn.CrossEntropyLoss(), rule, case.batch, epochs)


def _cost(way: "Callable[[nn.Training, int], Any]", plan: nn.Training, seed: int) -> float:
    begin = time.process_time()
    way(plan, seed)
    return time.process_time() - begin


if __name__ == "__main__":
    main()
