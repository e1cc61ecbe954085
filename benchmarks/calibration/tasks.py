"""What the generated trainings learn: small data sets of many kinds, standardised as one should."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import sklearn.datasets
import torch
from torch import Tensor

from unstuck import datasets


@dataclass(frozen=True)
class Task:
    """Samples, what is wanted of them, and of which kind they are."""

    name: str
    kind: str
    """features, images or tokens: what a network must take."""
    x: Tensor
    y: Tensor
    """(N,) whole numbers of classes, or (N, 1) floats."""
    classes: int
    """0: a quantity is wanted."""

    @property
    def baseline(self) -> float:
        """Loss of the best constant answer: entropy of the classes, or variance."""
        if self.classes == 0:
            return float(self.y.var(correction=0))
        share = torch.bincount(self.y, minlength=self.classes).double() / len(self.y)
        return float(-(share[share > 0] * share[share > 0].log()).sum())


def _scaled(x: np.ndarray) -> Tensor:
    x = np.asarray(x, np.float64)
    return torch.tensor((x - x.mean(0)) / (x.std(0) + 1e-9), dtype=torch.float32)


def _digits() -> Task:
    data = datasets.digits()
    x = torch.tensor(data.inputs).reshape(len(data.inputs), -1)
    return Task("digits", "features", x, torch.tensor(data.targets).long(), 10)


def _digit_images() -> Task:
    data = datasets.digits()
    return Task("digit images", "images", torch.tensor(data.inputs), torch.tensor(data.targets).long(), 10)


def _mnist_images() -> Task:
    data = datasets.load("mnist5k")
    small = torch.nn.functional.avg_pool2d(torch.tensor(data.inputs[::2]), 2)
    return Task("mnist 14x14", "images", small, torch.tensor(data.targets[::2]).long(), 10)


def _spirals() -> Task:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 900)
    radius = rng.uniform(0.1, 1, 900)
    angle = radius * 5 + label * 2 * np.pi / 3 + rng.normal(0, 0.15, 900)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return Task("spirals", "features", _scaled(x), torch.tensor(label), 3)


def _moons() -> Task:
    x, y = sklearn.datasets.make_moons(800, noise=0.15, random_state=0)
    return Task("moons", "features", _scaled(x), torch.tensor(y).long(), 2)


def _table(load: Callable[..., tuple[np.ndarray, np.ndarray]], name: str) -> Task:
    x, y = load(return_X_y=True)
    return Task(name, "features", _scaled(x), torch.tensor(y).long(), int(y.max()) + 1)


def _forest() -> Task:
    x, y = sklearn.datasets.make_classification(
        1200, 20, n_informative=8, n_classes=4, class_sep=1.6, random_state=1
    )
    return Task("clusters", "features", _scaled(x), torch.tensor(y).long(), 4)


def _friedman() -> Task:
    x, y = sklearn.datasets.make_friedman1(1000, 8, noise=0.5, random_state=0)
    return Task("friedman", "features", _scaled(x), _scaled(y[:, None]), 0)


def _wave() -> Task:
    x = np.random.default_rng(0).uniform(-1, 1, (800, 2))
    y = np.sin(4 * x[:, :1]) + x[:, 1:] ** 2
    return Task("wave", "features", _scaled(x), _scaled(y), 0)


def _commonest() -> Task:
    """Which third of the alphabet a row of tokens takes most letters from."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 1200)
    own = label[:, None] * 8 + rng.integers(0, 8, (1200, 16))
    x = np.where(rng.random((1200, 16)) < 0.4, own, rng.integers(0, 24, (1200, 16)))
    return Task("letters", "tokens", torch.tensor(x).long(), torch.tensor(label).long(), 3)


def _order() -> Task:
    """Whether the first token of a row comes again at its end."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 6, (1500, 8))
    label = rng.integers(0, 2, 1500)
    x[:, -1] = np.where(label == 1, x[:, 0], (x[:, 0] + rng.integers(1, 6, 1500)) % 6)
    return Task("same ends", "tokens", torch.tensor(x).long(), torch.tensor(label).long(), 2)


_TASKS: tuple[Callable[[], Task], ...] = (
    _digits,
    _digit_images,
    _mnist_images,
    _spirals,
    _moons,
    lambda: _table(sklearn.datasets.load_breast_cancer, "breast cancer"),
    lambda: _table(sklearn.datasets.load_wine, "wine"),
    _forest,
    _friedman,
    _wave,
    _commonest,
    _order,
)


@cache
def tasks() -> tuple[Task, ...]:
    """All of them."""
    return tuple(make() for make in _TASKS)
