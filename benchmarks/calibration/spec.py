"""A training as a few values: drawn at random within what people use, and changed by a fault."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tasks import Task, tasks

ACTIVATIONS = ("ReLU", "ReLU", "LeakyReLU", "Tanh", "GELU", "ELU", "SiLU", "Sigmoid")
VOCABULARY = 24


@dataclass(frozen=True)
class Spec:
    """All that determines a training but its seed."""

    task: int
    body: str
    """mlp, cnn, gru or pool (of embedded tokens)."""
    depth: int
    width: int
    activation: str
    norm: str
    """none, batch or layer."""
    dropout: float
    residual: bool
    init: str
    """default, he, xavier or orthogonal."""
    head: str
    """cross_entropy, bce (one output for two classes) or mse."""
    optimizer: str
    lr: float
    schedule: str
    batch: int
    steps: int
    faults: dict[str, Any] = field(default_factory=dict[str, Any])
    """Name of a fault to its severity; what it does is in build.py and train.py."""

    @property
    def data(self) -> Task:
        """Its task."""
        return tasks()[self.task]

    def having(self, fault: str, severity: Any, **changes: Any) -> "Spec":
        """The same with a fault."""
        return replace(self, faults={**self.faults, fault: severity}, **changes)


def draw(rng: np.random.Generator) -> Spec:
    """A training as somebody might set it up who knows how."""
    number = int(rng.integers(len(tasks())))
    task = tasks()[number]
    body = {"features": "mlp", "images": str(rng.choice(["mlp", "cnn", "cnn"]))}.get(
        task.kind, str(rng.choice(["gru", "pool"]))
    )
    depth = int(rng.integers(1, 4 if body == "cnn" else 6))
    activation = str(rng.choice(ACTIVATIONS))
    norm = str(rng.choice(["none", "none", "batch", "layer"]))
    if activation == "Sigmoid":
        depth = min(depth, 2)
    optimizer = str(rng.choice(["sgd", "momentum", "adam", "adam", "adamw", "rmsprop"]))
    low, high = {"sgd": (0.05, 0.3), "momentum": (0.01, 0.05)}.get(optimizer, (1e-3, 5e-3))
    two = task.classes == 2
    return Spec(
        task=number,
        body=body,
        depth=depth,
        width=int(rng.choice([16, 24, 32, 64, 128] if body != "cnn" else [8, 12, 16])),
        activation=activation,
        norm=norm,
        dropout=float(rng.choice([0, 0, 0, 0.1, 0.3])),
        residual=bool(rng.random() < 0.2) and depth > 2 and body == "mlp",
        init=str(rng.choice(["default", "default", "he", "xavier", "orthogonal"])),
        head="mse"
        if task.classes == 0
        else str(rng.choice(["cross_entropy", "bce"]))
        if two
        else "cross_entropy",
        optimizer=optimizer,
        lr=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
        schedule=str(rng.choice(["none", "none", "none", "cosine", "warmup", "step"])),
        batch=int(rng.choice([16, 32, 32, 64, 128])),
        steps=int(rng.choice([250, 400, 600])),
    )
