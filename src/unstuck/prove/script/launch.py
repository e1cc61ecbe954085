"""Starts the process of one run, and ends it when its time is up."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from unstuck.prove.script.copy import working_copy
from unstuck.prove.script.nursery import Nursery, Order, works
from unstuck.prove.script.row import Row, Task, read_row, write

GRACE = 15.0
"""Seconds that a process gets to tell what it has seen, once it was asked to end."""
PACKAGE = Path(__file__).resolve().parents[3]
TAIL = 2000


@dataclass
class Launcher:
    """Runs tasks of one script, each in a process and a working copy of its own."""

    folder: Path
    """The folder that the user started in."""
    threads: int = 1
    """For the arithmetic of each process."""
    limit: float = 300.0
    """Seconds after which a run is ended."""
    preload: tuple[str, ...] = ()
    """Modules; with any, runs are split off from processes that have imported them."""
    _idle: list[Nursery] = field(default_factory=list[Nursery])
    _running: set[int] = field(default_factory=set[int])
    _stopped: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, task: Task) -> Row:
        """Run one task to its end, or to the end of its time.

        Args:
            task: what to run. Script and working folder are replaced by their copies.

        Returns:
            What it left. A process that left nothing is told as killed.
        """
        root = Path(tempfile.mkdtemp(prefix="unstuck-run-"))
        try:
            copy = working_copy(root, task.script, module=task.module, folder=self.folder)
            inside = [str(root), *filter(None, (task.recording, task.witness))]
            own = msgspec.structs.replace(
                task, script=copy.script, inside=tuple(inside), name=task.name or task.script
            )
            order, answer, log = root / "task.json", root / "row.json", root / "log.txt"
            write(order, own)
            began = time.monotonic()
            code = self._process(order, answer, log, cwd=copy.folder, temporary=copy.temporary)
            row = read_row(answer)
            if row is None:
                return Row(
                    treatment=task.treatment,
                    seed=task.seed,
                    ending="killed",
                    error=_last_line(log, code),
                    seconds=time.monotonic() - began,
                )
            return row if not row.error else msgspec.structs.replace(row, error=_plain(row, log))
        finally:
            shutil.rmtree(root, ignore_errors=True)

    @property
    def stopped(self) -> bool:
        """Whether its processes were ended: what they left then is no result."""
        return self._stopped

    def stop(self) -> None:
        """End all processes; none is started any more."""
        with self._lock:
            self._stopped = True
            for group in self._running:
                _signal(group, signal.SIGKILL, together=True)

    def close(self) -> None:
        """End the processes that wait for runs."""
        with self._lock:
            idle, self._idle = self._idle, []
        for nursery in idle:
            nursery.close()

    def _process(self, order: Path, answer: Path, log: Path, *, cwd: Path, temporary: Path) -> int:
        environment = {**self._environment(), "TMPDIR": str(temporary)}
        wanted = Order(str(order), str(answer), str(log), str(cwd), environment)
        if works() and self.preload:
            code = self._split(wanted)
            if code is not None:
                return code
        command = [sys.executable, "-m", "unstuck.prove.script.worker", str(order), str(answer)]
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  (our own module, with the user's script)
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            with self._watched(process.pid):
                return process.wait()

    def _split(self, order: Order) -> int | None:
        """Run in a process split off from one that waits; None when that cannot be."""
        with self._lock:
            nursery = self._idle.pop() if self._idle else None
        nursery = nursery or Nursery.start(self._environment(), self.preload)
        child = nursery.split(order)
        if child is None:
            nursery.close()
            return None
        with self._watched(child):
            code = nursery.wait()
        if code is None:
            nursery.close()
            return None if not self._stopped else -9
        with self._lock:
            self._idle.append(nursery)
        return code

    def _environment(self) -> dict[str, str]:
        threads = str(self.threads)
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH", "")])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MPLBACKEND": "agg",
            "WANDB_MODE": "offline",
        }

    @contextlib.contextmanager
    def _watched(self, group: int) -> Generator[None]:
        """End a process when its time is up: first so that it may tell what it saw, then at once."""
        ask = threading.Timer(self.limit, _signal, (group, signal.SIGTERM, False))
        kill = threading.Timer(self.limit + GRACE, _signal, (group, signal.SIGKILL, True))
        with self._lock:
            self._running.add(group)
            if self._stopped:
                _signal(group, signal.SIGKILL, together=True)
        for timer in (ask, kill):
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            ask.cancel()
            kill.cancel()
            with self._lock:
                self._running.discard(group)


def _signal(process: int, number: int, together: bool) -> None:
    """Send a signal to a process, or to it and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        (os.killpg if together else os.kill)(process, number)


def _plain(row: Row, log: Path) -> str:
    """An error in words where the words are known; of a program that ended itself, its own last words."""
    if row.error.startswith("EOFError"):
        return f"it asks for input, and a run of a trial has none ({row.error})"
    if row.ending == "exited":
        return f"{row.error} ({_last_line(log, 0)})" if log.exists() and log.stat().st_size else row.error
    return row.error


def _last_line(log: Path, code: int) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[-TAIL:].decode("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1][:300]
    return f"its process ended with {code} and left nothing"
