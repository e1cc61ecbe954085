"""The folder of a study's results: what it is of, and a file for each finished shard."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from unstuck.errors import UnstuckError
from unstuck.study.claims import Claims
from unstuck.study.design import Design, Shard
from unstuck.study.file import StudyFile, convert
from unstuck.study.shard import Ends, count_rows, write

FORMAT = 1
STUDY, SHARDS = "study.json", "shards"


class _Version(msgspec.Struct):
    format: int


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    study: dict[str, Any]
    factors: dict[str, list[Any]]
    folder: str


class Store:
    """Finished shards of a study. What is there is whole: files are renamed into their place.

    Args:
        root: the folder, `OUT/NAME`.
        design: of the study.
    """

    def __init__(self, root: Path, design: Design) -> None:
        """Name the folder."""
        self.root, self.design = root, design
        self.notes: list[str] = []
        """What was found to be out of order, in a sentence each."""

    def open(self) -> Claims:
        """Make the folder, or check that it is this study's.

        Raises:
            UnstuckError: it cannot be made, is another study's, or of a newer version.
        """
        try:
            self.shards.mkdir(parents=True, exist_ok=True)
            self._write_study(self._check_study())
            return Claims(self.root)
        except OSError as error:
            raise UnstuckError(f"{self.root}: cannot be written: {error.strerror or error}") from None

    @property
    def shards(self) -> Path:
        """Where the files are."""
        return self.root / SHARDS

    def path(self, shard: Shard) -> Path:
        """Of a shard's file."""
        return self.shards / f"{shard.name}.parquet"

    def finished(self, shards: Iterable[Shard]) -> set[str]:
        """Names of the shards whose files are there and whole; a damaged one is set aside and noted."""
        there = [shard for shard in shards if self.path(shard).is_file()]
        with contextlib.suppress(OSError):  # all together, since one by one takes long
            paths = [self.path(shard) for shard in there]
            if not there or count_rows(paths) == sum(shard.members for shard in there):
                return {shard.name for shard in there}
        return {shard.name for shard in there if self._whole(shard)}

    def _whole(self, shard: Shard) -> bool:
        path = self.path(shard)
        try:
            reason = "" if count_rows([path]) == shard.members else "it has another number of rows"
        except OSError as error:
            reason = str(error).split("\n", 1)[0][:120]
        if not reason:
            return True
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        self.notes.append(f"{path}: damaged ({reason}): set aside as {aside.name} and computed anew")
        return False

    def put(self, shard: Shard, ends: Ends) -> None:
        """Keep a finished shard.

        Raises:
            UnstuckError: it cannot be written, such as when the disk is full.
        """
        try:
            write(self.path(shard), shard, self.design.types, ends)
        except OSError as error:
            raise UnstuckError(f"{self.path(shard)}: cannot be written: {error.strerror or error}") from None

    def sweep(self, claims: Claims) -> None:
        """Remove what killed processes left half written."""
        for path in self.shards.glob(".*.parquet.*"):
            name = path.name[1:].partition(".")[0]
            if claims.take(name):
                with contextlib.suppress(OSError):
                    path.unlink()
                claims.give_back(name)

    def _check_study(self) -> bool:
        """Whether the folder tells already of this very design."""
        kept = _read(self.root / STUDY)
        if kept is None:
            return False
        mine, theirs = _essence(self.design.study), _essence(_study_of(kept, str(self.root)))
        different = [name for name in mine if mine[name] != theirs.get(name)]
        if different:
            raise UnstuckError(
                f"{self.root} holds another study: its {' and '.join(different)} differ from those of "
                f"{self.design.study.origin}. Choose another --out or another study.name"
            )
        return kept.factors == self.design.study.factors and kept.study == self.design.study.base

    def _write_study(self, known: bool) -> None:
        if known:
            return
        study = self.design.study
        path = self.root / STUDY
        temporary = path.with_name(f".{STUDY}.{os.getpid()}")
        try:
            kept = _Kept(FORMAT, study.base, study.factors, study.folder)
            temporary.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def stored_study(root: Path) -> StudyFile:
    """The study that a folder holds results of.

    Raises:
        UnstuckError: no such folder, damaged, or of a newer version.
    """
    kept = _read(root / STUDY)
    if kept is None:
        raise UnstuckError(f"{root}: no results of a study: it has no {STUDY}")
    return _study_of(kept, str(root / STUDY))


def _study_of(kept: _Kept, origin: str) -> StudyFile:
    return StudyFile(origin, kept.study, kept.factors, kept.folder)


def _essence(study: StudyFile) -> dict[str, Any]:
    """What must be the same for results to belong together: all but seeds, and what factors decide."""
    tables = msgspec.to_builtins(convert(study.base, study.origin))
    tables["study"].pop("seeds")
    for path in study.factors:
        here, parts = tables, path.split(".")
        for part in parts[:-1]:
            here = here[int(part)] if isinstance(here, list) else here.get(part, {})
            if not isinstance(here, (dict, list)):
                break
        else:
            if isinstance(here, dict):
                here.pop(parts[-1], None)
            elif parts[-1].isdecimal() and int(parts[-1]) < len(here):
                here[int(parts[-1])] = None
    tables["names of factors"] = list(study.factors)
    return tables


def _read(path: Path) -> _Kept | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        version = msgspec.json.decode(text, type=_Version).format
        if version != FORMAT:
            raise UnstuckError(f"{path}: format {version}, this version of unstuck reads format {FORMAT}")
        return msgspec.json.decode(text, type=_Kept)
    except msgspec.DecodeError as error:
        raise UnstuckError(f"{path}: damaged, or not of a study ({error})") from None
