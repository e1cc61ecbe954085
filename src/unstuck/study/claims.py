"""Which process works on which shard: locks that the system takes back when a process dies."""

import sys
from pathlib import Path
from typing import Any

NAME = "lock"
"""The file whose bytes are locked, one for each shard; it stays empty."""


class Claims:
    """The shards that this process works on; others that share the folder see them.

    Locks are those of POSIX (`fcntl`): they work over processes of one machine, and over machines that share
    a file system which has them. Where there are none (Windows), all shards can be had.
    """

    def __init__(self, folder: Path) -> None:
        """Open the file of locks.

        Raises:
            OSError: it cannot be made.
        """
        self._file: Any = (folder / NAME).open("ab")

    def take(self, shard: str) -> bool:
        """Claim a shard; False if another process has it."""
        if sys.platform == "win32":
            return True
        import fcntl

        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(shard))
        except OSError:
            return False
        return True

    def give_back(self, shard: str) -> None:
        """Others may have it."""
        if sys.platform == "win32":
            return
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(shard))

    def close(self) -> None:
        """Give all back."""
        self._file.close()


def _place(shard: str) -> int:
    return int(shard[:15], 16)
