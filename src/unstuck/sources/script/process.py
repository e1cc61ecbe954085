"""The process while a program runs in it: as python would have set it up, and as it was before afterwards."""

import contextlib
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HANDLED = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
    if (number := getattr(signal, name, None)) is not None
)
"""Signals that training scripts take over (to save a checkpoint, say)."""


@contextlib.contextmanager
def as_python(argv: Sequence[str], path0: str) -> Generator[None]:
    """Set `sys.argv` and `sys.path` as python would for a program; put everything back afterwards.

    Put back are: arguments, search path, `__main__`, working folder, environment, standard streams, hooks,
    signal handlers, warning filters, the states of all random generators that exist, and modules that the
    program imported from its own folder.

    Args:
        argv: what the program sees as `sys.argv`.
        path0: the folder that its modules are imported from.
    """
    with contextlib.ExitStack() as undo:
        for restore in (_streams, _hooks, _signals, _folder, _environment, _random_states):
            undo.callback(restore())
        undo.callback(_modules(path0))
        undo.enter_context(warnings.catch_warnings())
        old_argv, old_path = list(sys.argv), list(sys.path)
        undo.callback(_refill, sys.argv, old_argv)
        undo.callback(_refill, sys.path, old_path)
        sys.argv[:] = argv
        if sys.flags.safe_path:
            pass
        elif sys.path and _was_put_first(sys.path[0]):
            sys.path[0] = path0
        else:
            sys.path.insert(0, path0)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # a program may have closed or replaced its streams
                    stream.flush()


@contextlib.contextmanager
def main_module(main: ModuleType) -> Generator[None]:
    """Let a module be `__main__`, so that what it defines can be pickled and imported by worker processes."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = main
    try:
        yield
    finally:
        sys.modules["__main__"] = before


@contextlib.contextmanager
def prints_to_stderr(wanted: bool) -> Generator[None]:
    """While wanted, whatever is written to standard output goes to standard error.

    That of child processes and of C libraries too, where standard output is a real file.
    """
    if not wanted:
        yield
        return
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        if not _is_descriptor(sys.stdout, 1):
            undo.enter_context(contextlib.redirect_stdout(sys.stderr))
        with contextlib.suppress(OSError):  # a process may have no standard streams
            undo.callback(_put_descriptor_back, os.dup(1), sys.stdout)
            os.dup2(2, 1)
        yield


def _put_descriptor_back(kept: int, stream: Any) -> None:
    with contextlib.suppress(Exception):
        stream.flush()
    os.dup2(kept, 1)
    os.close(kept)


@contextlib.contextmanager
def terminated_as_interrupted() -> Generator[None]:
    """Let SIGTERM end the program as Ctrl-C does, so that what was found is told.

    Launchers send it to the other processes when one of them fails, and clusters when time is up. A program's
    own handler takes its place.
    """
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    process = os.getpid()

    def end(number: int, _frame: Any) -> None:
        if os.getpid() != process:  # a worker that was forked: it ends as it would
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def wait_for_threads(before: set[threading.Thread]) -> None:
    """Wait for the program's own threads, as python does when a program ends."""
    for thread in threading.enumerate():
        if thread not in before and not thread.daemon and thread is not threading.current_thread():
            thread.join()


def _was_put_first(entry: str) -> bool:
    """Whether python put this entry in front for the program that watches."""
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is not None:  # python -m unstuck
        return entry in {"", str(Path.cwd())}
    file = getattr(main, "__file__", None)
    return file is not None and os.path.realpath(entry) == str(Path(file).resolve().parent)


def _is_descriptor(stream: Any, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (AttributeError, OSError, ValueError):
        return False


def _refill(target: list[str], values: list[str]) -> None:
    target[:] = values


def _streams() -> Any:
    kept = sys.stdin, sys.stdout, sys.stderr

    def restore() -> None:
        sys.stdin, sys.stdout, sys.stderr = kept
        # a program may have closed them, which leaves the descriptors open
        if sys.stdout is not None and sys.stdout.closed:
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (as long as the process)
        if sys.stderr is not None and sys.stderr.closed:
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  (see above)

    return restore


def _hooks() -> Any:
    kept = sys.excepthook, sys.displayhook, threading.excepthook

    def restore() -> None:
        sys.excepthook, sys.displayhook, threading.excepthook = kept

    return restore


def _signals() -> Any:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # only the main thread may set handlers
    kept = {number: signal.getsignal(number) for number in HANDLED}

    def restore() -> None:
        for number, handler in kept.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return restore


def _folder() -> Any:
    kept = Path.cwd()

    def restore() -> None:
        with contextlib.suppress(OSError):
            os.chdir(kept)

    return restore


def _environment() -> Any:
    kept = dict(os.environ)

    def restore() -> None:
        for name in [name for name in os.environ if name not in kept]:
            del os.environ[name]
        for name, value in kept.items():
            if os.environ.get(name) != value:
                os.environ[name] = value

    return restore


def _random_states() -> Any:
    """The generators that exist now: numpy's and torch's only if those are loaded."""
    python = random.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    arrays = numpy.random.get_state() if numpy is not None else None
    tensors = torch.get_rng_state() if torch is not None and hasattr(torch, "get_rng_state") else None

    def restore() -> None:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(arrays)
        if torch is not None and tensors is not None:
            torch.set_rng_state(tensors)

    return restore


def _modules(folder: str) -> Any:
    before = set(sys.modules)
    root = os.path.realpath(folder) + os.sep

    def restore() -> None:
        for name in [name for name in sys.modules if name not in before]:
            file = getattr(sys.modules[name], "__file__", None)
            if (
                file
                and os.path.realpath(file).startswith(root)
                and f"{os.sep}site-packages{os.sep}" not in file
            ):
                del sys.modules[name]

    return restore
