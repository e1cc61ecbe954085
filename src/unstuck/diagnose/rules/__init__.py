"""The rules, one file a family. Importing this package registers them."""

from unstuck.diagnose.rules import (
    activations,
    data,
    explosions,
    gradients,
    initialisation,
    learning_rate,
    optimiser,
    outputs,
    scores,
    targets,
)

__all__ = [
    "activations",
    "data",
    "explosions",
    "gradients",
    "initialisation",
    "learning_rate",
    "optimiser",
    "outputs",
    "scores",
    "targets",
]
