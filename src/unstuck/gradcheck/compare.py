"""Each tensor's gradient against central differences: right, wrong, or too noisy to judge."""

import itertools
import time
from dataclasses import dataclass, field

import numpy as np

from unstuck.gradcheck.differences import Differences, Slope
from unstuck.gradcheck.tree import Array

RELATIVE = 3e-4
"""Smaller deviations, relative to the tensor's gradient, are matters of an epsilon somewhere, no mistakes."""
FEWEST, MOST = 24, 2000
SECONDS = 3.0
"""What the differences of all tensors may cost."""
STEPS = (3.7, 0.27)
"""Other sizes of a step. Powers of two would repeat its rounding errors digit by digit, and seem to agree."""
SMALLER_STEPS = 8
"""How often a step is made smaller where steps do not agree."""


@dataclass
class Compared:
    """What was measured of one tensor."""

    name: str
    given: Array
    """The user's gradient, in float64 and in the tensor's shape."""
    index: Array
    """Flat indices of entries that were measured."""
    right: Array
    """Their derivatives."""
    bad: Array
    """Which of them are wrong."""
    columns: Array
    """(entries, outputs): the derivative of every output by each entry."""
    smooth: Array
    """Which of them do not lie on a kink."""
    status: str = "right"
    """right | wrong | noisy."""
    noisy: int = 0
    """How many of them were too noisy to judge."""
    ties: bool = False
    """Wrong only where several entries move together over a kink, as in a tie."""
    notes: list[str] = field(default_factory=list[str])

    @property
    def whole(self) -> bool:
        """Whether every entry was measured."""
        return self.index.size == self.given.size

    @property
    def full(self) -> Array:
        """The right gradient in the tensor's shape; NaN where it was not measured."""
        made = np.full(self.given.size, np.nan)
        made[self.index] = self.right
        return made.reshape(self.given.shape)


