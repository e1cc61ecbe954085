"""Running a study: what is missing is trained, what is finished is kept, whatever happens in between."""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstuck.errors import UnstuckError
from unstuck.study.claims import Claims
from unstuck.study.design import SHARD_WORK, Design, Shard, work_of_a_member
from unstuck.study.executors import MOST_DEATHS, Executor, check, executor, first_done
from unstuck.study.file import read
from unstuck.study.result import StudyResult
from unstuck.study.shard import Ends, Job
from unstuck.study.store import Store

if TYPE_CHECKING:
    from concurrent.futures import Future

PATIENCE = 0.5
"""Seconds between two looks at what another process does."""


@dataclass
class Status:
    """How far a study is; told while it runs."""

    design: Design
    skipped: int = 0
    """Shards that were finished before."""
    finished: int = 0
    """Shards that this process finished."""
    elsewhere: int = 0
    """Shards that another process finished meanwhile."""
    members: int = 0
    """Members that this process trained."""
    counts: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    """By the number of a cell: successes and members that are known so far."""
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list[str])

    @property
    def done(self) -> int:
        """Shards that are finished, by whomever."""
        return self.skipped + self.finished + self.elsewhere

    @property
    def rate(self) -> float:
        """Members a second."""
        return self.members / max(time.monotonic() - self.began, 1e-9)

    def add(self, shard: Shard, ends: Ends) -> None:
        """Count a finished shard."""
        before = self.counts.get(shard.cell.number, (0, 0))
        self.counts[shard.cell.number] = (before[0] + ends.successes, before[1] + shard.members)
        self.finished += 1
        self.members += shard.members


Tell = Callable[[Status], None]


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C; what is finished is kept, and the next start goes on from there.

    Args:
        result: what is known so far.
    """

    def __init__(self, result: StudyResult) -> None:
        super().__init__("interrupted")
        self.result = result


def run_study(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    out: str | os.PathLike[str] = "results",
    workers: int | None = None,
    dask: str | None = None,
    tell: Tell | None = None,
) -> StudyResult:
    """Run or resume a study.

    Args:
        source: a study file (TOML), or a mapping of the same form.
        out: folder in which the results get a folder with the study's name.
        workers: processes; 1: none but this one; None: threads for a small study, else one for each
            processor. Never changes a result.
        dask: address of a Dask scheduler whose workers are to train instead.
        tell: called whenever something is finished, and once a second.

    Returns:
        The result: `.cells`, `.relation()` (DuckDB), `.arrow()`, `.df()`.

    Raises:
        UnstuckError: a study that cannot be run, results of another one, a full disk.
        StudyInterrupted: Ctrl-C.
    """
    check(workers, dask)
    design = Design.of(read(source))
    store = Store(Path(out) / design.study.settings.study.name, design)
    claims = store.open()
    try:
        store.sweep(claims)
        there = store.finished(design.shards)
        status = Status(design, skipped=len(there), notes=store.notes)
        missing = deque(shard for shard in design.shards if shard.name not in there)
        if tell is not None:
            tell(status)
        if missing:
            status.counts |= StudyResult(design, store).counts()
            _Run(store, claims, status, tell).all(missing, workers, dask)
    finally:
        claims.close()
    return StudyResult(design, store, tuple(status.notes))


class _Run:
    """One process's part of a study."""

    def __init__(self, store: Store, claims: Claims, status: Status, tell: Tell | None) -> None:
        self.store, self.claims, self.status = store, claims, status
        self._tell = tell
        self.running: dict[Future[Ends], Shard] = {}
        self.deaths: dict[str, int] = {}

    def all(self, missing: deque[Shard], workers: int | None, dask: str | None) -> None:
        """Train what is missing, or wait until others have."""
        crew = executor(workers, dask, small=_work(missing) < SHARD_WORK)
        try:
            while missing or self.running:
                waits = self._fill(missing, crew)
                self._collect(missing, crew, PATIENCE if waits else 1.0)
                self.tell()
        except KeyboardInterrupt:
            crew.stop()
            raise StudyInterrupted(
                StudyResult(self.status.design, self.store, tuple(self.status.notes))
            ) from None
        except BaseException:
            crew.stop()
            raise
        crew.close()

    def _fill(self, missing: deque[Shard], crew: Executor) -> bool:
        """Begin what there is room for; whether all that is left is another process's."""
        for _ in range(len(missing)):
            if len(self.running) >= crew.room:
                return False
            shard = missing.popleft()
            if not self.claims.take(shard.name):
                self._note("another process works in this folder: what it has begun is left to it")
                missing.append(shard)
            elif self.store.finished([shard]):
                self.claims.give_back(shard.name)
                self.status.elsewhere += 1
            else:
                self.running[crew.submit(Job.of(shard))] = shard
        return bool(missing) and not self.running

    def _collect(self, missing: deque[Shard], crew: Executor, patience: float) -> None:
        """Keep what is finished."""
        if not self.running:
            time.sleep(patience)
            return
        for future in first_done(set(self.running), patience):
            shard = self.running.pop(future)
            error = future.exception()
            if error is None:
                ends = future.result()
                self.store.put(shard, ends)
                self.claims.give_back(shard.name)
                self.status.add(shard, ends)
            elif crew.died(error) and self.deaths.get(shard.name, 0) < MOST_DEATHS:
                self.deaths[shard.name] = self.deaths.get(shard.name, 0) + 1
                self._note("a worker died: the shards it had are trained again")
                self.claims.give_back(shard.name)
                missing.append(shard)
            elif isinstance(error, UnstuckError):
                raise error
            else:
                raise UnstuckError(f"{shard.cell.origin}: a worker failed: {error!r}") from error

    def tell(self) -> None:
        """Tell whoever wants to know how far it is."""
        if self._tell is not None:
            self._tell(self.status)

    def _note(self, sentence: str) -> None:
        if sentence not in self.status.notes:
            self.status.notes.append(sentence)


def _work(shards: deque[Shard]) -> float:
    return sum(work_of_a_member(shard.cell) * shard.members for shard in shards)
