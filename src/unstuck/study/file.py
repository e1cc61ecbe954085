"""A study file: what is trained, how often, and which factors are varied. Read, checked, never executed."""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from unstuck.errors import UnstuckError

SECTIONS = ("study", "data", "network", "train", "init")
"""Tables that a factor's path may begin with."""
_AT = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")


class StudySection(msgspec.Struct, forbid_unknown_fields=True):
    """`[study]`: name, members per cell, budget, and what counts as success."""

    name: str
    seeds: int
    epochs: int
    success: dict[str, float] | None = None


class DataSection(msgspec.Struct, forbid_unknown_fields=True):
    """`[data]`: a data set's name, its points, the order of its samples."""

    name: str = "alternating"
    points: list[float] | None = None
    order: Literal["fixed", "shuffled"] = "fixed"


class NetworkSection(msgspec.Struct, forbid_unknown_fields=True):
    """`[network]`: the layers in order, each a table with its type and PyTorch's arguments."""

    layers: list[dict[str, Any]]


class TrainSection(msgspec.Struct, forbid_unknown_fields=True):
    """`[train]`: loss, optimiser and batches."""

    loss: str
    optimizer: dict[str, Any]
    batch_size: int = 32
    loss_scale: float = 1.0
    clip_norm: float | None = None
    clip_value: float | None = None
    frozen: list[str] = []


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """All that determines the trainings of one cell but their seeds."""

    study: StudySection
    data: DataSection
    network: NetworkSection
    train: TrainSection
    init: dict[str, Any] = {}


class StudyFile(msgspec.Struct):
    """A study as it was written.

    Args:
        origin: path of the file, or what else messages are to call it.
        base: the tables of the file without its factors.
        factors: dotted path to the values that it takes.
        folder: where paths of data files begin.
    """

    origin: str
    base: dict[str, Any]
    factors: dict[str, list[Any]]
    folder: str

    @property
    def settings(self) -> Settings:
        """What is the same in every cell, with the values that stand in the file for the factors.

        Raises:
            UnstuckError: an unknown key, a missing one, a wrong type.
        """
        return convert(self.base, self.origin)

    def at(self, values: Sequence[Any]) -> Settings:
        """The settings of one cell.

        Args:
            values: one for each factor, in their order.

        Raises:
            UnstuckError: a path that leads nowhere, or a value that will not do; the message names both.
        """
        tables = cast("dict[str, Any]", msgspec.to_builtins(self.base))
        told = self.origin
        for path, value in zip(self.factors, values, strict=True):
            _put(tables, path, value, self.origin)
            told = f"{told}, {path} = {shown(value)}"
        return convert(tables, told)


def read(source: str | os.PathLike[str] | Mapping[str, Any]) -> StudyFile:
    """Read a study from a TOML file, or from a mapping of the same form.

    Raises:
        UnstuckError: not there, no TOML, an unknown key or factor, a wrong type. One line that names the
            file, the key, what was found and what was expected.

    Example:
        >>> study = read({
        ...     "study": {"name": "xor", "seeds": 10, "epochs": 100},
        ...     "data": {"name": "alternating", "points": [0.0, 1.0]},
        ...     "network": {"layers": [{"type": "Linear", "out": 2}]},
        ...     "train": {"loss": "MSELoss", "optimizer": {"type": "SGD", "lr": 0.5}},
        ...     "factors": {"train.optimizer.lr": [0.1, 0.5]},
        ... })
        >>> study.factors
        {'train.optimizer.lr': [0.1, 0.5]}
    """
    if isinstance(source, Mapping):
        origin, folder = "study", Path.cwd()
        tables = {str(key): value for key, value in source.items()}
    else:
        path = Path(source)
        origin, folder, tables = str(path), path.absolute().parent, _toml(path)
    factors = tables.pop("factors", {})
    if not isinstance(factors, Mapping):
        raise UnstuckError(f"{origin}: factors: found {shown(factors)}, expected a table of paths and values")
    base = cast("dict[str, Any]", msgspec.to_builtins(tables))
    checked = {
        str(path): _values(str(path), values, origin)
        for path, values in cast("Mapping[Any, Any]", factors).items()
    }
    study = StudyFile(origin, base, checked, str(folder))
    settings = study.settings
    _check_study(settings.study, origin)
    for path, values in checked.items():  # where each leads, before all of them are combined
        tables = cast("dict[str, Any]", msgspec.to_builtins(base))
        _put(tables, path, values[0], origin)
    return study


