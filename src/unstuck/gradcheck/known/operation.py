"""What every recognised operation offers: forward, backward, and backward with one of its typical slips."""

from collections.abc import Iterator
from dataclasses import dataclass

from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array

Result = tuple[Array, dict[str, Array]]


@dataclass(frozen=True)
class Slip:
    """A typical mistake in what an operation passes back to the operation before it."""

    id: str
    kind: str
    text: str


@dataclass(frozen=True)
class Variant:
    """A typical mistake in the gradient of one parameter, and the gradient that it gives."""

    kind: str
    text: str
    gradient: Array


class Operation:
    """One operation of a chain. It holds no state: what it needs is handed to it."""

    tensors: tuple[str, ...] = ()
    word = "operation"

    def forward(self, values: Values, h: Array) -> Array:
        """Output for the input h."""
        raise NotImplementedError

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        """Gradients by h and by its parameters; a slip changes the former only.

        Args:
            values: all tensors.
            h: the input.
            y: the output for it.
            dy: the loss's gradient by the output.
            slip: id of one of `slips`; empty: right.
        """
        raise NotImplementedError

    def slips(self, values: Values, h: Array) -> list[Slip]:
        """Typical mistakes in the gradient by h that would show here."""
        del values, h
        return []

    def variants(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Iterator[Variant]:
        """Typical mistakes in the gradient of one parameter."""
        del values, h, y, dy, name
        return iter(())

    def share(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Array | None:
        """Contributions whose sum over all axes but the last is a parameter's gradient, or None."""
        del values, h, y, dy, name
        return None
