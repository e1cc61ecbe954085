"""Whatever goes wrong in the recorder stays in the recorder."""

import warnings
from collections.abc import Callable
from typing import Any

MOST_FAILURES = 3
"""After so many failed measurements nothing is measured any more."""


class Guard:
    """Runs what is ours, and keeps what it raises.

    Example:
        >>> guard = Guard(lambda: None)
        >>> guard.run("half of it", lambda: 1 / 2), guard.notes
        (0.5, [])
    """

    def __init__(self, give_up: Callable[[], None]) -> None:
        """Nothing failed yet.

        Args:
            give_up: called after a failure: the current step is not measured further.
        """
        self.notes: list[str] = []
        """What was not measured, and why: one sentence each."""
        self.failures = 0
        self._give_up = give_up

    @property
    def tired(self) -> bool:
        """Whether too much has failed to go on measuring."""
        return self.failures >= MOST_FAILURES

    def note(self, sentence: str) -> None:
        """Keep a sentence, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def run(self, what: str, action: Callable[..., Any], *args: Any) -> Any:
        """Run something of ours; None if it raised."""
        try:
            return action(*args)
        except Exception as error:  # noqa: BLE001  (nothing of ours may stop a training)
            self.failed(what, error)
            return None

    def failed(self, what: str, error: Exception) -> None:
        """Give up measuring this step, and say so: the first time as a warning."""
        self.failures += 1
        reason = str(error).strip().split("\n", 1)[0][:200]
        text = f"{what} could not be measured ({type(error).__name__}: {reason}); the training goes on"
        self._give_up()
        self.note(text)
        if self.failures == 1:
            try:
                warnings.warn(f"unstuck: {text}", RuntimeWarning, stacklevel=2)
            except Warning:
                return  # warnings are errors here: not in somebody else's loop