def shown(value: Any) -> str:
    """A value as it stands in TOML, nearly: for messages and names of cells."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def convert(tables: Mapping[str, Any], origin: str) -> Settings:
    """Tables as settings.

    Raises:
        UnstuckError: an unknown key, a missing one, a wrong type.
    """
    try:
        return msgspec.convert(tables, Settings)
    except msgspec.ValidationError as error:
        raise UnstuckError(f"{origin}: {_plain(str(error))}") from None


def _plain(message: str) -> str:
    """A message of the decoder with the key first."""
    found = _AT.search(message)
    place, said = (found.group(1), message[: found.start()]) if found else ("", message)
    if (unknown := _UNKNOWN.search(said)) is not None:
        return f"{'.'.join(filter(None, (place, unknown.group(1))))}: unknown key{_expected(place)}"
    if (missing := _MISSING.search(said)) is not None:
        return f"{'.'.join(filter(None, (place, missing.group(1))))}: missing"
    return f"{place}: {said[:1].lower()}{said[1:]}".replace("`", "")


def _expected(place: str) -> str:
    kinds: dict[str, type[msgspec.Struct]] = {
        "": Settings,
        "study": StudySection,
        "data": DataSection,
        "network": NetworkSection,
        "train": TrainSection,
    }
    if place not in kinds:
        return ""
    more = ["factors"] if not place else []
    names = [field.name for field in msgspec.structs.fields(kinds[place])] + more
    return f", expected some of {', '.join(names)}"


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnstuckError(f"{path}: no such file") from None
    except tomllib.TOMLDecodeError as error:
        raise UnstuckError(f"{path}: no TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UnstuckError(f"{path}: cannot be read: {error}") from None


def _values(path: str, values: Any, origin: str) -> list[Any]:
    where = f"{origin}: factors: {path}"
    if not isinstance(values, list):
        raise UnstuckError(f"{where}: found {shown(values)}, expected a list of values")
    found = cast("list[Any]", msgspec.to_builtins(values))
    if not found:
        raise UnstuckError(f"{where}: found an empty list, expected at least one value")
    seen = list[Any]()
    for value in found:
        if any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in seen):
            raise UnstuckError(f"{where}: found {shown(value)} twice, expected different values")
        seen.append(value)
    return found


def _put(tables: dict[str, Any], path: str, value: Any, origin: str) -> None:
    """Set what a path leads to. Tables that only have defaults need not stand in the file."""
    where = f"{origin}: factors: {path}"
    parts = path.split(".")
    if parts[0] not in SECTIONS or len(parts) < 2:
        raise UnstuckError(
            f"{where}: leads nowhere, expected a path that begins with {' or '.join(SECTIONS)}"
        )
    if path in {"study.name", "study.seeds"}:
        raise UnstuckError(f"{where}: cannot be varied: every cell has the same name and seeds")
    here: Any = tables.setdefault(parts[0], {})
    for number, part in enumerate(parts[1:], start=2):
        last = number == len(parts)
        if isinstance(here, list):
            here = cast("list[Any]", here)
            if not part.isdecimal() or int(part) >= len(here):
                raise UnstuckError(
                    f"{where}: {'.'.join(parts[: number - 1])} has no {part}, expected 0 to {len(here) - 1}"
                )
            if last:
                here[int(part)] = value
            else:
                here = here[int(part)]
        elif isinstance(here, dict):
            here = cast("dict[str, Any]", here)
            if last:
                here[part] = value
            elif parts[0] == "init" and isinstance(here.get(part), str):  # a scheme by its name alone
                here = here[part] = {"scheme": here[part]}
            else:
                here = here.setdefault(part, {})
        else:
            raise UnstuckError(f"{where}: {'.'.join(parts[: number - 1])} is {shown(here)}, no table")


def _check_study(section: StudySection, origin: str) -> None:
    if not re.fullmatch(r"[\w.-]+", section.name) or section.name.startswith("."):
        raise UnstuckError(
            f"{origin}: study.name: found {section.name!r}, expected letters, digits, '-', '_' and '.': it "
            "names the folder of the results"
        )
    for key in ("seeds", "epochs"):
        if getattr(section, key) < 1:
            raise UnstuckError(f"{origin}: study.{key}: found {getattr(section, key)}, expected at least 1")
