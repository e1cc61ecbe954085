"""`[tool.unstuck]` in `pyproject.toml`: a project's choice of rules, severities and bounds."""

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from unstuck.errors import UnstuckError

FILE = "pyproject.toml"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a project asks for."""

    select: tuple[str, ...] = ()
    """Prefixes of codes: only these rules. Empty: all."""
    ignore: tuple[str, ...] = ()
    severity: dict[str, Literal["error", "warning", "info"]] = msgspec.field(default_factory=dict[str, Any])
    """Code to the severity of its findings, whatever the rule says."""
    bounds: dict[str, dict[str, float]] = msgspec.field(default_factory=dict[str, Any])
    """Section and name of a bound to its value, as in the bounds that ship with the package."""
    origin: str = ""
    """The file, for messages; '' where there is none."""


def load(start: Path | None = None) -> Settings:
    """The settings of the project that a folder belongs to.

    Args:
        start: the folder; its `pyproject.toml` or the next one above it that has a section counts. None: the
            working directory.

    Returns:
        The settings; empty ones where no file has a section.

    Raises:
        UnstuckError: a file that is no TOML, an unknown key, a value of another type: with file and key.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        path = folder / FILE
        section = _section(path) if path.is_file() else None
        if section is not None:
            return _converted(section, path)
    return Settings()


def _section(path: Path) -> Any:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UnstuckError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise UnstuckError(f"{path}: is no TOML ({error})") from None
    tool = tables.get("tool")
    return tool.get("unstuck") if isinstance(tool, dict) else None


def _converted(section: Any, path: Path) -> Settings:
    try:
        found = msgspec.convert(section, Settings)
    except msgspec.ValidationError as error:
        told = (
            str(error).replace("Object contains unknown field", "unknown key").replace("`$", "`tool.unstuck")
        )
        raise UnstuckError(f"{path}: {told if 'tool.unstuck' in told else f'tool.unstuck: {told}'}") from None
    return msgspec.structs.replace(found, origin=str(path))
