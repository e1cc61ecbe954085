"""Where failed trainings rest: final losses read as answers that can be named, for small sets of points."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError

Floats = NDArray[np.float64]

MOST_POINTS = 12
"""More points have too many groups for their losses to be told apart."""
SAME = 1e-6
"""Losses that differ by less are the same answer."""
TOLERANCE = 0.002
"""How near a loss must come to a plateau's."""


@dataclass(frozen=True)
class Plateau:
    """An answer at which a training may rest."""

    name: str
    loss: float
    """Mean squared error over outputs and points."""


@dataclass(frozen=True)
class Reading:
    """What a final loss may mean; several plateaus: they tie, and the loss alone cannot tell them apart."""

    loss: float
    plateaus: tuple[Plateau, ...]

    @property
    def ties(self) -> bool:
        """Whether more than one answer has this loss."""
        return len(self.plateaus) > 1

    @property
    def words(self) -> str:
        """The reading in one line."""
        if not self.plateaus:
            return "no plateau that is known"
        return " or ".join(plateau.name for plateau in self.plateaus)


def plateaus_of(inputs: ArrayLike, targets: ArrayLike) -> tuple[Plateau, ...]:
    r"""Answers at which a network that was trained with the mean squared error may rest.

    With the points in the order of their single input:

    * the best constant answer: the mean of the targets;
    * one constant for each of some groups of neighbours, all other points right: a group of m points with k
      positives adds $k(m-k)/(mn)$ (where units died, neighbours are no longer told apart);
    * the best sigmoid of a line in every output, by least squares, and the best line: where they do better
      than a constant;
    * dead outputs, 0 for every point, with the others right, or constant, or the best sigmoid of a line.

    Args:
        inputs: (n,) or (n, 1), distinct; 2 to 12 points.
        targets: (n,) class numbers, compared as one-hot rows, or (n, outputs) numbers.

    Returns:
        The plateaus by their loss; answers of the same loss stand beside each other.

    Raises:
        UnstuckError: more than one input, repeated points, too few or too many, or lengths that differ.

    Example:
        >>> [(p.name, round(p.loss, 3)) for p in plateaus_of([0, 0.5, 1], [0, 1, 0])][::3][:2]
        [('output 1 dead, the other right', 0.167), ('the best constant', 0.222)]
    """
    x, wanted = _read(inputs, targets)
    return _plateaus(tuple(x.tolist()), tuple(map(tuple, wanted.tolist())))


def read_loss(loss: float, plateaus: Sequence[Plateau], tolerance: float = TOLERANCE) -> Reading:
    """Name a final loss.

    Args:
        loss: mean squared error over outputs and points, of the final weights. The losses that online
            training sees, each before its update, are larger.
        plateaus: as from `plateaus_of`.
        tolerance: how near it must come.

    Returns:
        All plateaus within the tolerance, the simplest answer of each loss: the nearest loss, and what ties
        with it (losses within the tolerance of it).

    Example:
        >>> reading = read_loss(0.2501, plateaus_of([0, 0.3, 0.6, 1], [0, 1, 0, 1]))
        >>> reading.ties, [plateau.name for plateau in reading.plateaus][0]
        (True, 'the best constant')
    """
    near = [plateau for plateau in plateaus if abs(plateau.loss - loss) <= tolerance]
    nearest = min((abs(plateau.loss - loss) for plateau in near), default=0.0)
    same = [one for one in near if abs(one.loss - loss) <= nearest + tolerance / 2]
    return Reading(loss, tuple(same))


def read_losses(
    losses: ArrayLike, plateaus: Sequence[Plateau], tolerance: float = TOLERANCE
) -> list[tuple[Reading, int]]:
    """Name the final losses of many failed members.

    Args:
        losses: (members,); what is not finite is left out.
        plateaus: as from `plateaus_of`.
        tolerance: see `read_loss`.

    Returns:
        Readings with how many members each has, the commonest first; the loss of each is its members' median.
    """
    values = np.asarray(losses, dtype=np.float64).ravel()
    found: dict[tuple[Plateau, ...], list[float]] = {}
    for value in values[np.isfinite(values)].tolist():
        found.setdefault(read_loss(value, plateaus, tolerance).plateaus, []).append(value)
    readings = [(Reading(float(np.median(some)), key), len(some)) for key, some in found.items()]
    return sorted(readings, key=lambda item: -item[1])


