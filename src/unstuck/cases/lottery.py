"""Many trainings of the second case's networks: 1-H-2 on a few points with alternating labels, online."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck import nn
from unstuck.study.statistics import Count

POINTS = {2: (0.0, 1.0), 3: (0.0, 0.5, 1.0), 4: (0.0, 0.3, 0.6, 1.0), 5: (0.0, 0.25, 0.5, 0.75, 1.0)}
"""The inputs, by their number; labels alternate 0, 1, 0, 1, ..."""
ACTIVATIONS: dict[str, Any] = {"ReLU": nn.ReLU, "Sigmoid": nn.Sigmoid, "": None}
UNIFORM = {"scheme": "uniform", "low": -1.0, "high": 1.0}
EPOCHS = 10_000
SUCCESS = {"accuracy": 1.0, "mse": 0.01}
"""What counts as converged; tested every ten epochs."""


@dataclass(frozen=True)
class Lottery:
    """One configuration, of which every seed is a ticket.

    Args:
        hidden: activation of the hidden layer.
        width: its units.
        points: how many points are to be learned.
        lr: learning rate of the online descent.
        output: activation of the two outputs; '' for none.
        init: as in a study file; weights and biases from U(-1, 1) unless it says otherwise.
        further: activations of further hidden layers, each as wide as the first.
        together: all points in one batch, whose gradients are summed, instead of one after another.
        norm: batch normalisation before every hidden activation: '' for none, "plain", or "shifted" where its
            shift starts at random too. Needs `together`.
        scale: factor on the inputs.
        epochs: after which a member has failed.
    """

    hidden: str = "ReLU"
    width: int = 8
    points: int = 4
    lr: float = 0.5
    output: str = "Sigmoid"
    init: dict[str, Any] = field(default_factory=dict[str, Any])
    further: tuple[str, ...] = ()
    together: bool = False
    norm: str = ""
    scale: float = 1.0
    epochs: int = EPOCHS

    @cached_property
    def training(self) -> nn.Training:
        """The training of any of its members."""
        inputs = np.array(POINTS[self.points], dtype=np.float32)[:, None] * np.float32(self.scale)
        labels = np.eye(2, dtype=np.float32)[np.arange(self.points) % 2]
        layers: dict[str, nn.Layer] = {}
        before = 1
        for number, kind in enumerate((self.hidden, *self.further), 1):
            layers[f"fc{number}"] = nn.Linear(before, self.width)
            if self.norm:  # success is tested by the batch, too
                layers[f"norm{number}"] = nn.BatchNorm1d(self.width, track_running_stats=False)
            layers[f"act{number}"] = ACTIVATIONS[kind]()
            before = self.width
        layers["out"] = nn.Linear(self.width, 2)
        if self.output:
            layers["act_out"] = ACTIVATIONS[self.output]()
        return nn.Training(
            nn.Sequential(layers),
            (inputs, labels),
            nn.MSELoss(),
            nn.SGD(lr=self.lr),
            batch_size=0 if self.together else 1,
            epochs=self.epochs,
            init={
                "weights": UNIFORM,
                "bias": UNIFORM,
                "norm": {"bias": UNIFORM} if self.norm == "shifted" else {},
                **self.init,
            },
            shuffle=False,
            loss_scale=float(self.points) if self.together else 1.0,
            success=SUCCESS,
        )

    def play(self, seeds: Sequence[int]) -> "Drawn":
        """Train one member for each seed."""
        result: Any = self.training.run(None, seeds=seeds)
        return Drawn(result.success, result.final_loss, result.outcome, result.epochs)


@dataclass(frozen=True)
class Drawn:
    """What became of the members, in the order of their seeds."""

    success: NDArray[np.bool_]
    loss: NDArray[np.float64]
    outcome: NDArray[np.str_]
    epochs: NDArray[np.int64]

    @property
    def count(self) -> Count:
        """How many succeeded."""
        return Count(int(self.success.sum()), self.success.size)
