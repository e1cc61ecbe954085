"""How many steps are made in one go: so many that Ctrl-C and progress need not wait long."""

import time
from collections.abc import Callable

SECONDS = 0.15
"""What compiled code may take before Python has its turn. It changes no number how steps are divided."""
FIRST_WORK = 1_000_000_000
"""Multiplications of the first slice, when nothing is known: some hundredths of a second, tenths at worst."""


class Pace:
    """Learns from each slice how many steps the next may have.

    Example:
        >>> clock = iter([0.0, 1.0]).__next__
        >>> pace = Pace(1, clock)
        >>> pace.steps
        1000000000
        >>> pace.take(lambda: 100)
        >>> pace.steps
        15
    """

    def __init__(self, work: int, clock: Callable[[], float] = time.monotonic) -> None:
        """A first guess.

        Args:
            work: multiplications of a step, about.
            clock: seconds.
        """
        self.steps = max(1, FIRST_WORK // max(work, 1))
        """At most so many in the next slice."""
        self._clock = clock

    def take(self, run: Callable[[], int]) -> None:
        """Run a slice, which returns how many steps it made, and see how long it took."""
        begin = self._clock()
        made = run()
        took = self._clock() - begin
        if made > 0 and took > 0:
            self.steps = max(1, int(SECONDS * made / took))
