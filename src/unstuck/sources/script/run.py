"""Runs somebody's training script as python would, unchanged, and records what trains in it."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unstuck.errors import UnstuckError
from unstuck.sources.script.locations import without_own_frames
from unstuck.sources.script.meeting import Account, Meeting
from unstuck.sources.script.process import (
    as_python,
    main_module,
    prints_to_stderr,
    terminated_as_interrupted,
    wait_for_threads,
)
from unstuck.sources.script.program import NoProgramError, Program, from_file, from_module
from unstuck.sources.script.training import (
    Attach,
    StopTraining,
    Watched,
    WatchOptions,
    attach_recorder,
)
from unstuck.sources.script.watch import Watch

__all__ = ["ScriptResult", "WatchOptions", "run_script"]

Ending = Literal["finished", "stopped", "exited", "interrupted", "raised"]

UNSEEN = {"jax": "JAX", "tensorflow": "TensorFlow", "paddle": "Paddle", "mxnet": "MXNet"}
"""Frameworks that train by themselves, by the module that a script imports."""


@dataclass(frozen=True)
class ScriptResult:
    """How a script ended and what was seen of its trainings."""

    name: str
    ending: Ending
    """finished; stopped (by --steps or --stop-on); exited (sys.exit); interrupted (Ctrl-C); raised."""
    code: int = 0
    """The script's own exit code, as python would have given it."""
    error: BaseException | None = None
    """What it raised, with a traceback that begins in the script."""
    trainings: tuple[Watched, ...] = ()
    steps: int = 0
    """Updates by all optimisers."""
    backwards: int = 0
    """Backward passes of trainings that never made an update."""
    stopped: str = ""
    """"steps" or "error" when the script was stopped, else ''."""
    notes: tuple[str, ...] = ()
    torch_used: bool = False
    keras_used: bool = False
    others_seen: tuple[str, ...] = ()
    rank: int = 0
    """Which process of a data-parallel program this was; rank 0's trainings are those of all together."""
    ranks: int = 1
    """How many processes the program has."""

    @property
    def failed(self) -> bool:
        """Whether the script itself failed."""
        return self.ending == "raised" or (self.ending == "exited" and self.code != 0)

    @property
    def unseen(self) -> str:
        """Why there is nothing to diagnose, in one line; '' when a training was recorded."""
        if self.trainings:
            return ""
        if self.steps:
            reason = "; ".join(self.notes) or "no module was called and no backward pass ran"
            return f"{self.name}: {self.steps} optimiser steps were seen but none was recorded: {reason}"
        return f"{self.name}: no optimiser step was seen{self._why_no_step()}"

    def _why_no_step(self) -> str:
        if self.ending == "exited":
            return f": it exited with code {self.code} before it trained"
        if self.ending in {"interrupted", "raised"}:
            return f" before it {'failed' if self.ending == 'raised' else 'was interrupted'}"
        if self.backwards > 1:
            return (
                f", but `backward` ran {self.backwards} times: is `optimizer.step()` missing, or in a branch "
                "that is never reached?"
            )
        return ": " + ("; ".join(self.notes) or self._no_step_of())

    def _no_step_of(self) -> str:
        if self.torch_used or self.keras_used:
            return (
                f"it uses {'Keras' if self.keras_used else 'PyTorch'}, but none of its optimisers "
                "made a step in this process (for an own update rule, see unstuck.Recording)"
            )
        if self.others_seen:
            found = " and ".join(self.others_seen)
            return f"it uses {found}, and only PyTorch and Keras trainings can be seen"
        return "it does not use PyTorch (for an own training loop, see unstuck.Recording)"