@lru_cache(maxsize=64)
def _plateaus(x: tuple[float, ...], rows: tuple[tuple[float, ...], ...]) -> tuple[Plateau, ...]:
    points, wanted = np.array(x), np.array(rows)
    outputs = wanted.shape[1]
    constant = wanted.var(axis=0)
    bent = np.array([_sigmoid_of_a_line(points, wanted[:, i]) for i in range(outputs)])
    line = np.array([_line(points, wanted[:, i]) for i in range(outputs)])
    beside = {"right": np.zeros(outputs), "constant": constant}
    found = [Plateau("the best constant", float(constant.mean()))]
    if bent.mean() < constant.mean() - SAME:
        beside["a sigmoid of a line"] = bent
        found.append(Plateau("the best sigmoid of a line", float(bent.mean())))
    if line.mean() < constant.mean() - SAME:
        found.append(Plateau("the best line", float(line.mean())))
    found += [*_dead_outputs(wanted, beside), *_groups(wanted)]
    return tuple(sorted(found, key=lambda plateau: round(plateau.loss, 9)))


def _dead_outputs(wanted: Floats, others: dict[str, Floats]) -> list[Plateau]:
    """Some outputs are 0 for every point."""
    outputs = wanted.shape[1]
    silent = np.mean(wanted**2, axis=0)
    found: list[Plateau] = []
    for count in range(1, outputs + 1):
        for dead in itertools.combinations(range(outputs), count):
            alive = [i for i in range(outputs) if i not in dead]
            if not alive:
                found.append(Plateau("all outputs dead", float(silent.mean())))
                continue
            name = f"output{'s' if count > 1 else ''} {_list([str(i) for i in dead])} dead"
            for how, losses in others.items():
                loss = float(silent[list(dead)].sum() + losses[alive].sum()) / outputs
                found.append(Plateau(f"{name}, the other{'s' if len(alive) > 1 else ''} {how}", loss))
    return found


def _groups(wanted: Floats) -> list[Plateau]:
    """One answer for each of some groups of neighbours, the other points right."""
    count = len(wanted)
    found: list[Plateau] = []
    for cuts in itertools.product((False, True), repeat=count - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), count]
        groups = [(a, b) for a, b in itertools.pairwise(edges) if b - a > 1]
        mixed = [(a, b) for a, b in groups if wanted[a:b].var(axis=0).any()]
        if not groups or len(mixed) < len(groups) or groups == [(0, count)]:
            continue  # points of one class are right together; all points in one group are the constant
        loss = sum(float(wanted[a:b].var(axis=0).mean()) * (b - a) for a, b in groups) / count
        words = [f"points {a + 1} and {b}" if b - a == 2 else f"points {a + 1} to {b}" for a, b in groups]
        found.append(Plateau(f"one answer for {_list(words, ', one for ')}", loss))
    return found


def _sigmoid_of_a_line(x: Floats, wanted: Floats) -> float:
    """Least mean square of sigmoid(a x + b) - wanted, from several starts; steps are their limits."""
    from scipy.optimize import least_squares
    from scipy.special import expit

    middle, spread = float(x.mean()), float(np.ptp(x)) / 2
    z = (x - middle) / spread

    def apart(line: Floats) -> Floats:
        return np.asarray(expit(line[0] * z + line[1])) - wanted

    best = float(np.var(wanted))
    for slope in (-30.0, -4.0, 4.0, 30.0):
        for kink in np.linspace(-1.2, 1.2, 9):
            fit: Any = least_squares(apart, [slope, -slope * kink], max_nfev=200)
            best = min(best, 2 * float(fit.cost) / len(x))
    return best


def _line(x: Floats, wanted: Floats) -> float:
    design = np.stack([x, np.ones_like(x)], axis=1)
    solution = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return float(np.mean((design @ solution - wanted) ** 2))


def _list(words: Sequence[str], between: str = " and ") -> str:
    return between.join(words)


def _read(inputs: ArrayLike, targets: ArrayLike) -> tuple[Floats, Floats]:
    x = np.asarray(inputs, dtype=np.float64)
    x = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
    given = np.asarray(targets)
    if x.ndim != 1 or not 2 <= x.size <= MOST_POINTS:
        raise UnstuckError(f"inputs: found shape {x.shape}, expected 2 to {MOST_POINTS} points of one input")
    if np.unique(x).size < x.size or not np.isfinite(x).all():
        raise UnstuckError("inputs: expected distinct finite points")
    if len(given) != len(x):
        raise UnstuckError(f"targets: found {len(given)}, expected one for each of {len(x)} points")
    if given.ndim == 1 and np.issubdtype(given.dtype, np.integer):
        if given.min() < 0:
            raise UnstuckError(f"targets: found class {given.min()}, expected classes from 0")
        given = given[:, None] == np.arange(int(given.max()) + 1)
    wanted = given.reshape(len(x), -1).astype(np.float64)
    order = np.argsort(x)
    return x[order], wanted[order]
