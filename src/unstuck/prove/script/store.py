"""Where finished runs are kept: one small file a run, in a folder named by all that determines them."""

import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unstuck.errors import UnstuckError
from unstuck.prove.script.copy import files
from unstuck.prove.script.row import Row, read_row, write


@dataclass(frozen=True)
class Store:
    """The finished runs of one script with its arguments.

    Args:
        folder: of these runs.
    """

    folder: Path

    def get(self, treatment: str | None, seed: int | None) -> Row | None:
        """A finished run, if there is one."""
        return read_row(self._path(treatment, seed))

    def put(self, row: Row) -> None:
        """Keep a finished run."""
        write(self._path(row.treatment, row.seed), row)

    def _path(self, treatment: str | None, seed: int | None) -> Path:
        key = hashlib.sha256((treatment or "unchanged").encode()).hexdigest()[:12]
        return self.folder / f"{key}-{'own' if seed is None else seed}.json"


def open_store(
    script: str, args: Sequence[str], *, module: bool, steps: int | None, folder: Path, threads: int
) -> Store:
    """The store of a script, as it stands now.

    The text of all Python files in the script's folder counts, and of all other files size and time of the
    last change: a script that was edited begins anew.

    Raises:
        UnstuckError: the cache folder cannot be written.
    """
    digest = hashlib.sha256()
    told = (script, tuple(args), module, steps, threads, _version("unstuck"), _version("torch"))
    digest.update(repr(told).encode())
    for file in files(Path(__file__).parents[1]):  # rows of another version of this package are not its own
        digest.update(file.read_bytes() if file.suffix == ".py" else b"")
    places = [folder]
    if not module:
        path = (folder / script).resolve()
        places += [] if path.is_relative_to(folder.resolve()) else [path.parent]
    for place in places:
        for file in files(place):
            try:
                found = file.stat()
                content = (
                    file.read_bytes()
                    if file.suffix == ".py"
                    else repr((found.st_size, found.st_mtime_ns)).encode()
                )
            except OSError:
                continue
            digest.update(repr((str(file.relative_to(place)), len(content))).encode() + content)
    kept = cache_folder() / "prove" / digest.hexdigest()[:24]
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnstuckError(
            f"{kept}: cannot be made ({error.strerror}); set UNSTUCK_CACHE_DIR to another folder"
        ) from None
    return Store(kept)


def cache_folder() -> Path:
    """`UNSTUCK_CACHE_DIR`, or unstuck's part of the user's cache folder."""
    chosen = os.environ.get("UNSTUCK_CACHE_DIR")
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unstuck"
    return Path(chosen).absolute() if chosen else usual


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
