"""Class-incremental Split-MNIST: what a growing network keeps, beside the figures that were published.

Five stages of two classes, one head, labels unknown in advance; average accuracy over all classes after the
last stage, in percent, with the 95 % interval of the mean over seeds (Student's t).

    python benchmarks/grow.py                 MNIST-5k: 400 images a class to train, 100 to test; 10 passes
    python benchmarks/grow.py --data fashion4k  Fashion-MNIST: 400 images a class, drawn by the seed, and the
                                              whole test set; 10 passes
    python benchmarks/grow.py --data fashion  all of it: 60,000 and 10,000; 4 passes, batches of 128
    python benchmarks/grow.py --dense         a dense network 784-100-100-10 instead of the CNN
    python benchmarks/grow.py --seeds 2 --only "naive;replay500"
"""

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from unstuck import CNNClassifier, nn
from unstuck.datasets import FASHION_FOLDER
from unstuck.errors import UnstuckError
from unstuck.grow.protocols import Protocol, protocol

ROWS = {
    "naive": {"strategy": "naive"},
    "naive, masked": {"strategy": "naive", "masked": True},
    "EWC": {"strategy": "ewc"},
    "LwF": {"strategy": "lwf"},
    "LwF, masked": {"strategy": "lwf", "masked": True},
    "replay 100": {"memory": 100},
    "replay 200": {"memory": 200},
    "replay 500": {"memory": 500},
    "replay 500, grows": {"memory": 500, "growth": "auto"},
    "replay 500, weights aligned": {"memory": 500, "bias_correction": "weights"},
    "replay 1000": {"memory": 1000},
    "GDumb 200": {"memory": 200, "strategy": "gdumb"},
    "GDumb 500": {"memory": 500, "strategy": "gdumb"},
    "GDumb 1000": {"memory": 1000, "strategy": "gdumb"},
    "joint": {"strategy": "joint"},
}
LONG = ("EWC", "LwF", "LwF, masked", "naive, masked", "replay 500, grows", "replay 500, weights aligned")
"""Left out unless asked for with --only."""
MLP = {
    "mnist5k": {
        "naive": 19.52, "replay 100": 77.24, "replay 200": 84.24, "replay 500": 90.06, "replay 1000": 92.42,
        "GDumb 200": 82.44, "GDumb 500": 88.04, "GDumb 1000": 91.10, "joint": 94.70,
    },
    "fashion": {
        "naive": 19.95, "replay 100": 66.07, "replay 200": 70.71, "replay 500": 76.46, "replay 1000": 80.21,
        "GDumb 200": 73.92, "GDumb 500": 77.22, "GDumb 1000": 79.55, "joint": 86.54,
    },
    "fashion4k": {
        "naive": 19.93, "replay 100": 68.66, "replay 500": 78.91, "replay 1000": 80.04, "GDumb 500": 78.51,
        "joint": 82.36,
    },
}  # fmt: skip
"""Measured for this project on the same data: dense 784-100-100-10, Adam 1e-3, memories of the same size; on
the small Fashion-MNIST by --dense."""
PUBLISHED = {
    "naive": "19.71 (Hsu)", "EWC": "19.80 (Hsu)", "LwF": "24.17 (Hsu)", "replay 1000": "90.78 (Hsu, 1100)",
    "joint": "97.53 (Hsu)", "GDumb 500": "91.9 (GDumb)",
}  # fmt: skip
"""On all of MNIST with dense networks: Hsu et al. (2018), Prabhu et al. (2020)."""
SETTING = {
    "mnist5k": {"epochs": 10, "batch_size": 32},
    "fashion4k": {"epochs": 10, "batch_size": 32},
    "fashion": {"epochs": 4, "batch_size": 128},
}
A_CLASS = 400
"""Images of Fashion-MNIST to train on in its small form, as many as MNIST-5k has."""
DENSE = [nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU()]


def stages(data: str, seed: int, folder: Path) -> Protocol:
    """The stream; of the small form 400 images a class."""
    if data != "fashion4k":
        return protocol(f"split-{data}", seed, folder)
    whole = protocol("split-fashion", seed, folder)
    rng = np.random.default_rng(seed)
    kept = np.concatenate(
        [rng.choice(np.flatnonzero(whole.labels == label), A_CLASS, replace=False) for label in range(10)]
    )
    return replace(whole, inputs=whole.inputs[kept], labels=whole.labels[kept])


def accuracy(data: str, options: dict[str, Any], seed: int, folder: Path) -> float:
    """Accuracy over all classes after the last stage, in percent."""
    clf = CNNClassifier(random_state=seed, **SETTING[data], **options)
    stream = stages(data, seed, folder)
    if options.get("strategy") in {"joint", "gdumb"}:  # both begin again at every stage: the last decides
        clf.partial_fit(*stream.in_order)
    else:
        for number in range(len(stream.stages)):
            clf.partial_fit(*stream.stage(number))
    return 100 * clf.score(stream.test_inputs, stream.test_labels)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of the width of its 95 % interval."""
    spread = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), float(stats.t.ppf(0.975, max(len(values) - 1, 1)) * spread)


def _key(name: str) -> str:
    return name.replace(" ", "").lower()


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", choices=list(SETTING), default="mnist5k")
    parser.add_argument("--dense", action="store_true", help="a dense network, to compare with")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="rows, separated by semicolons; spaces do not matter")
    parser.add_argument("--folder", type=Path, default=FASHION_FOLDER, help="of the files of Fashion-MNIST")
    chosen = parser.parse_args()
    try:
        stages(chosen.data, 0, chosen.folder)
    except UnstuckError as error:
        print(f"skipped: {error}")
        return 0
    wanted = [_key(name) for name in chosen.only.split(";") if name]
    print(f"Split-{chosen.data}, {chosen.seeds} seeds: accuracy in % over all classes after the last stage\n")
    body = {"layers": DENSE} if chosen.dense else {}
    ours = "dense" if chosen.dense else "CNN"
    heads = (
        f"ours ({ours})",
        "dense network, same data",
        "difference",
        "published (all of MNIST)",
        "s a seed",
    )
    print(f"| | {' | '.join(heads)} |")
    print("|---|---|---|---|---|---|")
    means = {}
    for name, options in ROWS.items():
        left_out = _key(name) not in wanted if wanted else name in LONG
        if left_out:
            continue
        start = time.perf_counter()
        mean, half = interval(
            [accuracy(chosen.data, options | body, seed, chosen.folder) for seed in range(chosen.seeds)]
        )
        means[name] = mean
        seconds = (time.perf_counter() - start) / chosen.seeds
        base = MLP.get(chosen.data, {}).get(name)
        beside = ("", "") if base is None else (f"{base:.2f}", f"{mean - base:+.2f}")
        published = PUBLISHED.get(name, "")
        print(
            f"| {name} | {mean:.2f} ± {half:.2f} | {beside[0]} | {beside[1]} | {published} | {seconds:.0f} |",
            flush=True,
        )
    if {"joint", "replay 1000"} <= set(means):
        print(f"\njoint - replay 1000: {means['joint'] - means['replay 1000']:.2f} points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
