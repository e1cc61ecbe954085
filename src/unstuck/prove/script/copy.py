"""A working copy of a folder for one run: what the run writes there, no other run sees."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unstuck.errors import UnstuckError

LEFT_OUT = frozenset({".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
LINKED = frozenset({".venv", "venv", "node_modules", "site-packages"})
LARGE = 4 << 20
"""Bytes above which a file is linked instead of copied: it is read, and writing to it is refused."""
MOST = 20_000
"""So many files are copied at most."""


@dataclass(frozen=True)
class WorkingCopy:
    """Where one run works."""

    root: Path
    """Everything of the run: may be written to."""
    folder: Path
    """The copy of the working folder."""
    script: str
    """The script as seen from there."""

    @property
    def temporary(self) -> Path:
        """Its own place for temporary files."""
        return self.root / "tmp"

    def remove(self) -> None:
        """Remove it with all that the run has left."""
        shutil.rmtree(self.root, ignore_errors=True)


def working_copy(root: Path, script: str, *, module: bool, folder: Path) -> WorkingCopy:
    """Copy what a run may read and change.

    Small files are copied, large ones and environments linked. A script that lies outside the working folder
    is run from a copy of its own folder.

    Args:
        root: an empty folder for the run.
        script: as the user wrote it.
        module: whether it is a module's name.
        folder: the working folder.

    Raises:
        UnstuckError: the folder holds too many files to copy them for every run.
    """
    copy = root / "work"
    _copied(folder, copy)
    (root / "tmp").mkdir(parents=True)
    if module:
        return WorkingCopy(root, copy, script)
    path = (folder / script).resolve()
    if path.is_relative_to(folder.resolve()):
        inside = path.relative_to(folder.resolve())
        return WorkingCopy(root, copy, str(copy / inside if Path(script).is_absolute() else inside))
    _copied(path.parent, root / "script")
    return WorkingCopy(root, copy, str(root / "script" / path.name))


def files(folder: Path) -> Iterator[Path]:
    """All files of a folder that a working copy holds, linked environments left out."""
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT | LINKED)
        yield from (Path(base) / name for name in sorted(names))


def _copied(source: Path, target: Path) -> None:
    count = 0
    for base, folders, names in os.walk(source):
        here = target / Path(base).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in [*folders]:
            if name in LINKED:
                (here / name).symlink_to(Path(base, name).resolve())
            if name in LEFT_OUT | LINKED:
                folders.remove(name)
            elif Path(base, name).is_symlink():
                (here / name).symlink_to(Path(base, name).resolve())
        for name in names:
            count += 1
            if count > MOST:
                raise UnstuckError(
                    f"{source}: found more than {MOST} files, and every run of a trial copies them; expected "
                    "to be started in the script's own folder"
                )
            _copy_file(Path(base, name), here / name)


def _copy_file(source: Path, target: Path) -> None:
    try:
        if not source.is_file():
            return
        if source.stat().st_size > LARGE:
            target.symlink_to(source.resolve())
        else:
            shutil.copy2(source, target)
    except PermissionError:
        return  # a file that the script cannot read either
