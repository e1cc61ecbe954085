"""The process of one run: `python -m unstuck.prove.script.worker TASK RESULT`.

It runs the unchanged text of the script with one treatment at work in it, and writes down what came of it.
"""

import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from unstuck.diagnose.outcome import constant_loss
from unstuck.prove.carry.witness import Witness
from unstuck.prove.script.guard import Guard
from unstuck.prove.script.hope import Hope
from unstuck.prove.script.row import Row, Task, Training, write
from unstuck.prove.torch.catalogue import SEEDING, intervention, parts
from unstuck.prove.torch.facts import facts
from unstuck.prove.torch.losses import Door, Meter
from unstuck.prove.torch.plan import Plan, plan_of
from unstuck.prove.torch.seeds import Seeding, replaced
from unstuck.sources.script.patches import on_import
from unstuck.sources.script.run import ScriptResult, WatchOptions, run_script
from unstuck.sources.script.training import Recorder, StopTraining, Watched, attach_recorder
from unstuck.sources.script.watch import Watch
from unstuck.trace.structure import Location

if TYPE_CHECKING:
    from unstuck.prove.torch.intervention import Intervention


def run(task: Task, program: Callable[[], object] | None = None) -> Row:
    """Run a script as a task says, in this process.

    Args:
        task: what to run, with which treatment and seed.
        program: what is called instead of the script.

    Returns:
        What it left.
    """
    with ExitStack() as undo:
        return _Run(task, undo, program).row()


