"""Batch normalisation and its relatives: whatever subtracts a mean and divides by a standard deviation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.known.operation import Operation, Result, Slip, Variant
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


@dataclass(frozen=True)
class Spread:
    """How the standard deviation is made."""

    eps: float
    ddof: int
    outside: bool = False
    """std + eps instead of sqrt(var + eps)."""


class Normalisation(Operation):
    """y = gamma (h - mean) / std + beta, over some axes."""

    word = "normalisation"

    def __init__(
        self, gamma: str, beta: str, axes: tuple[int, ...], shared: tuple[int, ...], spread: Spread
    ) -> None:
        """As recognised.

        Args:
            gamma: the scale's name; empty: none.
            beta: the shift's name; empty: none.
            axes: over which mean and variance are taken.
            shared: over which gamma and beta are the same.
            spread: how the standard deviation is made.
        """
        self.gamma, self.beta, self.axes, self.shared, self.spread = gamma, beta, axes, shared, spread
        self.tensors = tuple(name for name in (gamma, beta) if name)

    def _shaped(self, values: Values, name: str, h: Array) -> Array:
        if not name:
            return np.array(0.0 if name == self.beta else 1.0)
        return values[name].reshape([1 if axis in self.shared else size for axis, size in enumerate(h.shape)])

    def parts(self, h: Array, ddof: int | None = None) -> tuple[Array, Array, Array]:
        """Centred, standard deviation, normalised."""
        centred = h - h.mean(axis=self.axes, keepdims=True)
        used = self.spread.ddof if ddof is None else ddof
        var = h.var(axis=self.axes, keepdims=True, ddof=used)
        eps = self.spread.eps
        std = np.sqrt(var) + eps if self.spread.outside else np.sqrt(var + eps)
        return centred, std, centred / std

    def forward(self, values: Values, h: Array) -> Array:
        normalised = self.parts(h)[2]
        if self.gamma:
            normalised = normalised * self._shaped(values, self.gamma, h)
        return normalised + self._shaped(values, self.beta, h) if self.beta else normalised

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        centred, std, normalised = self.parts(h)
        grads: dict[str, Array] = {}
        shared = self.shared
        if self.gamma:
            grads[self.gamma] = (dy * normalised).sum(axis=shared).reshape(values[self.gamma].shape)
        if self.beta:
            grads[self.beta] = dy.sum(axis=shared).reshape(values[self.beta].shape)
        scale = self._shaped(values, self.gamma, h) if self.gamma else np.array(1.0)
        down = dy if slip == "gamma" else dy * scale * (scale if slip == "gamma-twice" else 1.0)
        count = float(np.prod([h.shape[axis] for axis in self.axes]))
        root = std - self.spread.eps if self.spread.outside else std
        if slip == "outside":
            root = std
        sums = (0,) if slip == "batch-only" else self.axes
        used = float(h.shape[0]) if slip == "batch-only" else count
        other = 1 - self.spread.ddof
        divisor = used - (other if slip in {"mixed", "mixed-all"} else self.spread.ddof)
        if slip in {"mixed-std", "mixed-all"}:
            _, std, normalised = self.parts(h, other)
            root = std
        mean = down.mean(axis=sums, keepdims=True)
        if slip == "mixed-mean":
            mean = down.sum(axis=sums, keepdims=True) / (count - other)
        along = (down * normalised).sum(axis=sums, keepdims=True) / divisor
        direct = down / std
        from_mean = 0.0 if slip in {"mean", "both"} else mean / std
        from_var = 0.0 if slip in {"var", "both"} else centred / (std * np.maximum(root, 1e-300)) * along
        if slip == "var-sign":
            from_var = -from_var
        return direct - from_mean - from_var, grads

    def slips(self, values: Values, h: Array) -> list[Slip]:
        held = "statistics-held-constant"
        found = [
            Slip("mean", held, "the mean is held constant: its dependence on the input is missing"),
            Slip("var", held, "the variance is held constant: its dependence on the input is missing"),
            Slip(
                "both", held, "mean and variance are held constant: their dependence on the input is missing"
            ),
        ]
        mixed = "the forward pass has the biased variance (N), the backward pass the unbiased one (N - 1)"
        if self.spread.ddof:
            mixed = "the forward pass has the unbiased variance (N - 1), the backward pass the biased one (N)"
        found += [
            Slip(name, "variance-mixed", mixed) for name in ("mixed", "mixed-std", "mixed-all", "mixed-mean")
        ]
        if self.gamma:
            found.append(
                Slip("gamma", "scale-forgotten", f"the scale {self.gamma} is missing in what is passed on")
            )
            found.append(
                Slip("gamma-twice", "scale-forgotten", f"the scale {self.gamma} is multiplied in twice")
            )
        if len(self.axes) > 1 and 0 in self.axes:
            text = "mean and variance are over batch and positions, their gradients over the batch only"
            found.append(Slip("batch-only", "not-summed", text))
        found.append(
            Slip("var-sign", "sign-flipped", "the variance's part of the gradient has the wrong sign")
        )
        return found

    def variants(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Iterator[Variant]:
        if name != self.gamma:
            return
        centred, std, normalised = self.parts(h)
        for array, what in (
            (h, "the input instead of the normalised one"),
            (centred, "the centred input, not divided by its standard deviation"),
            (y, "the output instead of the normalised input"),
            (centred * std, "the centred input times its standard deviation"),
        ):
            gradient = (dy * array).sum(axis=self.shared).reshape(values[name].shape)
            yield Variant("input-mistaken", f"{name}'s gradient uses {what}", gradient)
        del normalised

    def share(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Array | None:
        whole = dy * self.parts(h)[2] if name == self.gamma else dy
        shared = self.shared
        kept = [axis for axis in range(h.ndim) if axis not in shared]
        moved = whole.transpose([*shared, *kept])
        return moved.reshape(*moved.shape[: len(shared)], -1)