def run_script(
    target: str | Path,
    args: Sequence[str] = (),
    options: WatchOptions | None = None,
    *,
    module: bool = False,
    stdout_to_stderr: bool = False,
    attach: Attach = attach_recorder,
) -> ScriptResult:
    """Run a script as `__main__`, watched.

    The script sees what it would see under `python target args...`; its numbers stay the same, bit for
    bit. Whatever it raises is kept in the result; the process is put back as it was before.

    Args:
        target: path of the script, or a module's name.
        args: its arguments, `sys.argv[1:]`.
        options: how to watch.
        module: whether target is a module's name, as after `python -m`.
        stdout_to_stderr: whether what it prints goes to standard error instead of standard output.
        attach: makes the recorder.

    Returns:
        How it ended, and the recordings.

    Raises:
        NoProgramError: the script is not there, or is no Python.
    """
    name = str(target)
    chosen = options or WatchOptions()
    chosen = replace(chosen, name=chosen.name or name)
    if chosen.folder is not None:
        chosen = replace(chosen, folder=chosen.folder.absolute())
    meeting = Meeting.called(chosen.folder)
    if meeting is not None:
        # what one process sees must not stop it while the others wait for it: rank 0 decides for all
        chosen = replace(
            chosen,
            folder=meeting.own if meeting.kept else None,
            stop_on_error=chosen.stop_on_error and meeting.rank == 0,
        )
    program = None if module else from_file(name)
    loaded = set(sys.modules)
    process = os.getpid()
    watch = Watch(chosen, attach)
    with (
        as_python([program.argv0 if program else "-m", *args], program.path0 if program else str(Path.cwd())),
        prints_to_stderr(stdout_to_stderr),
        terminated_as_interrupted(),
    ):
        result = _end_of(lambda: _run(program, name, watch), name)
        found = set(sys.modules) - loaded
    if (
        os.getpid() != process
    ):  # a child that the script forked came to its end here: it is not ours to report
        sys.exit(result.code)
    if watch.stopped:  # whatever the script made of it
        result = replace(result, ending="stopped", code=0, error=None)
    result = replace(
        result,
        trainings=tuple(watch.results),
        steps=watch.steps,
        backwards=watch.backwards,
        stopped=watch.stopped,
        notes=tuple(watch.notes),
        torch_used=watch.torch_used,
        keras_used=watch.keras_used,
        others_seen=tuple(word for key, word in UNSEEN.items() if key in found),
    )
    return result if meeting is None else _met(result, meeting)


def _met(result: ScriptResult, meeting: Meeting) -> ScriptResult:
    """What a process of several tells of itself; in rank 0, of all."""
    error = result.error
    said = "" if error is None else f"{type(error).__name__}: {error}".split("\n", 1)[0][:200]
    account = Account(time.time(), result.ending, result.code, said, result.steps)
    result = replace(result, rank=meeting.rank, ranks=meeting.size)
    try:
        meeting.leave(result.trainings, account)
    except (OSError, UnstuckError) as lost:
        return replace(result, notes=(*result.notes, f"rank {meeting.rank} could not store: {lost}"))
    if meeting.rank:
        return result
    cut_off = result.failed or result.ending == "interrupted" or result.stopped == "error"
    with terminated_as_interrupted():
        trainings, notes = meeting.gather(result.trainings, cut_off=cut_off)
    return replace(result, trainings=tuple(trainings), notes=(*result.notes, *notes))


def _run(program: Program | None, name: str, watch: Watch) -> None:
    """Run a program, or the module of that name, until it and its threads have ended."""
    threads = set(threading.enumerate())
    with watch:
        if program is None:
            program = from_module(name)
            sys.argv[0] = program.argv0
        main = program.as_main()
        with main_module(main):
            try:
                program.run(main)
            except SystemExit:
                wait_for_threads(threads)
                raise
            wait_for_threads(threads)


def _end_of(run: Callable[[], None], name: str) -> ScriptResult:
    """How a program ends; only that there is none to run is an error of ours."""
    try:
        run()
    except NoProgramError:
        raise
    except StopTraining:
        return ScriptResult(name, "stopped")
    except KeyboardInterrupt:
        return ScriptResult(name, "interrupted", 130)
    except SystemExit as error:
        return ScriptResult(name, "exited", _exit_code(error))
    except BaseException as error:  # noqa: BLE001  (whatever the script raised, it is told with the findings)
        return ScriptResult(name, "raised", 1, without_own_frames(error))
    return ScriptResult(name, "finished")


def _exit_code(error: SystemExit) -> int:
    """The exit code python would give; a message goes to standard error, as python does it."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    with contextlib.suppress(Exception):
        print(error.code, file=sys.stderr)  # noqa: T201  (what python does with sys.exit("message"))
    return 1