class _Run:
    """One run, from the first patch to its row."""

    def __init__(self, task: Task, undo: ExitStack, program: Callable[[], object] | None) -> None:
        self.task = task
        self.program = program
        self.undo = undo
        self.loaded = set(sys.modules)
        self.guard = Guard(task.inside)
        self.meter, self.door = Meter(), Door()
        self.acting: Intervention | None = None
        self.seeding: Seeding | None = None
        self.hope: Hope | None = None
        self.witness = Witness(self.door) if task.witness is not None else None
        seed = task.seed or 0
        if task.treatment is not None:
            self.acting = intervention(task.treatment, seed)
        if self.acting is not None:
            self.acting.equip(self.door, task.plan)
        if task.seed is not None:
            independent = task.treatment is not None and SEEDING in map(str, parts(task.treatment))
            self.seeding = Seeding(task.seed, independent=independent)

    def row(self) -> Row:
        if self.task.inside:
            self.guard.install()
        if self.seeding is not None:
            self.seeding.install(self.undo)
        if "torch" in sys.modules:  # in a process that was split off
            self._torch()
        else:
            self.undo.callback(on_import("torch", self._torch))
        options = WatchOptions(
            name=self.task.name,
            steps=self.task.steps,
            probe=self.task.probe,
            goal=self.task.goal,
            folder=None if self.task.recording is None else Path(self.task.recording),
        )
        began = time.perf_counter()
        result = self._result(options)
        seconds = time.perf_counter() - began
        if self.acting is not None:
            if result.error is not None:
                self.acting.failed(result.error)
            self.acting.end()
        if result.error is not None and self.program is None:
            sys.excepthook(type(result.error), result.error, result.error.__traceback__)
        return self._row(result, seconds)

    def _result(self, options: WatchOptions) -> ScriptResult:
        task = self.task
        if self.program is None:
            return run_script(task.script, task.args, options, module=task.module, attach=self._attach)
        watch, error = Watch(options, self._attach), None
        try:
            with watch:
                self.program()
        except StopTraining:
            pass
        except Exception as raised:  # noqa: BLE001  (a training that fails is a failure, and is told)
            error = raised
        ending = "raised" if error is not None else "stopped" if watch.stopped else "finished"
        return ScriptResult(
            options.name, ending, error=error, trainings=tuple(watch.results), steps=watch.steps
        )

    # ---- while it runs

    def _torch(self) -> None:
        import torch

        if self.seeding is not None:
            self.seeding.install_torch(self.undo)
        self.door.look, self.door.look_at_root = self.meter.look, self.meter.look_at_root
        self.door.install(self.undo)
        replaced(self.undo, torch, "save", self._guarded(torch.save))
        if self.acting is not None:
            self.acting.install(self.undo)
        if self.witness is not None:
            self.witness.install(self.undo)

    def _guarded(self, save: Any) -> Any:
        def guarded(thing: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            if self.task.inside:
                self.guard.check(target)
            return save(thing, target, *args, **kwargs)

        return guarded

    def _attach(
        self,
        models: Sequence[Any],
        optimizers: Sequence[Any],
        options: WatchOptions,
        locations: Mapping[int, Location],
    ) -> Recorder:
        if self.acting is not None:
            try:
                self.acting.begin(models, optimizers)
            except Exception as error:  # noqa: BLE001  (a program that cannot be changed so is told, not broken)
                self.acting.refuse(f"it could not be carried out ({type(error).__name__}: {error})")
        if self.witness is not None:
            self.witness.begin(models, optimizers)
        recorder = attach_recorder(models, optimizers, options, locations)
        if self.acting is not None:
            self.acting.begun()
        if self.task.alone and self.hope is None:
            self.hope = Hope(recorder)
            self.hope.install(self.undo)
        return recorder

    # ---- what it left

    def _row(self, result: ScriptResult, seconds: float) -> Row:
        if self.witness is not None and self.task.witness is not None:
            self.witness.seen.save(Path(self.task.witness))
        judged = _judged(result.trainings, self.task.training)
        trace = None if judged is None else judged.recording
        losses = np.array([]) if trace is None else trace.series("loss").values
        final = float(np.mean(losses[-max(1, losses.size // 10) :])) if losses.size else math.nan
        lost = self.hope is not None and self.hope.lost
        ended = {} if lost else self.meter.ended()  # most of what it saw was before
        return Row(
            treatment=self.task.treatment,
            seed=self.task.seed,
            ending="stopped" if lost else result.ending,
            error=_told(result),
            steps=0 if trace is None else trace.steps,
            seconds=seconds,
            lost=lost,
            loss=_finite(final),
            start=_finite(float(losses[0])) if losses.size else None,
            accuracy=ended.get("accuracy"),
            balanced=ended.get("balanced"),
            squared_error=_finite(ended.get("error", math.nan)),
            constant=None if trace is None else _finite(constant_loss(trace)),
            fingerprint=hashlib.sha256(losses.tobytes()).hexdigest()[:16] if losses.size else "",
            applied=self._applied(),
            places=() if self.acting is None else tuple(self.acting.places[:20]),
            refusal=self._refusal(result),
            wrote=self.guard.wrote,
            facts={} if trace is None else facts(trace),
            plan=Plan() if trace is None else plan_of(trace, by_hand=self.door.calls == 0),
            trainings=tuple(map(self._training, result.trainings)) if self.task.recording else (),
            unseen=result.unseen,
            notes=result.notes,
            torch=result.torch_used,
            imported=self._imported() if self.task.recording else (),
        )

    def _imported(self) -> tuple[str, ...]:
        installed = f"{os.sep}site-packages{os.sep}"
        new = [(name, module) for name, module in list(sys.modules.items()) if name not in self.loaded]
        files = [(name, getattr(module, "__file__", None)) for name, module in new]
        return tuple(name for name, file in files if isinstance(file, str) and installed in file)

    def _applied(self) -> int:
        if self.acting is not None:
            return self.acting.applied
        return 0 if self.seeding is None or self.task.treatment is None else self.seeding.reseeded

    def _refusal(self, result: ScriptResult) -> str:
        if self.task.treatment is None:
            return ""
        if self.acting is not None:
            if result.keras_used and not self.acting.applied:
                return "a training in Keras cannot be treated while it runs"
            trained = any(one.recording.steps for one in result.trainings)
            if result.error is not None and not trained and not self.acting.refusal:
                return f"the program cannot run with it ({_told(result)})"
            return self.acting.refusal
        if self.seeding is not None and self.seeding.reseeded < 2:
            return "this program sets a seed once at most"
        return ""

    def _training(self, one: Watched) -> Training:
        folder = Path(self.task.recording or "")
        place = one.optimizer
        return Training(
            number=one.number,
            folder=str(folder if one.number == 1 else folder / str(one.number)),
            file="" if place is None else place.file,
            line=0 if place is None else place.line,
        )


def _judged(trainings: Sequence[Watched], number: int | None) -> Watched | None:
    """The training that counts: the one of that number, else the longest."""
    chosen = next((one for one in trainings if one.number == number), None)
    return chosen or max(trainings, key=lambda one: one.recording.steps, default=None)


def _told(result: ScriptResult) -> str:
    if result.error is not None:
        return f"{type(result.error).__name__}: {result.error}".split("\n", 1)[0][:300]
    return f"it exited with code {result.code}" if result.ending == "exited" and result.code else ""


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def main(task: str, result: str) -> None:
    """Run the task of a file, and write the row into another."""
    row = run(msgspec.json.decode(Path(task).read_bytes(), type=Task))
    write(Path(result), row)


if __name__ == "__main__":
    main(*sys.argv[1:3])
