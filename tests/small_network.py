"""A dense network of a few lines of NumPy, recorded by `Recording.step` as any own training loop would be.

It shares nothing with the engine: what the rules say of it does not depend on the engine's kernels.
"""

from dataclasses import dataclass, field

import numpy as np

from unstuck.trace.recording import Meta, Recording
from unstuck.trace.structure import Node, Structure

_FUNCTIONS = {
    "Sigmoid": (lambda z: 1 / (1 + np.exp(-np.clip(z, -500, 500))), lambda a: a * (1 - a)),
    "Tanh": (np.tanh, lambda a: 1 - a * a),
    "ReLU": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(float)),
    "Identity": (lambda z: z, np.ones_like),
}


@dataclass
class Network:
    """Linear layers "fc1", "fc2", ... with activations "act1", ..., all weights (units, inputs)."""

    widths: tuple[int, ...]
    activation: str = "Sigmoid"
    output: str = "Identity"
    init: dict[int, object] = field(default_factory=dict)
    """Layer number (from 1) to a gain of Glorot's law, or to an array; 0: for all others. Default: 1."""
    frozen: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.depth = len(self.widths) - 1
        self.weights, self.biases = [], []
        for layer in range(1, self.depth + 1):
            fan_in, units = self.widths[layer - 1], self.widths[layer]
            drawn = rng.uniform(-1, 1, (units, fan_in)) * np.sqrt(6 / (fan_in + units))
            how = self.init.get(layer, self.init.get(0, 1.0))
            self.weights.append(np.array(how, float) if isinstance(how, np.ndarray) else drawn * how)
            self.biases.append(np.zeros(units))

    def kind(self, layer: int) -> str:
        return self.output if layer == self.depth else self.activation

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        """Inputs, then for each layer its sum and its activation."""
        values = [x]
        for layer in range(self.depth):
            z = values[-1] @ self.weights[layer].T + self.biases[layer]
            values += [z, _FUNCTIONS[self.kind(layer + 1)][0](z)]
        return values

    def gradients(self, values: list[np.ndarray], targets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of the mean squared error, with respect to each layer's weights and biases."""
        found = []
        back = 2 * (values[-1] - targets) / targets.size
        for layer in reversed(range(self.depth)):
            back = back * _FUNCTIONS[self.kind(layer + 1)][1](values[2 * layer + 2])
            found.append((back.T @ values[2 * layer], back.sum(axis=0)))
            back = back @ self.weights[layer]
        return found[::-1]

    @property
    def structure(self) -> Structure:
        nodes, before = [], "input"
        for layer in range(1, self.depth + 1):
            units, fan_in = self.weights[layer - 1].shape
            shapes = {"weight": (units, fan_in), "bias": (units,)}
            nodes.append(
                Node(f"fc{layer}", "Linear", (before,), (units,), shapes, trainable=layer not in self.frozen)
            )
            nodes.append(Node(f"act{layer}", self.kind(layer), (f"fc{layer}",), (units,)))
            before = f"act{layer}"
        return Structure(tuple(nodes), "MSELoss", input_shape=(self.widths[0],))


def train(
    network: Network,
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    lr: float,
    steps: int,
    batch: int = 0,
    classes: bool = False,
    cut: int = 0,
) -> Recording:
    """Train by gradient descent and record every step.

    Args:
        network: is changed.
        inputs: (N, features).
        targets: (N, outputs).
        lr: learning rate.
        steps: number of updates.
        batch: samples of a step, in fixed order round and round; 0: all.
        classes: whether the targets are one-hot classes.
        cut: layers up to this one get no gradient, as behind a detached tensor.
    """
    constant = float(np.mean((targets - targets.mean(axis=0)) ** 2))
    meta = Meta(
        loss="MSELoss", task="classification" if classes else "regression", n_classes=targets.shape[1]
    )
    run = Recording(network.structure, meta)
    size = batch or len(inputs)
    for step in range(steps):
        rows = np.arange(step * size, (step + 1) * size) % len(inputs)
        values = network.forward(inputs[rows])
        grads = network.gradients(values, targets[rows])
        grads = [(g * 0, h * 0) if i < cut else (g, h) for i, (g, h) in enumerate(grads)]
        run.add(step, "", "full_loss", float(np.mean((network.forward(inputs)[-1] - targets) ** 2)))
        run.step(
            loss=float(np.mean((values[-1] - targets[rows]) ** 2)),
            params={
                name: array
                for i in range(network.depth)
                for name, array in (
                    (f"fc{i + 1}.weight", network.weights[i]),
                    (f"fc{i + 1}.bias", network.biases[i]),
                )
            },
            grads={
                name: array
                for i, (g, h) in enumerate(grads)
                for name, array in ((f"fc{i + 1}.weight", g), (f"fc{i + 1}.bias", h))
            },
            activations={
                name: array
                for i in range(network.depth)
                for name, array in (
                    (f"fc{i + 1}", values[2 * i + 1]),
                    (f"act{i + 1}", values[2 * i + 2]),
                )
            },
            lr=lr,
            inputs=inputs[rows],
            targets=targets[rows],
            outputs=values[-1],
        )
        run.add(step, "", "baseline_loss", constant)  # of all the data, not of the batch
        for i, (g, h) in enumerate(grads):
            if i + 1 not in network.frozen:
                network.weights[i] = network.weights[i] - lr * g
                network.biases[i] = network.biases[i] - lr * h
    run.close()
    return run


def blobs(n: int = 60, classes: int = 3, features: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds, one a class and of slightly different sizes, with one-hot targets."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.integers(0, classes, n - classes), np.arange(classes)])
    centres = rng.normal(0, 1.5, (classes, features))
    return centres[labels] + rng.normal(0, 0.5, (n, features)), np.eye(classes)[labels]
