"""A script as the subject of a trial: every run is a process, and finished runs are kept."""

import math
import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import msgspec
import numpy as np

from unstuck.diagnose.remedies import parse
from unstuck.errors import UnstuckError
from unstuck.prove.carry.seen import Facts, Seen
from unstuck.prove.script.launch import Launcher
from unstuck.prove.script.row import Row, Task
from unstuck.prove.script.store import Store
from unstuck.prove.subject import Progress, Runs, Sham
from unstuck.prove.success import Success
from unstuck.prove.torch.catalogue import parts, refusal
from unstuck.prove.torch.seeds import mixed

SHAM = "order=reshuffled"
AGAIN = "again"
"""Called a treatment here: the unchanged program with the same seed once more."""


@dataclass
class ScriptSubject:
    """A script that takes treatments while it runs.

    Args:
        task: the script, its arguments, and how far it runs.
        launcher: starts its processes.
        store: keeps finished runs.
        success: the criterion; fixed before the first run of a trial.
        workers: so many processes run at a time.
    """

    task: Task
    launcher: Launcher
    store: Store
    success: Success = field(default_factory=lambda: Success((), falls=True))
    workers: int = max(os.cpu_count() or 1, 1)
    _rows: dict[tuple[str | None, int], Row] = field(default_factory=dict[tuple[str | None, int], Row])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """The script."""
        return self.task.name or self.task.script

    @property
    def criterion(self) -> str:
        """When a run succeeds, in words."""
        short = f", shown on {self.task.steps} steps, not on your full run" if self.task.steps else ""
        return f"{self.success}{short}"

    @property
    def sham(self) -> Sham:
        """The unchanged program from other random numbers."""
        return Sham(SHAM, "the unchanged program with another stream of random numbers for each seed")

    def refuses(self, treatment: str) -> str | None:
        """Why this script cannot take a treatment, or None; what the text cannot tell, its first run does.

        Raises:
            UnstuckError: an id that cannot be read.
        """
        reason = refusal(treatment)
        if reason:
            return reason
        treated = [row for (name, _), row in self._rows.items() if name == _key(treatment)]
        for row in treated:
            if row.refusal:
                return row.refusal
            before = self._rows.get((None, row.seed or 0))
            if before is not None and before.fingerprint and before.fingerprint == row.fingerprint:
                return "it changes nothing here: the losses with and without it are the same, bit for bit"
        return None

    def run(self, treatment: str | None, seeds: Sequence[int], progress: Progress | None = None) -> Runs:
        """One run a seed; those that are kept are not made again."""
        self.prefetch([(treatment, seed) for seed in seeds], progress)
        rows = [self._rows[_key(treatment), seed] for seed in seeds]
        success = [self.success.met(row) for row in rows]
        return Runs(
            success=np.array(success, dtype=np.bool_),
            loss=np.array([math.nan if row.loss is None else row.loss for row in rows]),
            outcome=tuple(_outcome(row, good) for row, good in zip(rows, success, strict=True)),
            seconds=np.array([row.seconds for row in rows]),
        )

    def rows(self, treatment: str | None = None) -> list[Row]:
        """All runs of one arm that were made."""
        return [row for (name, _), row in self._rows.items() if name == _key(treatment)]

    def finished(self, treatment: str | None, seeds: Sequence[int]) -> int:
        """For how many of the first seeds an arm is made already, without a gap."""
        made = (((_key(treatment), seed) in self._rows) for seed in seeds)
        return sum(takewhile(bool, made))

    def prefetch(self, pairs: Sequence[tuple[str | None, int]], progress: Progress | None = None) -> None:
        """Make runs, several at a time; Ctrl-C ends all processes, and what is finished is kept."""
        wanted = list(dict.fromkeys((_key(name), seed) for name, seed in pairs if _possible(name)))
        for key in wanted:
            kept = self.store.get(*key) if key not in self._rows else None
            if kept is not None:
                self._rows[key] = kept
        missing = [key for key in wanted if key not in self._rows]
        done = len(wanted) - len(missing)
        if progress is not None:
            progress(done, len(wanted))
        if not missing:
            return
        with ThreadPoolExecutor(self.workers) as pool:
            futures: set[Future[Row]] = {pool.submit(self._one, *key) for key in missing}
            try:
                while futures:
                    finished, futures = wait(futures, return_when=FIRST_COMPLETED)
                    for future in finished:
                        row = future.result()
                        self._rows[row.treatment, row.seed or 0] = row
                        done += 1
                        if progress is not None:
                            progress(done, len(wanted))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.launcher.stop()
                raise

    def _one(self, treatment: str | None, seed: int) -> Row:
        sham = treatment == SHAM
        task = msgspec.structs.replace(
            self.task,
            treatment=None if treatment in {SHAM, AGAIN} else treatment,
            seed=mixed("sham", seed) if sham else seed,
            recording=None,
            probe=False,
        )
        row = msgspec.structs.replace(self.launcher.run(task), treatment=treatment, seed=seed)
        if row.wrote:
            raise UnstuckError(
                f"{self.name}: it writes to {row.wrote}, a fixed place that all runs of a trial would share; "
                "expected files in its own folder (a relative path): give it another place by its arguments"
            )
        if not self.launcher.stopped:
            self.store.put(row)
        return row

    def capture(self, treatment: str | None, seed: int, steps: int | None) -> Seen:
        """One run, seen as the engine would need to repeat it, see `carry.Carry`."""
        with tempfile.TemporaryDirectory(prefix="unstuck-seen-") as folder:
            task = msgspec.structs.replace(
                self.task,
                treatment=treatment,
                seed=seed,
                steps=steps or self.task.steps,
                alone=False,
                recording=None,
                probe=False,
                witness=folder,
            )
            row = self.launcher.run(task)
            if row.crashed:
                return Seen(Facts(why_not=f"a run failed ({row.error or row.ending})"), {}, (), ())
            return Seen.load(Path(folder))


def _key(treatment: str | None) -> str | None:
    """A treatment's id in its normal form."""
    if treatment in {None, SHAM, AGAIN}:
        return treatment
    return "+".join(map(str, parts(treatment or "")))


def _possible(treatment: str | None) -> bool:
    return treatment in {None, SHAM, AGAIN} or not refusal(treatment or "")


def _outcome(row: Row, success: bool) -> str:
    if success:
        return "success"
    return "diverged" if row.loss is None and row.steps > 0 else "stuck"


def check(treatment: str) -> str:
    """A treatment's id in its normal form.

    Raises:
        UnstuckError: it cannot be read.
    """
    return "+".join(str(parse(part)) for part in treatment.split("+"))
