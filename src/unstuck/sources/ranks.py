"""Data-parallel training: each process records into a folder of its own, rank 0 puts them together."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from unstuck.errors import RecordingError, UnstuckError
from unstuck.sources.differences import differences, sentences
from unstuck.sources.merge import merge
from unstuck.trace.recording import Recording

PATIENCE = 60.0
"""Seconds that rank 0 waits for the others after it has ended itself."""


TOLD = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
"""Where torchrun (and what builds on it) and the two families of MPI tell a process which one it is."""


def rank_and_size(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which process this is and of how many, as their launcher tells them; (0, 1) alone.

    Raises:
        UnstuckError: for values that are no numbers.

    Example:
        >>> rank_and_size({"RANK": "1", "WORLD_SIZE": "4"})
        (1, 4)
    """
    for names in TOLD:
        if not all(name in environment for name in names):
            continue
        try:
            rank, size = (int(environment[name]) for name in names)
        except ValueError:
            told = ", ".join(f"{name}={environment[name]!r}" for name in names)
            raise UnstuckError(f"{told}: expected two whole numbers") from None
        return (rank, size) if size > 1 else (0, 1)
    return 0, 1


def of_group() -> tuple[int, int]:
    """Which process this is and of how many in PyTorch's process group; without one, as `rank_and_size`."""
    distributed: Any = getattr(sys.modules.get("torch"), "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return rank_and_size()


def rank_folder(folder: str | os.PathLike[str], rank: int) -> Path:
    """Where a rank records."""
    return Path(folder) / f"rank-{rank}"


class RankRecorder:
    """A recorder in each process; in rank 0, what it shows after the end is of all of them.

    Nothing is sent between processes: they meet in the folder, which must be the same for all. A rank
    that has not ended in time, or was killed, is left out and named in `warnings`.
    """

    def __init__(
        self,
        recorder: Any,
        folder: str | os.PathLike[str],
        *,
        patience: float = PATIENCE,
        place: tuple[int, int] | None = None,
    ) -> None:
        """Wrap a recorder.

        Args:
            recorder: what `unstuck.record` gave, in this process.
            folder: of the whole recording; ranks get folders in it.
            patience: seconds to wait for the others.
            place: which process this is and of how many; None: as the launcher has told it.
        """
        self._recorder = recorder
        self._folder = Path(folder)
        self._patience = patience
        self._rank, self._size = place or rank_and_size()
        self._merged: Recording | None = None
        self._extra: list[str] = []

    def __enter__(self) -> Self:
        _forget(rank_folder(self._folder, self._rank))
        self._recorder.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching and store; rank 0 waits for the others and stores them together."""
        if self._merged is not None:
            return
        self._recorder.close()
        own = self._recorder.recording
        self._merged = own
        if self._size == 1:
            own.save(self._folder)
            return
        own.save(rank_folder(self._folder, self._rank))
        if self._rank == 0:
            self._gather(own)

    @property
    def recording(self) -> Recording:
        """Of this process; in rank 0, after the end, of all."""
        return self._recorder.recording if self._merged is None else self._merged

    @property
    def warnings(self) -> list[str]:
        """What was not measured, and ranks that are missing or differ."""
        return [*self._recorder.warnings, *self._extra]

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong: a `Diagnosis`."""
        return self.recording.diagnose(**options)

    def _gather(self, own: Recording) -> None:
        found, missing = wait_for_ranks(self._folder, self._size, patience=self._patience, own=own)
        ranks = [rank for rank in range(self._size) if rank not in missing]
        self._extra += [
            f"rank {rank} left no finished recording within {self._patience:g} s" for rank in missing
        ]
        self._extra += sentences(differences(found), ranks)
        try:
            self._merged = merge(found)
        except UnstuckError as error:
            self._extra.append(f"the ranks were not put together: {error}")
            return
        self._merged.save(self._folder)


def wait_for_ranks(
    folder: str | os.PathLike[str], size: int, *, patience: float = PATIENCE, own: Recording | None = None
) -> tuple[list[Recording], list[int]]:
    """The finished recordings of all ranks.

    Args:
        folder: of the whole recording.
        size: number of ranks.
        patience: seconds to wait for those that have not finished.
        own: that of rank 0, if it is at hand.

    Returns:
        Recordings in the order of the ranks, and the ranks that have not finished.
    """
    found: dict[int, Recording] = {} if own is None else {0: own}
    end = time.monotonic() + patience
    while len(found) < size:
        for rank in range(size):
            recording = None if rank in found else _finished(rank_folder(folder, rank))
            if recording is not None:
                found[rank] = recording
        if len(found) == size or time.monotonic() >= end:
            break
        time.sleep(0.05)
    return [found[rank] for rank in sorted(found)], [rank for rank in range(size) if rank not in found]


def _finished(folder: Path) -> Recording | None:
    if not (folder / "meta.json").exists():
        return None
    try:
        recording = Recording.load(folder)
    except RecordingError:
        return None  # it is being written
    return recording if recording.meta.complete else None


def _forget(folder: Path) -> None:
    """A recording of an earlier run must not be taken for one of this run."""
    (folder / "meta.json").unlink(missing_ok=True)
