"""One point at which a backward pass was looked at, and what may be said of several."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.gradcheck.compare import Comparison
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


@dataclass
class Point:
    """What was measured at one point."""

    values: Values
    comparison: Comparison
    given: dict[str, Array]
    """All gradients, in whatever shape."""
    shapes: dict[str, Array]
    """Those of a wrong shape."""

    @property
    def wrong(self) -> list[str]:
        """Tensors whose gradients are wrong."""
        return [*self.shapes, *(n for n, c in self.comparison.tensors.items() if c.status == "wrong")]

    def measured(self, right: dict[str, Array]) -> bool:
        """Whether these are the gradients that were measured."""
        for name, compared in self.comparison.tensors.items():
            if name not in right:
                return False
            keep = compared.smooth
            found = right[name].reshape(-1)[compared.index][keep]
            size = float(np.abs(compared.right[keep]).max(initial=0.0))
            floor = 1e-6 * self.comparison.size + 20 * self.comparison.differences.noise
            if float(np.abs(found - compared.right[keep]).max(initial=0.0)) > 2e-3 * size + floor:
                return False
        return True


def silent(points: list[Point]) -> list[str]:
    """Tensors whose right gradient was zero at every point."""
    return [
        name
        for name in points[0].comparison.tensors
        if not any(
            np.abs(point.comparison.tensors[name].right).max(initial=0.0) > 1e-7 * point.comparison.size
            for point in points
            if name in point.comparison.tensors
        )
    ]


def numbers(value: Any) -> Array:
    """As an array; zero for what is none."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.zeros(())


def is_mask(name: str, value: Array) -> bool:
    """Whether an array without a gradient is no parameter: a mask, or running statistics."""
    word = name.rsplit(".", 1)[-1].lower()
    if any(part in word for part in ("running", "moving", "mask")):
        return True
    found = np.unique(value)
    return found.size == 2 and found[0] == 0
