"""A recording as a folder that any program can write and read.

`trace/part-NNNNN.parquet` holds the rows (step BIGINT, layer VARCHAR, quantity VARCHAR, value DOUBLE; null:
undefined; NaN and Inf: measured so), `structure.json` the operations, `meta.json` the rest. `meta.json` names
the parts and the structure that belong to it. It is written last and replaced in one step, so that a folder
holds the old recording or the new one at every moment, never a mixture. A folder whose `meta.json` names
no parts is read with all that are there.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from unstuck.errors import RecordingError
from unstuck.trace.meta import SCHEMA, Meta
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.structure import Structure
from unstuck.trace.table import Rows, Table

if TYPE_CHECKING:
    import duckdb

META, STRUCTURE, PARTS = "meta.json", "structure.json", "trace"
ROWS_PER_PART = 1_000_000
COLUMNS = {"step": "BIGINT", "layer": "VARCHAR", "quantity": "VARCHAR", "value": "DOUBLE"}

_NUMBER, _NAN, _NULL = range(3)
_T = TypeVar("_T")


class Stored(NamedTuple):
    """All that a folder holds."""

    meta: Meta
    structure: Structure
    table: Table
    steps: int


class _Schema(msgspec.Struct):
    """The one key of `meta.json` that is read first."""

    schema: int


class _StoredMeta(Meta, kw_only=True, forbid_unknown_fields=True):
    """`meta.json`: Meta, and what belongs to it on disk."""

    steps: int | None = None
    rows: int | None = None
    structure: str = STRUCTURE
    parts: tuple[str, ...] | None = None


def write(folder: str | os.PathLike[str], stored: Stored) -> None:
    """Stores a recording; one that is there already is replaced.

    Raises:
        RecordingError: when the folder cannot be written.
    """
    root = Path(folder)
    try:
        (root / PARTS).mkdir(parents=True, exist_ok=True)
        old_parts = list((root / PARTS).glob("part-*.parquet"))
        parts = _write_parts(
            root / PARTS, list(stored.table.rows()), 1 + max(map(_part_number, old_parts), default=-1)
        )
        structure = msgspec.json.format(msgspec.json.encode(stored.structure), indent=1)
        meta = _StoredMeta(
            **msgspec.structs.asdict(stored.meta),
            steps=stored.steps,
            rows=len(stored.table),
            parts=tuple(parts),
        )
        _commit(root, structure, meta)
        for path in (*old_parts, *root.glob("structure-*.json"), *(root / PARTS).glob(".part-*")):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise RecordingError(f"{folder}: cannot be written ({error})") from None


class Appender:
    """Stores a recording that still grows: each call adds a part with what is new since the last one.

    Every state of the folder in between is a whole recording, so that a killed program leaves all but the
    rows since the last call.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Nothing is written yet.

        Args:
            folder: where to; a recording that is there is replaced by the first call.
        """
        self._root = Path(folder)
        self._written: dict[tuple[str, str], int] = {}
        self._parts: list[str] = []

    def append(self, stored: Stored) -> None:
        """Stores the rows that were added since the last call, with structure and meta as they are now.

        Raises:
            RecordingError: when the folder cannot be written.
        """
        root = self._root
        try:
            (root / PARTS).mkdir(parents=True, exist_ok=True)
            old_parts = [
                path for path in (root / PARTS).glob("part-*.parquet") if path.name not in self._parts
            ]
            written = dict(self._written)
            fresh = _rows_since(stored.table, written)
            number = 1 + max(map(_part_number, (root / PARTS).glob("part-*.parquet")), default=-1)
            parts = self._parts + (
                _write_parts(root / PARTS, fresh, number) if fresh or not self._parts else []
            )
            structure = msgspec.json.format(msgspec.json.encode(stored.structure), indent=1)
            meta = _StoredMeta(
                **msgspec.structs.asdict(stored.meta),
                steps=stored.steps,
                rows=len(stored.table),
                parts=tuple(parts),
            )
            _commit(root, structure, meta)
            self._written, self._parts = written, parts
            for path in (*old_parts, *root.glob("structure-*.json"), *(root / PARTS).glob(".part-*")):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise RecordingError(f"{root}: cannot be written ({error})") from None


def _rows_since(table: Table, written: dict[tuple[str, str], int]) -> list[Rows]:
    """Rows that arrived after the counts of `written`, which are brought up to date."""
    fresh: list[Rows] = []
    for quantity, layer, column in table.columns():
        known = written.get((quantity, layer), 0)
        if len(column.steps) > known:
            steps = np.array(column.steps[known:], dtype=np.int64)
            values = np.array(column.values[known:], dtype=np.float64)
            null = np.frombuffer(bytes(column.null[known:]), dtype=np.bool_)
            fresh.append(Rows(quantity, layer, steps, values, null))
            written[quantity, layer] = len(column.steps)
    return fresh


def read(folder: str | os.PathLike[str]) -> Stored:
    """Reads a stored recording.

    Raises:
        RecordingError: when a file is missing, damaged or of another schema, naming the file, what was found
            and what was expected.
    """
    root = Path(folder)
    if not root.is_dir():
        raise RecordingError(
            f"{root}: {'is a file' if root.exists() else 'not found'}, expected a recording's folder"
        )
    meta = _read_meta(root / META)
    structure = _decode(root / meta.structure, Structure)
    table = Table()
    paths = _part_paths(root / PARTS, meta)
    for path in paths:
        _read_part(path, table)
    if meta.rows is not None and len(table) != meta.rows:
        raise RecordingError(f"{root / PARTS}: {len(table)} rows, expected the {meta.rows} of {META}")
    seen = 1 + max((int(rows.steps[-1]) for rows in table.rows() if len(rows.steps)), default=-1)
    names = Meta.__struct_fields__
    plain = Meta(**{name: getattr(meta, name) for name in names})
    return Stored(plain, structure, table, seen if meta.steps is None else meta.steps)


def _commit(root: Path, structure: bytes, meta: _StoredMeta) -> None:
    """Puts structure.json and meta.json in place such that every moment in between is a whole recording."""
    current = root / STRUCTURE
    if not current.exists() or current.read_bytes() == structure or not (root / META).exists():
        _replace(current, structure)
        _replace(root / META, _pretty(meta))
        return
    # another structure is in use: the new one stands beside it until meta.json points to the new parts
    beside = root / f"structure-{secrets.token_hex(4)}.json"
    _replace(beside, structure)
    _replace(root / META, _pretty(msgspec.structs.replace(meta, structure=beside.name)))
    _replace(current, structure)
    _replace(root / META, _pretty(meta))


def _replace(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and puts it in place in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _pretty(meta: _StoredMeta) -> bytes:
    return msgspec.json.format(msgspec.json.encode(meta), indent=1)


def _part_number(path: Path) -> int:
    digits = path.stem.removeprefix("part-")
    return int(digits) if digits.isdecimal() else -1


def _write_parts(folder: Path, columns: list[Rows], number: int) -> list[str]:
    """Writes all rows; returns the names of the parts."""
    names: list[str] = []
    for group in _batches(columns):
        name = f"part-{number + len(names):05d}.parquet"
        temporary = folder / f".{name}.{os.getpid()}"
        with connect() as connection:
            _write_part(connection, temporary, group)
        temporary.replace(folder / name)
        names.append(name)
    return names


def _batches(columns: list[Rows]) -> Iterator[list[Rows]]:
    """Groups of columns with about ROWS_PER_PART rows; an empty table gives one empty group."""
    group: list[Rows] = []
    size = 0
    for rows in columns:
        group.append(rows)
        size += len(rows.steps)
        if size >= ROWS_PER_PART:
            yield group
            group, size = [], 0
    if group or not columns:
        yield group


def _write_part(connection: "duckdb.DuckDBPyConnection", path: Path, group: list[Rows]) -> None:
    """One Parquet file. To DuckDB's reader of arrays NaN is null: a code beside it tells them apart."""
    lengths = [len(rows.steps) for rows in group]
    values = _joined([rows.values for rows in group], np.float64)
    codes = np.where(np.isnan(values), _NAN, _NUMBER)
    codes[_joined([rows.null for rows in group], np.bool_)] = _NULL
    table = {  # found by its name in the statement below
        "step": _joined([rows.steps for rows in group], np.int64),
        "key": np.repeat(np.arange(1, len(group) + 1), lengths),
        "value": np.where(codes == _NUMBER, values, 0.0),
        "code": codes,
    }
    connection.register("rows", table)
    target = str(path).replace("'", "''")
    connection.execute(
        f"""COPY (SELECT step, ($layers::VARCHAR[])[key] AS layer, ($quantities::VARCHAR[])[key] AS quantity,
        CASE code WHEN {_NUMBER} THEN value WHEN {_NAN} THEN 'nan'::DOUBLE END AS value FROM rows)
        TO '{target}' (FORMAT parquet, COMPRESSION zstd)""",  # noqa: S608 - COPY takes no parameter for its target; quoted above
        {"layers": [rows.layer for rows in group], "quantities": [rows.quantity for rows in group]},
    )


