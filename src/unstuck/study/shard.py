"""Training a shard, and its rows as a Parquet file."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.study.cell import training
from unstuck.study.design import Shard, stored
from unstuck.trace.storage import connect

OUTCOMES = ("success", "stuck", "diverged", "dead")


@dataclass(frozen=True)
class Job:
    """What another process or machine needs to know to train a shard."""

    settings: bytes
    folder: str
    origin: str
    first: int
    last: int
    vector: int
    """Bytes of the vectors that its rows depend on."""

    @classmethod
    def of(cls, shard: Shard) -> "Job":
        """That of a shard."""
        from unstuck.nn.kernels.vectors import BYTES

        cell = shard.cell
        settings = msgspec.json.encode(cell.settings)
        return cls(settings, cell.folder, cell.origin, shard.first, shard.last, BYTES)


@dataclass(frozen=True)
class Ends:
    """What became of a shard's members, in the order of their seeds."""

    outcome: NDArray[np.int64]
    """Place in `OUTCOMES`."""
    epochs: NDArray[np.int64]
    loss: NDArray[np.float64]
    """Not finite where it diverged."""
    accuracy: NDArray[np.float64]
    """NaN where the targets are no classes."""

    @property
    def successes(self) -> int:
        """Members that succeeded."""
        return int((self.outcome == 0).sum())


class Cancelled(Exception):  # noqa: N818  (no error: somebody asked for it)
    """The study is being ended."""


def train(job: Job, stopped: Callable[[], bool] | None = None, threads: int = 1) -> Ends:
    """Train a shard's members.

    Args:
        job: which.
        stopped: asked several times a second; the training ends soon after it says yes.
        threads: never changes a result.

    Raises:
        Cancelled: it was stopped.
        UnstuckError: the data are not there (on another machine), or its vectors have another width.
    """
    from unstuck.nn.kernels.vectors import BYTES

    if job.vector != BYTES:
        raise UnstuckError(
            f"{job.origin}: a worker has vectors of {BYTES} bytes, where the study was started they have "
            f"{job.vector}: their rows would differ in last bits. Set UNSTUCK_VECTOR_BYTES to the smallest "
            "of all machines, on all of them"
        )

    def tell(_share: float) -> None:
        if stopped is not None and stopped():
            raise Cancelled

    made = training(job.settings, job.folder, job.origin)
    result: Any = made.run(seeds=range(job.first, job.last), threads=threads, progress=tell)
    return Ends(
        outcome=np.array([OUTCOMES.index(str(word)) for word in result.outcome]),
        epochs=result.epochs,
        loss=result.final_loss,
        accuracy=result.accuracy,
    )


def write(path: Path, shard: Shard, types: dict[str, str], ends: Ends) -> None:
    """Write a shard's rows to a file, whole when this returns.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _copy(temporary, shard, types, ends)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(path: Path, shard: Shard, types: dict[str, str], ends: Ends) -> None:
    import duckdb

    rows = {  # found by its name in the statement below; to the reader of arrays NaN is null
        "seed": np.arange(shard.first, shard.last),
        "code": ends.outcome + 1,
        "epochs": ends.epochs,
        "loss": np.where(np.isfinite(ends.loss), ends.loss, np.nan),
        "accuracy": np.where(np.isfinite(ends.accuracy), ends.accuracy, np.nan),
    }
    factors = "".join(
        f"$factor{i}::{kind} AS {_quoted(name)}, " for i, (name, kind) in enumerate(types.items())
    )
    values = {
        f"factor{i}": stored(shard.cell.factors[name], kind) for i, (name, kind) in enumerate(types.items())
    }
    target = str(path).replace("'", "''")
    try:
        with _database(os.getpid()).cursor() as connection:
            connection.register("rows", rows)
            connection.execute(
                f"""COPY (SELECT {factors}seed::BIGINT AS seed, code = 1 AS success,
                ($outcomes::VARCHAR[])[code] AS outcome, epochs::BIGINT AS epochs, loss, accuracy FROM rows)
                TO '{target}' (FORMAT parquet, COMPRESSION zstd)""",  # noqa: S608  (quoted; COPY takes no parameter)
                {**values, "outcomes": list(OUTCOMES)},
            )
    except duckdb.IOException as error:
        raise OSError(str(error)) from None


@lru_cache(maxsize=1)
def _database(process: int) -> Any:
    """One for all shards that a process writes: opening one takes longer than writing many a shard."""
    del process  # a forked process may not use its parent's
    return connect()


def count_rows(paths: Sequence[Path]) -> int:
    """Rows of some shards' files.

    Raises:
        OSError: one of them is damaged.
    """
    import duckdb

    try:
        with connect() as connection:
            found = connection.execute(
                "SELECT count(*), count(success), count(seed) FROM read_parquet(?)", [[str(p) for p in paths]]
            ).fetchone()
    except duckdb.Error as error:
        raise OSError(str(error)) from None
    return int(found[0]) if found is not None else 0


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
