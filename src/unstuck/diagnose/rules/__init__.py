"""The rules, one file a family. Importing this package registers them."""

from unstuck.diagnose.rules import (
    activations,
    data,
    dead_units,
    draws,
    explosions,
    gradients,
    growth,
    initialisation,
    learning_rate,
    lottery,
    optimiser,
    outputs,
    ranges,
    scores,
    targets,
)

__all__ = [
    "activations",
    "data",
    "dead_units",
    "draws",
    "explosions",
    "gradients",
    "growth",
    "initialisation",
    "learning_rate",
    "lottery",
    "optimiser",
    "outputs",
    "ranges",
    "scores",
    "targets",
]
