"""Who trains shards: threads of this process, processes of this machine (loky), or a cluster (Dask).

Each takes jobs one by one, so that what is not begun can still be left to another process, and gives back
what became of them in any order. A worker that dies costs the shards it worked on; they are trained again.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, ThreadPoolExecutor, wait
from typing import Any, Protocol, TypeVar

from unstuck.errors import UnstuckError
from unstuck.study.shard import Ends, Job, train

T = TypeVar("T")
MOST_DEATHS = 3
"""So often a worker may die over the same shard before the study ends with an error."""
LOOK = 1.0
"""Seconds between two looks whether a cluster's scheduler is still there."""


class Executor(Protocol):
    """Trains jobs beside each other."""

    room: int
    """How many jobs it wants to have at a time."""

    def submit(self, job: Job) -> "Future[Ends]":
        """Begin a job."""
        ...

    def died(self, error: BaseException) -> bool:
        """Whether an error of a job means that its worker died, so that it may be tried again."""
        ...

    def stop(self) -> None:
        """End all that runs, soon."""
        ...

    def close(self) -> None:
        """Give back threads or processes."""
        ...


class Threads:
    """Threads of this process: the engine's loops do not hold Python's lock."""

    def __init__(self, count: int) -> None:
        """Prepare that many."""
        self.room = count
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="study")

    def submit(self, job: Job) -> "Future[Ends]":
        """Begin a job."""
        return self._pool.submit(train, job, self._stopped.is_set)

    def died(self, error: BaseException) -> bool:
        """Threads do not die."""
        del error
        return False

    def stop(self) -> None:
        """End all that runs, soon."""
        self._stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Give back the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class Processes:
    """Processes of this machine, by loky: one that is killed is replaced."""

    def __init__(self, count: int) -> None:
        """Prepare that many."""
        self.room = 2 * count
        self._count = count
        self._pool: Any = None

    def submit(self, job: Job) -> "Future[Ends]":
        """Begin a job."""
        from joblib.externals import loky

        if self._pool is None or self._pool._flags.broken is not None:  # noqa: SLF001  (loky offers no other way to ask)
            self._pool = loky.ProcessPoolExecutor(self._count)
        return self._pool.submit(train, job)

    def died(self, error: BaseException) -> bool:
        """Whether a process was killed."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        return isinstance(error, BrokenProcessPool)

    def stop(self) -> None:
        """Kill them."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)

    def close(self) -> None:
        """Give back the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)


class Cluster:
    """A Dask cluster that runs already; it replaces its dead workers itself.

    Args:
        address: of its scheduler, such as tcp://127.0.0.1:8786.

    Raises:
        UnstuckError: Dask is not installed, or no scheduler answers there.
    """

    def __init__(self, address: str) -> None:
        """Connect."""
        try:
            from distributed import Client
        except ImportError:
            raise UnstuckError("--dask: needs Dask: pip install 'unstuck[dask]'") from None
        try:
            self._client: Any = Client(address, timeout=10)
        except (OSError, ValueError, TimeoutError) as error:
            reason = str(error).split("\n", 1)[0]
            raise UnstuckError(f"--dask {address}: no scheduler answers ({reason})") from None
        self.threads = max(1, sum(self._client.nthreads().values()))
        """Of all workers that are there now: so many jobs run at a time."""
        self.room = 2 * self.threads
        self._running: set[Any] = set()
        self._waiting: set[Future[Any]] = set()
        self._left = threading.Event()
        self._address = address
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """When the scheduler is gone for good, Dask leaves its futures as they are: end those that wait."""
        while not self._left.wait(LOOK):
            if self._client.status == "closed":
                self._end_all()

    def _end_all(self) -> None:
        for mine in list(self._waiting):
            with contextlib.suppress(InvalidStateError):
                mine.set_exception(
                    UnstuckError(
                        f"--dask {self._address}: the connection to the scheduler was lost; what is finished "
                        "is kept, and the same command goes on"
                    )
                )

    def submit(self, job: Job) -> "Future[Ends]":
        """Begin a job."""
        return self.call(train, job)

    def call(self, function: Callable[..., T], *args: object) -> "Future[T]":
        """Begin anything else that a worker can be sent."""
        mine: Future[T] = Future()
        self._waiting.add(mine)
        mine.add_done_callback(self._waiting.discard)
        if self._client.status == "closed":
            self._end_all()
            return mine
        theirs = self._client.submit(function, *args, pure=False)
        self._running.add(theirs)

        def done(future: Any) -> None:
            self._running.discard(future)
            error = future.exception() if future.status == "error" else None
            with contextlib.suppress(InvalidStateError):
                if future.status == "finished":
                    mine.set_result(future.result())
                else:
                    mine.set_exception(error or ConnectionError(f"a job was {future.status}"))

        theirs.add_done_callback(done)
        return mine

    def died(self, error: BaseException) -> bool:
        """Whether too many workers died over it, or the connection was lost."""
        return type(error).__name__ == "KilledWorker" or isinstance(error, ConnectionError)

    def stop(self) -> None:
        """Call back what was not begun."""
        if self._client.status != "closed":
            self._client.cancel(list(self._running))
        self.close()

    def close(self) -> None:
        """Leave the cluster as it is."""
        self._left.set()
        self._client.close()
        self._end_all()


def executor(workers: int | None, dask: str | None, small: bool) -> Executor:
    """The executor that was asked for.

    Args:
        workers: processes; 1: none but this one; None: threads where the study is small, else a process for
            each processor.
        dask: address of a scheduler.
        small: whether the study takes less than about a minute.

    Raises:
        UnstuckError: no scheduler answers.
    """
    if dask is not None:
        return Cluster(dask)
    count = workers or processors()
    if count == 1 or (workers is None and small):
        return Threads(count)
    return Processes(count)


def check(workers: int | None, dask: str | None) -> None:
    """Refuse what cannot be had.

    Raises:
        UnstuckError: both, or less than one worker.
    """
    if dask is not None and workers is not None:
        raise UnstuckError("give --workers or --dask, not both")
    if workers is not None and workers < 1:
        raise UnstuckError(f"--workers: found {workers}, expected at least 1")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def first_done(waiting: "set[Future[Ends]]", timeout: float) -> "set[Future[Ends]]":
    """Those that are done, after waiting for one at most so long."""
    return wait(waiting, timeout=timeout, return_when=FIRST_COMPLETED).done
