"""How a stream is learned, and what is told of growth: plain values."""

from typing import Any, Literal, get_args

import msgspec

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real, whole

Strategy = Literal["replay", "naive", "gdumb", "joint", "ewc", "lwf"]
Growth = Literal["outputs", "auto"]
Correction = Literal["none", "weights"]


class Settings(msgspec.Struct, frozen=True):
    """How a stream is learned."""

    memory: int = 0
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    strategy: Strategy = "replay"
    growth: Growth = "outputs"
    masked: bool = False
    bias_correction: Correction = "none"

    @property
    def budget(self) -> int:
        """Samples that the memory may hold."""
        return 2**62 if self.strategy == "joint" else self.memory

    def check(self) -> None:
        """Refuse numbers out of range and words that mean nothing.

        Raises:
            UnstuckError: names the argument, what was found and what was expected.
        """
        whole("memory", self.memory, 0)
        whole("epochs", self.epochs, 1)
        whole("batch_size", self.batch_size, 1)
        if real("learning_rate", self.learning_rate) <= 0:
            raise UnstuckError(f"learning_rate must be above 0, found {self.learning_rate!r}")
        for name, kind in (("strategy", Strategy), ("growth", Growth), ("bias_correction", Correction)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(map(repr, get_args(kind)))
                raise UnstuckError(f"{name}: expected one of {known}, found {getattr(self, name)!r}")
        if self.strategy == "gdumb" and self.memory == 0:
            raise UnstuckError(
                "strategy 'gdumb' learns from the memory alone: expected memory above 0, found 0"
            )


class GrowthStep(msgspec.Struct, frozen=True):
    """One decision to grow, with what it was made on."""

    call: int
    """Which call of fit or partial_fit, from 1 on."""
    what: str
    """"outputs", "units" or "layer"."""
    layer: str
    count: int
    """New units."""
    parameters: int
    """Weights and biases of the network after it."""
    evidence: dict[str, Any]