class Comparison:
    """All tensors at one point."""

    def __init__(
        self, differences: Differences, given: dict[str, Array], rng: np.random.Generator, single: bool
    ) -> None:
        """Measure.

        Args:
            differences: at the point.
            given: gradients of the right shapes, by tensor.
            rng: draws entries and directions.
            single: whether gradients were computed in single precision.
        """
        self.differences, self.single = differences, single
        self.tensors: dict[str, Compared] = {}
        room = self._room(given)
        self._draw = rng
        first = {name: self._measure(name, array, room) for name, array in given.items()}
        sizes = [
            float(np.sqrt((np.array([slope.value for slope in slopes.values()]) ** 2).mean()))
            for slopes in first.values()
            if slopes
        ]
        self.size = max(sizes, default=0.0)
        for name, array in given.items():
            self.tensors[name] = self._judge(name, array, first[name])

    def _room(self, given: dict[str, Array]) -> int:
        started = time.perf_counter()
        for _ in range(3):
            self.differences.subject.output(self.differences.values)
        once = (time.perf_counter() - started) / 3
        calls = SECONDS / max(once, 1e-6) / 2 / max(1, len(given))
        return int(np.clip(calls, FEWEST, MOST))

    def _measure(self, name: str, array: Array, room: int) -> dict[int, Slope]:
        size = array.size
        limit = min(room, max(200, 20_000_000 // max(1, self.differences.y.size)))
        chosen = (
            np.arange(size) if size <= limit else np.sort(self._draw.permutation(size)[: min(limit, 200)])
        )
        return {int(index): self.differences.entry(name, int(index)) for index in chosen}

    def _floor(self, typical: float) -> float:
        return RELATIVE * typical + (2e-5 if self.single or self.differences.coarse else 1e-9) * self.size

    def _judge(self, name: str, array: Array, slopes: dict[int, Slope]) -> Compared:
        flat = array.reshape(-1)
        typical = float(np.sqrt((np.array([slope.value for slope in slopes.values()]) ** 2).mean()))
        wrong: dict[int, bool] = {}
        noisy = 0
        confirmed = 0
        for index, slope in slopes.items():
            verdict, settled = self._entry(name, index, float(flat[index]), slope, typical, confirmed < 40)
            slopes[index] = settled
            confirmed += verdict == "wrong"
            wrong[index] = verdict == "wrong"
            noisy += verdict == "noisy"
        if array.size > len(slopes) and not any(wrong.values()):
            for index in self._search(name, flat, typical, set(slopes)):
                slopes[index] = self.differences.entry(name, index)
                wrong[index] = True
        order = sorted(slopes)
        compared = Compared(
            name,
            array,
            np.array(order, dtype=np.int64),
            np.array([slopes[index].value for index in order]),
            np.array([wrong[index] for index in order], dtype=bool),
            np.stack([slopes[index].column.reshape(-1) for index in order]),
            np.array([not slopes[index].kinked for index in order], dtype=bool),
        )
        if compared.bad.any():
            compared.status = "wrong"
        elif noisy > len(order) / 4:
            compared.status = "noisy"
        compared.noisy = noisy
        if compared.status == "noisy":
            return compared
        if not compared.bad.any() and not compared.smooth.all() and self._ties_wrong(name, array, typical):
            compared.status, compared.ties = "wrong", True
        return compared

    def _entry(
        self, name: str, index: int, given: float, slope: Slope, typical: float, careful: bool
    ) -> tuple[str, Slope]:
        """The verdict on one entry, and the slope that it rests on."""
        allowed = self._floor(max(typical, abs(slope.value))) + 10 * slope.error
        if slope.low - allowed <= given <= slope.high + allowed:
            loud = 10 * slope.error > 0.3 * max(typical, abs(given)) + 1e-5 * self.size
            return ("noisy" if loud else "right"), slope
        if not careful:
            return "wrong", slope
        # wrong means wrong: steps of other sizes must agree with each other, and not with what was given
        factors = (*STEPS, 29.0) if self.single or self.differences.subject.single else STEPS
        others = {1.0: slope, **{times: self.differences.entry(name, index, times) for times in factors}}
        low, high = min(o.low for o in others.values()), max(o.high for o in others.values())
        allowed += 2 * (high - low)
        if low - allowed <= given <= high + allowed and high - low <= 0.3 * max(typical, abs(given)):
            return "right", slope
        return self._settled(name, index, given, others, typical)

    def _settled(
        self, name: str, index: int, given: float, slopes: dict[float, Slope], typical: float
    ) -> tuple[str, Slope]:
        """The verdict where steps disagree: smaller ones are tried until two of them agree.

        A step that is larger than what it looks at sees something else: several kinks, or a batch norm over a
        constant column, whose slope changes within sqrt(eps). Steps that do not agree tell nothing.
        """
        best, doubt = _agreeing(slopes)
        for _ in range(SMALLER_STEPS):
            floor = self._floor(max(typical, abs(best.value)))
            gap = max(0.0, best.low - given, given - best.high)
            if gap <= floor + 2 * doubt and doubt <= 0.3 * max(typical, abs(given)) + 1e-5 * self.size:
                return "right", best
            if floor + 5 * doubt <= gap:
                # where several kinks meet in one entry, their slopes need not lie between those of both sides
                return ("right" if best.kinked else "wrong"), best
            least = min(slopes) / STEPS[0]
            slopes = {**slopes, least: self.differences.entry(name, index, least)}
            best, doubt = _agreeing(slopes)
        return "noisy", best

    def _search(self, name: str, flat: Array, typical: float, known: set[int]) -> list[int]:
        """A few wrong entries among very many: random directions first, then halves of the entries."""
        everything = np.array([index for index in range(flat.size) if index not in known], dtype=np.int64)
        found: list[int] = []
        groups = [everything]
        calls = 0
        while groups and len(found) < 12 and calls < 200:
            group = groups.pop()
            calls += 1
            if not any(self._group_wrong(name, flat, group, typical) for _ in range(2 if calls == 1 else 1)):
                continue
            if group.size == 1:
                found.append(int(group[0]))
                continue
            half = group.size // 2
            groups += [group[half:], group[:half]]
        return sorted(found)

    def _group_wrong(self, name: str, flat: Array, group: Array, typical: float) -> bool:
        signs = np.zeros(flat.size)
        signs[group] = self._draw.choice([-1.0, 1.0], group.size)
        direction = signs.reshape(self.differences.values[name].shape)
        slopes = [self.differences.direction(name, direction, times) for times in (1.0, STEPS[1])]
        if any(slope.kinked for slope in slopes):
            return False
        spread = abs(slopes[0].value - slopes[1].value)
        allowed = self._floor(typical) * max(1.0, group.size**0.5) + 10 * slopes[0].error + 5 * spread
        return abs(float(signs @ flat) - slopes[0].value) > allowed

    def _ties_wrong(self, name: str, array: Array, typical: float) -> bool:
        """At a tie every share is allowed as long as they add up: all entries moved alike see their sum."""
        ones = np.ones(array.shape)
        slopes = [self.differences.direction(name, ones, times) for times in (1.0, *STEPS)]
        if any(slope.kinked for slope in slopes):
            return False
        spread = max(slope.value for slope in slopes) - min(slope.value for slope in slopes)
        allowed = self._floor(typical) * array.size**0.5 + 10 * slopes[0].error + 5 * spread
        return abs(float(array.sum()) - slopes[0].value) > allowed


def _agreeing(slopes: dict[float, Slope]) -> tuple[Slope, float]:
    """Of neighbouring steps those that agree best: the slope, and how far it may be off.

    Large steps agree beyond whatever they look at, on nothing: what smaller steps contradict does not count.

    Args:
        slopes: by their step; at a kink the slopes of both sides must agree.
    """
    steps = sorted(slopes)
    best, least = slopes[steps[0]], np.inf
    for number, (less, more) in enumerate(itertools.pairwise(steps)):
        a, b = slopes[less], slopes[more]
        doubt = _apart(a, b) + 5 * (a.error + b.error)
        smaller = [slopes[step] for step in steps[:number]]
        if doubt < least and all(_apart(a, other) <= doubt + 5 * other.error for other in smaller):
            best, least = a, doubt
    return best, least


def _apart(a: Slope, b: Slope) -> float:
    return max(abs(a.low - b.low), abs(a.high - b.high))
