"""A process that has imported what a script will, and splits off one run after another: seconds saved.

`python -m unstuck.prove.script.nursery MODULE ...` reads one order a line from standard input, as JSON,
splits off a process for it, and answers with the process's id, then with its exit code. It computes nothing
itself, so that no thread is lost when it splits. When the process that gave the orders is gone, so is the run
that it wanted.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

NOT_SPLIT = ("tensorflow", "jax", "jaxlib", "grpc", "ray", "dask", "distributed", "cupy")
"""Packages that begin threads when they are imported: they are left to the run itself."""

LOOK = 2.0
"""Seconds between two looks whether the process that gave the orders is still there."""


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run to split off."""

    task: str
    result: str
    log: str
    folder: str
    """In which it works."""
    environment: dict[str, str]


@dataclass
class Nursery:
    """The other end: starts the process, and hands it orders."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, environment: dict[str, str], modules: Sequence[str]) -> "Nursery":
        """Start one.

        Args:
            environment: of the process.
            modules: what it imports.
        """
        usable = [name for name in modules if name.partition(".")[0] not in NOT_SPLIT]
        command = [sys.executable, "-m", "unstuck.prove.script.nursery", *usable]
        return cls(
            subprocess.Popen(  # noqa: S603  (our own module)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        )

    def split(self, order: Order) -> int | None:
        """Split off a run; its process id, or None when the nursery is gone."""
        if self.process.stdin is None:
            return None
        try:
            self.process.stdin.write(msgspec.json.encode(order) + b"\n")
            self.process.stdin.flush()
        except OSError:
            return None
        return self._number()

    def wait(self) -> int | None:
        """The exit code of the run that was split off last."""
        return self._number()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _number(self) -> int | None:
        line = b"" if self.process.stdout is None else self.process.stdout.readline()
        return int(line) if line.strip() else None


def serve(modules: Sequence[str]) -> None:
    """Import modules, then answer orders until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    importlib.import_module("unstuck.prove.script.worker")
    for name in modules:
        with contextlib.suppress(Exception):  # what cannot be imported alone, the run imports itself
            importlib.import_module(name)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # it is waited for, with a look around
    orders = os.getppid()
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        child = os.fork()
        if child == 0:
            answers.close()
            _become(order)
        answers.write(f"{child}\n".encode())
        answers.write(f"{os.waitstatus_to_exitcode(_ended(child, orders))}\n".encode())


def _ended(child: int, orders: int) -> int:
    """The status of a run when it has ended; with a new parent here, nobody waits for it any more."""
    while True:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            return status
        if os.getppid() != orders:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os._exit(1)
        signal.sigtimedwait({signal.SIGCHLD}, LOOK)


def _become(order: Order) -> None:
    """Be the process of one run, to its end."""
    from unstuck.prove.script.worker import main

    code = 1
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (as long as the process)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(order.environment)
        os.chdir(order.folder)
        main(order.task, order.result)
        code = 0
    except BaseException:  # noqa: BLE001  (whatever it was: the log tells, and the process ends here)
        with contextlib.suppress(Exception):
            traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def works() -> bool:
    """Whether processes can be split off here."""
    return hasattr(os, "fork") and sys.platform.startswith("linux") and Path("/proc/self").exists()


if __name__ == "__main__":
    serve(sys.argv[1:])
