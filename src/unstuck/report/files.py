"""Writing a report to a file: whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path

from unstuck.errors import UnstuckError


def check_target(option: str, path: Path) -> None:
    """Refuse a file that cannot be written before anything is computed for it.

    Args:
        option: the option that named the file, for the message.
        path: where the report is to go; it may exist and is then replaced.

    Raises:
        UnstuckError: it is a folder, or lies in no folder that can be written to.
    """
    folder = path.parent
    if path.is_dir():
        raise UnstuckError(f"{option}: {path} is a folder, expected the name of a file")
    if not folder.is_dir():
        raise UnstuckError(f"{option}: cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise UnstuckError(f"{option}: cannot write {path}: the folder {folder} is read-only")


def write_atomically(option: str, path: Path, text: str) -> None:
    """Write a text file as UTF-8, under a temporary name until it is whole.

    Raises:
        UnstuckError: it cannot be written.
    """
    check_target(option, path)
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8", errors="replace")  # a device or pipe must not be replaced
        else:
            _replace(path.resolve(), text)  # a link stays a link
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnstuckError(f"{option}: cannot write {path}: {reason}") from None


def _replace(path: Path, text: str) -> None:
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", errors="replace", dir=path.parent, prefix=".unstuck-", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        _give_usual_rights(temporary)
        temporary.replace(path)
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise


def _give_usual_rights(path: Path) -> None:
    """Temporary files are private; a report gets the rights that a new file has."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)