def _joined(parts: list[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def connect() -> "duckdb.DuckDBPyConnection":
    """A database in memory, for what Parquet files hold."""
    import duckdb

    return duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False})


def _read_meta(path: Path) -> _StoredMeta:
    found = _decode(path, _Schema)
    if found.schema != SCHEMA:
        raise RecordingError(f"{path}: schema {found.schema}, this version reads schema {SCHEMA}")
    meta = _decode(path, _StoredMeta)
    for name in (meta.structure, *(meta.parts or ())):
        if Path(name).name != name:
            raise RecordingError(f"{path}: names the file {name!r}, expected a name without a folder")
    return meta


def _decode(path: Path, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise RecordingError(f"{path}: not found; expected a recording's folder with {META}") from None
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path}: damaged, or not of a recording ({error})") from None


def _part_paths(folder: Path, meta: _StoredMeta) -> list[Path]:
    """The parts in their order; every one that meta.json names must be there."""
    if meta.parts is None:
        return sorted(folder.glob("part-*.parquet"))
    paths = [folder / name for name in meta.parts]
    for path in paths:
        if not path.is_file():
            raise RecordingError(f"{path}: not found; {META} names {len(paths)} parts")
    return paths


def _read_part(path: Path, table: Table) -> None:
    import duckdb

    # the folder's own name may hold the characters of a file pattern
    pattern = "".join(f"[{c}]" if c in "*?[" else c for c in str(path))
    try:
        with connect() as connection:
            described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [pattern]).fetchall()
            _check_columns(path, {str(row[0]): str(row[1]) for row in described})
            connection.execute(
                """CREATE TABLE part AS SELECT step, layer, quantity, value, file_row_number AS rank
                FROM read_parquet(?, file_row_number = true)""",
                [pattern],
            )
            _read_columns(path, connection, table)
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise RecordingError(f"{path}: damaged, or no Parquet file ({reason})") from None


