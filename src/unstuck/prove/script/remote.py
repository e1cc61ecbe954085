"""Runs of a script on a Dask cluster: each worker starts the process, and sends back what the run left."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from unstuck.errors import UnstuckError
from unstuck.prove.script.launch import Launcher
from unstuck.prove.script.row import Row, Task
from unstuck.study.executors import MOST_DEATHS, Cluster

REST = 60.0
"""Seconds after its last run for which a worker keeps a process that has the script's imports ready."""


@dataclass
class RemoteLauncher(Launcher):
    """Starts runs on a cluster whose workers see the same files.

    The watched run and what is kept stay on this machine, so that the same command goes on after Ctrl-C as
    it does without a cluster.

    Args:
        cluster: that runs already.
    """

    cluster: Cluster | None = field(default=None, kw_only=True)

    def run(self, task: Task) -> Row:
        """Run one task on a worker; one that dies is replaced by another, a few times.

        Raises:
            UnstuckError: the worker does not see the script's folder, or workers die again and again.
        """
        if self.cluster is None or task.recording is not None or task.witness is not None:
            return super().run(task)  # what leaves more than a row is run here
        for _ in range(MOST_DEATHS):
            if self.stopped:
                break
            future = self.cluster.call(
                run_there, str(self.folder), self.threads, self.limit, self.preload, task
            )
            try:
                return future.result()
            except UnstuckError:
                raise
            except Exception as error:
                if not self.cluster.died(error):
                    raise UnstuckError(
                        f"--dask: a worker could not begin a run ({type(error).__name__}: {error}); expected "
                        "the same unstuck installed there as here"
                    ) from error
        raise UnstuckError(f"{task.name}: workers of the cluster died {MOST_DEATHS} times over one run")

    def stop(self) -> None:
        """Call back what was not begun, and end what runs here."""
        super().stop()
        if self.cluster is not None:
            self.cluster.stop()

    def close(self) -> None:
        """Leave the cluster as it is."""
        super().close()
        if self.cluster is not None and not self.stopped:
            self.cluster.close()


def run_there(folder: str, threads: int, limit: float, preload: tuple[str, ...], task: Task) -> Row:
    """On a worker: one run, in a process of its own.

    Args:
        folder: where the user started.
        threads: for the arithmetic of the process.
        limit: seconds that it may take.
        preload: modules that the script imports.
        task: what to run.

    Raises:
        UnstuckError: the folder cannot be seen from here.
    """
    if not Path(folder).is_dir():
        raise UnstuckError(f"{folder}: a worker of the cluster does not see it; expected a shared folder")
    return _READY.run((folder, threads, limit, preload), task)


_Kind = tuple[str, int, float, tuple[str, ...]]


class _Ready:
    """The launchers of a worker's process: kept from run to run, so that imports are made once."""

    def __init__(self) -> None:
        self._launchers: dict[_Kind, Launcher] = {}
        self._busy = 0
        self._lock = threading.Lock()
        self._rest: threading.Timer | None = None

    def run(self, kind: _Kind, task: Task) -> Row:
        folder, threads, limit, preload = kind
        with self._lock:
            self._busy += 1
            new = Launcher(Path(folder), threads=threads, limit=limit, preload=preload)
            launcher = self._launchers.setdefault(kind, new)
        try:
            return launcher.run(task)
        finally:
            with self._lock:
                self._busy -= 1
                if self._rest is not None:
                    self._rest.cancel()
                self._rest = threading.Timer(REST, self.close)
                self._rest.daemon = True
                self._rest.start()

    def close(self) -> None:
        """End the processes that wait, unless a run has begun meanwhile."""
        with self._lock:
            if self._busy:
                return
            launchers, self._launchers = list(self._launchers.values()), {}
        for launcher in launchers:
            launcher.close()


_READY = _Ready()
