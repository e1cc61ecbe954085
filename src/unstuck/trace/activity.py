"""Which units have ever been active, and which no longer are, followed over the measured steps."""

import numpy as np
import numpy.typing as npt

from unstuck.trace.measure import Doubles, Values

Flags = npt.NDArray[np.bool_]

SAMPLES = 64
"""Samples that a unit must have been silent on before it counts: one that is active on 5 % of all is called
silent by mistake in 4 % of such looks (0.95^64)."""
LOOKS = 3
"""... in so many measured steps in a row: one odd batch kills nothing."""


class Activity:
    """Follows the units of a network that give exactly 0 for every sample of a batch.

    On one batch of few samples many healthy units are silent; a dead one is silent on all. So silence is
    counted over the samples of several measured steps.

    Example:
        >>> activity = Activity(same_samples=True)
        >>> for alive in ([True, True, False], *3 * [[True, False, False]]):
        ...     row = activity.see("act", np.array(alive), units=3, samples=4)
        >>> [round(row["never_active"], 3), round(row["dead_lately"], 3)]
        [0.333, 0.667]
    """

    def __init__(self, *, same_samples: bool = False) -> None:
        """Nothing seen yet.

        Args:
            same_samples: whether every look is at the same samples, which stand for all data: then it is
                enough to look several times.
        """
        self._needed = 0 if same_samples else SAMPLES
        self._units: dict[str, _Units] = {}

    def see(self, name: str, active: Flags, *, units: int, samples: int) -> Values:
        """Note one look at an operation's output.

        Args:
            name: of the operation.
            active: (looked at,) whether a unit gave anything but 0; every k-th unit where not all are given.
            units: how many there are.
            samples: of this look.

        Returns:
            dead, never_active and dead_lately; None for what too few samples were seen for.
        """
        known = self._units.get(name)
        if known is None or known.count != units:
            known = self._units[name] = _Units(units)
        known.see(active, samples)
        return {"dead": float(np.mean(~active)) if active.size else None, **known.shares(self._needed)}


class _Units:
    """What is known of the units of one operation."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.looks = 0
        self.seen = np.zeros(count, dtype=np.int64)
        """Samples that each was looked at on."""
        self.ever = np.zeros(count, dtype=np.bool_)
        self.silent = np.zeros((2, count), dtype=np.int64)
        """Samples, and looks, since it was last active."""

    def see(self, active: Flags, samples: int) -> None:
        each = -(-self.count // max(len(active), 1))
        self.looks += 1
        self.seen[::each] += samples
        self.ever[::each] |= active
        self.silent[:, ::each] = np.where(active, 0, self.silent[:, ::each] + [[samples], [1]])

    def shares(self, needed: int) -> Values:
        known = self.seen >= max(needed, 1)
        if self.looks < LOOKS or not known.any():
            return {"never_active": None, "dead_lately": None}
        lately = (self.silent[0] >= needed) & (self.silent[1] >= LOOKS)
        return {
            "never_active": float(np.mean(~self.ever[known])),
            "dead_lately": float(np.mean(lately[known])),
        }


def active_units(by_unit: Doubles) -> Flags:
    """Which units gave anything but exactly 0.

    Args:
        by_unit: (N, units, positions).

    Returns:
        (units,); a NaN counts as active.
    """
    return ~np.all(by_unit == 0, axis=(0, 2))
