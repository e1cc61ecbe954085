"""Questions to a network that was not recognised: is it wrong where a certain mistake does not matter?"""

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck.compare import Compared
from unstuck.gradcheck.differences import Differences
from unstuck.gradcheck.known.functions import ACTIVATIONS, derivative_slips
from unstuck.gradcheck.subject import Subject, Values
from unstuck.gradcheck.tree import Array

Named = tuple[str, str, str]
"""Kind, explanation, and the tensor where it shows first; empty: the latest."""


FEWEST_UNITS = 2
FEWEST_STEPS = 3


class Probes:
    """Asks the user's functions at points that were chosen to tell mistakes apart."""

    def __init__(
        self,
        subject: Subject,
        values: Values,
        dy: Array,
        tensors: dict[str, Compared],
        order: dict[str, int],
        rng: np.random.Generator,
        *,
        followed: bool = False,
    ) -> None:
        """Prepare.

        Args:
            subject: what is checked.
            values: the point.
            dy: as it was given to backward.
            tensors: what was measured there.
            order: rank of every tensor, 0 for the first.
            rng: draws points and directions.
            followed: whether all ways through time are known, and none of them alone is the mistake.
        """
        self.followed = followed
        self.order = order
        self.subject, self.values, self.dy, self.tensors, self._draw = subject, values, dy, tensors, rng
        self._known: dict[str, tuple[Array, Array | None]] = {}

    def shares(self, name: str) -> tuple[Array, Array | None]:
        """The right gradient of a small tensor, and the outputs' shares of it: (outputs' axes..., entries).

        With dy at one sample or position alone, the gradient is that one's share.
        """
        if name not in self._known:
            differences = Differences(self.subject, self.values, self.dy)
            size = self.values[name].size
            if size > 600:
                self._known[name] = (np.full(self.values[name].shape, np.nan), None)
                return self._known[name]
            columns = np.stack([differences.entry(name, index).column for index in range(size)], axis=-1)
            parts = columns * self.dy[..., None]
            right = parts.reshape(-1, size).sum(axis=0).reshape(self.values[name].shape)
            if parts.ndim > 2:  # the last axis of y holds outputs, not samples, in most layouts: sum it
                shares = parts.sum(axis=-2) if parts.ndim == 3 else parts.sum(axis=1)
            else:
                shares = None
            self._known[name] = (right, shares)
        return self._known[name]

    def signal(self, here: list[str], spoiled: list[str]) -> Named | None:
        """Name what spoils the gradient that reaches these tensors."""
        for question in (self._ignored, self._symmetric, self._activation, self._time):
            try:
                named = question(here, spoiled)
            except UnstuckError:
                named = None
            if named is not None:
                return named
        return None

    def _ignored(self, here: list[str], spoiled: list[str]) -> Named | None:
        if self.dy.size == 1:
            return None
        once = self.subject.gradients(self.values, self.dy)
        twice = self.subject.gradients(self.values, 2 * self.dy + 1)
        if all(np.array_equal(np.asarray(once[name]), np.asarray(twice[name])) for name in spoiled):
            return (
                "upstream-ignored",
                f"the gradient of {here[0]} is the same whatever dy is: dy is not used",
                "",
            )
        return None

    def _right_at(self, values: Values, names: list[str], dy: Array | None = None) -> bool:
        """Whether these gradients are right at another point, along random directions."""
        dy = self.dy if dy is None else dy
        differences = Differences(self.subject, values, dy)
        gradients = self.subject.gradients(values, dy)
        for name in names:
            given = np.asarray(gradients[name], dtype=np.float64)
            for _ in range(2):
                direction = self._draw.choice([-1.0, 1.0], given.shape)
                slope = differences.direction(name, direction)
                size = float(np.sqrt((given**2).sum()))
                if abs(slope.value - float((direction * given).sum())) > 1e-3 * size + 10 * slope.error:
                    return False
        return True

    def _symmetric(self, here: list[str], spoiled: list[str]) -> Named | None:
        """A matrix that is transposed, or a kernel that is flipped, does not matter where it is symmetric."""
        names = [name for name in here if np.any(self.tensors[name].right)] or here
        for name, value in self.values.items():
            if name in self.subject.inputs:
                continue
            for kind, text, symmetric in _symmetrised(name, value):
                if np.allclose(symmetric, value):
                    continue
                if self._right_at({**self.values, name: symmetric}, names):
                    return kind, text, ""
        del spoiled
        return None

    def _activation(self, here: list[str], spoiled: list[str]) -> Named | None:
        """With weights near zero an activation sees the bias alone, whose gradient tells f'."""
        del here
        biases = [n for n in spoiled if n not in self.subject.inputs and _is_vector(self.values[n])]
        for name in sorted(biases, key=lambda n: -self.order[n]):
            found = self._slope(name)
            if found is not None:
                same = [n for n in spoiled if self.order[n] == self.order[name]]
                return (*found, max(same, key=lambda n: (self.values[n].ndim, n == name)))
        return None

    def _slope(self, name: str) -> tuple[str, str] | None:
        """Which wrong derivative the gradient of a bias shows, in all units or in some, as of one gate."""
        value = self.values[name]
        z = self._draw.uniform(-1.5, 1.5, value.shape)
        small = {
            other: 1e-4 * weight
            for other, weight in self.values.items()
            if other not in self.subject.inputs
            and not _is_vector(weight)
            and self.order.get(other, 0) <= self.order[name]
        }
        values = {**self.values, **small, name: z}
        differences = Differences(self.subject, values, self.dy)
        right = np.array([differences.entry(name, index).value for index in range(z.size)])
        given = np.asarray(self.subject.gradients(values, self.dy)[name], dtype=np.float64).reshape(-1)
        size = float(np.abs(right).max(initial=0.0))
        wrong = np.abs(given - right) > 2e-2 * np.maximum(np.abs(right), 1e-3 * size)
        if wrong.sum() < FEWEST_UNITS or size == 0:
            return None
        flat, right, given = z.reshape(-1)[wrong], right[wrong], given[wrong]
        best: tuple[float, tuple[str, str]] | None = None
        for f in ACTIVATIONS:
            slope = f.slope(flat)
            live = np.abs(slope) > 1e-6
            if live.sum() < FEWEST_UNITS or not np.allclose(right[~live], 0, atol=1e-4 * size):
                continue
            before = right[live] / slope[live]
            for kind, text, slipped in derivative_slips(f, flat, f.value(flat)).values():
                distance = float(np.abs(before * slipped[live] - given[live]).max())
                largest = float(np.abs(given[live]).max(initial=0.0))
                if largest > 0 and distance <= 5e-3 * largest:
                    score = distance / largest
                    if best is None or score < best[0] / 3:
                        best = (score, (kind, text))
        return None if best is None else best[1]

    def _time(self, here: list[str], spoiled: list[str]) -> Named | None:
        """Right at the last of many steps, wrong at all before it, and right for a sequence of one step."""
        del here
        for name in self.subject.inputs if not self.followed else ():
            compared = self.tensors.get(name)
            if compared is None or not compared.whole or name not in spoiled:
                continue
            bad = compared.bad.reshape(compared.given.shape)
            for axis in range(max(1, min(2, bad.ndim - 1))):
                steps = bad.shape[axis]
                by_step: Array = np.moveaxis(bad, axis, 0).reshape(steps, -1).max(axis=1)
                if steps < FEWEST_STEPS or by_step[-1] or not by_step[:-1].all():
                    continue
                short = {**self.values, name: np.take(self.values[name], [steps - 1], axis=axis)}
                y = self.subject.output(short)
                if self._right_at(short, spoiled, self._draw.normal(size=y.shape)):
                    text = (
                        f"the gradient is right at the last of {steps} steps and wrong at all before it:"
                        " what a step passes on to the step before is not complete"
                    )
                    return "time-not-carried", text, ""
        return None


def _is_vector(value: Array) -> bool:
    return max(value.shape, default=1) == value.size > 1


def _symmetrised(name: str, value: Array) -> list[tuple[str, str, Array]]:
    if value.ndim == 2 and value.shape[0] == value.shape[1] > 1:
        text = f"{name} is transposed where the gradient is passed on through it"
        return [("transposed", text, (value + value.T) / 2)]
    if value.ndim < 3:
        return []
    found: list[tuple[str, str, Array]] = []
    pairs = [(2, 3), (0, 1)] if value.ndim == 4 else [(2,)]
    for axes in pairs:
        if all(value.shape[axis] > 1 for axis in axes):
            text = (
                f"the kernel {name} is the wrong way round (flipped, or not) where the gradient is passed on"
            )
            found.append(("kernel-not-flipped", text, (value + np.flip(value, axes)) / 2))
    if value.shape[0] == value.shape[1] > 1 and value.ndim == 4:
        text = f"input and output channels of {name} are exchanged where the gradient is passed on"
        found.append(("channels-swapped", text, (value + value.swapaxes(0, 1)) / 2))
    return found