def _read_columns(path: Path, connection: "duckdb.DuckDBPyConnection", table: Table) -> None:
    """Adds all rows of the table `part`, column by column."""
    bad = connection.execute(
        """SELECT rank FROM part WHERE step IS NULL OR step < 0 OR layer IS NULL OR quantity IS NULL
        ORDER BY rank LIMIT 1"""
    ).fetchone()
    if bad:
        raise RecordingError(
            f"{path}: row {bad[0]} lacks its step, layer or quantity, or its step is negative"
        )
    keys = connection.execute(
        "SELECT quantity, layer, min(rank) AS start FROM part GROUP BY ALL ORDER BY start"
    ).fetchall()
    for quantity, _, rank in keys:
        if quantity not in QUANTITIES:
            raise RecordingError(f"{path}: row {rank} has the unknown quantity {quantity!r}")
    connection.execute(
        "CREATE TABLE key AS SELECT quantity, layer, min(rank) AS start FROM part GROUP BY ALL"
    )
    found = connection.execute(
        """SELECT start, step, value, value IS NULL AS missing FROM part JOIN key USING (quantity, layer)
        ORDER BY start, rank"""
    ).fetchnumpy()
    values = np.ma.filled(found["value"].astype(np.float64), 0.0)
    ends = np.searchsorted(found["start"], [start for _, _, start in keys], side="right")
    begin = 0
    for (quantity, layer, _), end in zip(keys, ends.tolist(), strict=True):
        part = slice(begin, end)
        table.column(quantity, layer).extend(
            np.asarray(found["step"][part]), values[part], np.asarray(found["missing"][part])
        )
        begin = end


def _check_columns(path: Path, found: dict[str, str]) -> None:
    for name, kind in COLUMNS.items():
        if found.get(name) != kind:
            was = f"of type {found[name]}" if name in found else "missing"
            raise RecordingError(f"{path}: column {name!r} is {was}, expected {kind}")
