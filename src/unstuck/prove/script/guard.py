"""Keeps a run from writing outside its working copy: its script would spoil what the other runs read."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
CHANGES = {
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "shutil.rmtree": (0,),
    "shutil.move": (0, 1),
    "sqlite3.connect": (0,),
}
"""Events of Python's audit that change files, with the places of the paths in them."""


class WroteOutsideError(PermissionError):
    """A run wanted to write a file that does not lie in its working copy."""


class Guard:
    """Refuses writes outside some folders, for the rest of the process: audit hooks cannot be removed.

    Caches (`~/.cache`, the temporary folder) and devices may be written. What is written past Python (by a
    library in C, to an absolute path) is not seen, with the exception of `torch.save`.
    """

    def __init__(self, inside: Sequence[str]) -> None:
        """Prepare.

        Args:
            inside: folders that may be written to.
        """
        home = Path.home()
        caches = [home / ".cache", home / ".config" / "matplotlib", Path(tempfile.gettempdir()), Path("/dev")]
        caches += [
            Path(value)
            for name in ("UNSTUCK_CACHE_DIR", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "MPLCONFIGDIR")
            if (value := os.environ.get(name))
        ]
        self._inside = tuple(os.path.realpath(one) + os.sep for one in [*inside, *map(str, caches)])
        self.wrote = ""
        """The first file that was refused."""
        self._busy = False

    def install(self) -> None:
        """From now on."""
        sys.addaudithook(self._hook)

    def check(self, path: Any) -> None:
        """Refuse a file that is about to be written.

        Raises:
            WroteOutsideError: it lies outside.
        """
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        found: Any = os.fspath(path)
        name = os.fsdecode(found)
        if name in {":memory:", ""} or name.startswith("file:"):
            return
        real = os.path.realpath(name)
        if "__pycache__" in real or (real + os.sep).startswith(self._inside):
            return
        self.wrote = self.wrote or real
        raise WroteOutsideError(
            13, "unstuck: a run of a trial writes into its own working copy only, not to a fixed place", real
        )

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            if event == "open":
                path, mode, flags = args
                writes = isinstance(flags, int) and bool(flags & WRITES & ~os.O_RDONLY)
                if writes or (isinstance(mode, str) and any(letter in mode for letter in "wax+")):
                    self.check(path)
            elif event in CHANGES:
                for place in CHANGES[event]:
                    self.check(args[place])
            elif event == "os.mkdir" and not Path(os.fsdecode(args[0])).exists():
                self.check(args[0])
        finally:
            self._busy = False
