"""Central differences: steps that fit the noise of the function, and kinks told from slopes."""

from dataclasses import dataclass

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck.subject import Subject, Values
from unstuck.gradcheck.tree import Array

SMALLEST_STEP, LARGEST_STEP = 6e-6, 2e-2
DISTANCES = (1e-4, 1e-5, 1e-6, 1e-7)
"""Between the values from which the noise is estimated."""
LEAST_VARIATION = 1e-6
KINK = 1e-3
"""One-sided slopes further apart than this part of the gradient are looked at again with smaller steps."""


@dataclass(frozen=True)
class Slope:
    """The derivative along one direction, contracted with dy, and of every output."""

    low: float
    high: float
    """Both the derivative where the function is smooth; at a kink the slopes of both sides."""
    error: float
    column: Array
    """dy / dt of every output, in y's shape."""

    @property
    def kinked(self) -> bool:
        """Whether the point itself lies on a kink."""
        return self.high > self.low

    @property
    def value(self) -> float:
        """The derivative; at a kink the middle."""
        return 0.5 * (self.low + self.high)


class Differences:
    """Slopes of a subject's output at one point."""

    def __init__(self, subject: Subject, values: Values, dy: Array, seed: int = 0) -> None:
        self.subject, self.values, self.dy = subject, values, dy
        self.y = subject.output(values)
        self.scales = {name: _scale(value) for name, value in values.items()}
        self.noise, self.contracted, variation = self._noise(np.random.default_rng(seed))
        relative = self.noise / variation if variation > 0 else 0.0
        self.step = float(np.clip((3 * relative) ** (1 / 3), SMALLEST_STEP, LARGEST_STEP))

    @property
    def coarse(self) -> bool:
        """Whether the function computes in less than double precision, or is noisy otherwise."""
        return self.step > 1e-4

    def entry(self, name: str, index: int, times: float = 1.0) -> Slope:
        """The derivative by one entry (flat index) of one tensor."""
        value = float(self.values[name].reshape(-1)[index])
        direction = np.zeros(self.values[name].size)
        direction[index] = 1.0
        size = max(abs(value), self.scales[name])
        return self.along({name: direction.reshape(self.values[name].shape)}, size, times)

    def direction(self, name: str, direction: Array, times: float = 1.0) -> Slope:
        """The derivative along a direction with entries of about 1 in one tensor."""
        count = max(1, int(np.count_nonzero(direction)))
        return self.along({name: direction}, self.scales[name] / count**0.25, times)

    def along(self, directions: Values, size: float, times: float = 1.0) -> Slope:
        """The derivative along a direction in several tensors.

        Args:
            directions: tensor's name to its part of the direction.
            size: of which the step is a small part.
            times: what the step is multiplied with.
        """
        h = self.step * size * times
        up, down = self._moved(directions, h), self._moved(directions, -h)
        error = self._error(h)
        right, left = self._both(up, down, h)
        gap = abs(right - left)
        scale = max(abs(right), abs(left))
        column = (up - down) / (2 * h)
        if gap <= KINK * scale + 20 * error:
            middle = 0.5 * (right + left)
            return Slope(middle, middle, error, column)
        for _ in range(0 if self.coarse or self.subject.single else 3):  # smaller steps drown in coarse noise
            h /= 7.3  # no power of two: that would repeat rounding errors
            error = self._error(h)
            up, down = self._moved(directions, h), self._moved(directions, -h)
            right, left = self._both(up, down, h)
            column = (up - down) / (2 * h)
            smaller = abs(right - left)
            if smaller <= gap / 4 or smaller <= KINK * scale + 20 * error:
                if smaller <= 0.02 * scale + 20 * error:
                    middle = 0.5 * (right + left)
                    return Slope(middle, middle, error, column)
                gap = smaller
        signs = self._spans(up, down, h)
        return Slope(signs[0], signs[1], error, column)

    def _spans(self, up: Array, down: Array, h: float) -> tuple[float, float]:
        """The least and the greatest contraction with any slope between both sides, output by output."""
        right = self.dy * (up - self.y) / h
        left = self.dy * (self.y - down) / h
        return float(np.minimum(right, left).sum()), float(np.maximum(right, left).sum())

    def _both(self, up: Array, down: Array, h: float) -> tuple[float, float]:
        return float((self.dy * (up - self.y)).sum() / h), float((self.dy * (self.y - down)).sum() / h)

    def _error(self, h: float) -> float:
        return max(float(self.noise * np.sqrt((self.dy**2).sum())), self.contracted) / h

    def _moved(self, directions: Values, h: float) -> Array:
        moved = {
            **self.values,
            **{name: self.values[name] + h * direction for name, direction in directions.items()},
        }
        y = self.subject.output(moved)
        if y.shape != self.y.shape:
            raise UnstuckError(f"forward's y: found shape {y.shape}, expected {self.y.shape} as before")
        return y

    def _noise(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Rounding noise of an output, that of sum(dy * y), and by how much outputs change along a direction.

        High differences of nearby values cancel whatever is smooth; what is left is noise. Noise is the same
        at every distance, while curvature and kinks fade where values lie closer: the least is the noise,
        among the distances at which outputs move at all (rounded inputs do not, below their precision). The
        noise of the sum is measured too: where outputs share what was rounded, theirs does not average out.
        """
        precision = np.float32 if self.subject.single else np.float64
        floor = 0.5 * float(np.finfo(precision).eps) * max(1e-300, float(np.sqrt((self.y**2).mean())))
        directions = {
            name: self.scales[name] * rng.normal(size=value.shape) for name, value in self.values.items()
        }
        single = self.subject.single
        found: list[tuple[float, float, float]] = []
        variation = 0.0
        for delta in DISTANCES[: 3 if single else None]:
            # not at the point itself: what is zero there has no rounding errors, a step away it has
            start = 1e-2 if single else SMALLEST_STEP
            line = np.stack([self._moved(directions, start + k * delta) for k in range(9)])
            moved = np.diff(line, axis=0)
            if delta >= LEAST_VARIATION:
                variation = max(variation, float(np.sqrt((moved[0] ** 2).mean())) / delta)
            differences = np.diff(moved, n=5, axis=0) / np.sqrt(924.0)
            contracted = (self.dy * differences).reshape(len(differences), -1).sum(axis=1)
            found.append(
                (float((moved != 0).mean()), _root_mean_square(differences), _root_mean_square(contracted))
            )
        if single:  # the larger error: of rounded numbers, some move too little to tell
            least = max(noise for _, noise, _ in found)
            return max(least, floor), max(total for _, _, total in found), variation
        most = max(part for part, _, _ in found)
        moving = [(noise, total) for part, noise, total in found if part >= 0.9 * most]
        least = min(noise for noise, _ in moving)
        totals = np.array([total for noise, total in moving if noise <= 3 * least])
        return max(least, floor), _root_mean_square(totals), variation


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def _scale(value: Array) -> float:
    size = float(np.sqrt((value**2).mean())) if value.size else 0.0
    return max(size, 0.05) if size > 0 else 0.1
