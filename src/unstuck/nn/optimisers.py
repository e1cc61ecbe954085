"""Optimisers: how gradients change parameters (kernels: `kernels/update.py`)."""

from dataclasses import dataclass

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent, as torch's: v = momentum v + g; w = w - lr v.

    Args:
        lr: learning rate; a finite number of at least 0.
        momentum: at least 0 and below 1.

    Raises:
        UnstuckError: a number out of range.

    References:
        Sutskever, Martens, Dahl & Hinton (2013), "On the importance of initialization and momentum in deep
        learning" (there the learning rate stands inside v).
    """

    lr: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if real("SGD: lr", self.lr) < 0:
            msg = f"SGD: lr must be a finite number of at least 0, found {self.lr!r}"
            raise UnstuckError(msg)
        if not 0 <= real("SGD: momentum", self.momentum) < 1:
            msg = f"SGD: momentum must be at least 0 and below 1, found {self.momentum!r}"
            raise UnstuckError(msg)

    @property
    def type(self) -> str:
        """Name of the optimiser, as in PyTorch."""
        return type(self).__name__

    def options(self) -> dict[str, float]:
        """Its numbers by name."""
        return {"lr": self.lr, "momentum": self.momentum}
