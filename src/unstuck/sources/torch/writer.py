"""Stores a recording part by part while it grows."""

import os
import time

from unstuck.trace.recording import Recording
from unstuck.trace.storage import Appender

SHARE = 100
"""Storing may take one part in so many of the time."""


class Writer:
    """Writes what is new from time to time."""

    def __init__(self, folder: str | os.PathLike[str], recording: Recording, seconds: float) -> None:
        """Prepare.

        Args:
            folder: where to; a recording that is there is replaced.
            recording: what to store.
            seconds: time between two parts.
        """
        self._appender = Appender(folder)
        self._recording = recording
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def due(self) -> bool:
        """Whether it is time for another part."""
        return time.monotonic() >= self._next

    def flush(self) -> None:
        """Store all rows that are not stored yet."""
        began = time.monotonic()
        recording = self._recording
        self._appender.append(recording.stored())
        now = time.monotonic()
        self._next = now + max(self._seconds, SHARE * (now - began))
