"""Watches whatever trains with PyTorch or Keras while it is open: models are found by themselves."""

import contextlib
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from unstuck.errors import UnstuckError
from unstuck.sources.script.keras import KerasWatch, core, is_layer
from unstuck.sources.script.locations import Locations, Places, location, made_at
from unstuck.sources.script.models import (
    complete,
    holds,
    loose,
    owners,
    parameters,
    parts,
    related,
    roots,
    strays,
)
from unstuck.sources.script.patches import after, before_next, on_import
from unstuck.sources.script.training import (
    Attach,
    Run,
    StopTraining,
    Watched,
    WatchOptions,
    attach_recorder,
)

MOST_RUNS = 8
"""So many trainings of one program are recorded (folds, ensembles); more are only counted."""

MOST_JOINED = 3
"""So often may models join a training that has hardly begun: a program may make new ones in every step."""

STAGE = 20
"""Updates after which an optimiser of other parameters of the same models begins a new training."""


class Watch:
    """Finds what trains while it is open, and records it.

    Torch is never imported from here: what is needed of it is patched once the program itself has imported
    it. Modules are noted when they are made (with the line of the user's code), optimisers too; at the next
    call of a module or of `backward`, the optimisers' parameters tell which models train. See `KerasWatch`
    for Keras.

    Example:
        >>> with Watch() as watch:
        ...     pass  # train
        >>> watch.steps
        0
    """

    def __init__(self, options: WatchOptions | None = None, attach: Attach = attach_recorder) -> None:
        """Prepare to watch.

        Args:
            options: how.
            attach: makes a recorder for models and optimisers.
        """
        self.options = options or WatchOptions()
        self.steps = 0
        self.backwards = 0
        """Backward passes of trainings that never made an update."""
        """Updates by all optimisers."""
        self.torch_used = False
        """Whether the program imported PyTorch or made a module of it."""
        self.stopped: Literal["", "steps", "error"] = ""
        """Why the program was stopped, if it was."""
        self.notes: list[str] = []
        """What was not recorded, and why: one sentence each."""
        self.results: list[Watched] = []
        """Of each training, in the order in which they began; there after closing."""
        self._attach = attach
        self._undo = contextlib.ExitStack()
        self._trigger = contextlib.ExitStack()
        self._process = os.getpid()
        self._folder = Path.cwd()
        self._layers = Places()
        self._locations = Locations(self._layers, self._folder)
        self._optimizers = Places()
        self._recorded = Places()
        self._refused = Places()
        self._keras = KerasWatch(self._layers, self._optimizers, self._begin_keras, self._keras_unseen)
        self._pending: list[Any] = []
        self._joining: list[Any] = []
        self._runs: list[Run] = []
        self._begun = 0
        self._after_step: Any = None

    def __enter__(self) -> Self:
        if hasattr(sys.modules.get("torch"), "optim"):
            self._install()
        else:
            self._undo.callback(on_import("torch", self._imported))
        if hasattr(sys.modules.get("keras"), "Model"):
            self._install_keras()
        else:
            self._undo.callback(on_import("keras", self._install_keras))
        return self

    def __exit__(self, *_: object) -> None:
        self._trigger.close()
        self._undo.close()
        if os.getpid() == self._process:
            for run in reversed(self._runs):  # what was put on top comes off first
                self._finish(run)
            self.results.sort(key=lambda one: one.number)
            if self._begun > MOST_RUNS:
                self.notes.append(f"{self._begun} trainings were seen; the first {MOST_RUNS} were recorded")
        self._runs.clear()

    @property
    def keras_used(self) -> bool:
        """Whether the program made a layer of Keras."""
        return self._keras.used

    # ---- what is patched

    def _imported(self) -> None:
        self.torch_used = True
        self._install()

    def _install(self) -> None:
        import torch
        from torch.optim.optimizer import Optimizer

        self._undo.callback(after(torch.nn.Module, "__init__", self._note_layer))
        self._undo.callback(after(Optimizer, "__init__", self._note_optimizer))
        self._listen_last()
        self._undo.callback(self._stop_listening)

    def _install_keras(self) -> None:
        try:
            self._undo.callback(self._keras.install())
        except Exception as error:  # noqa: BLE001  (a version of Keras that is made differently)
            self._keras_unseen(error)

    def _keras_unseen(self, error: Exception) -> None:
        note = f"Keras could not be watched ({type(error).__name__}: {error})"
        if note not in self.notes:
            self.notes.append(note)

    def _listen_last(self) -> None:
        """Hear of steps after everybody else: what stops the program must not cut off another's hook."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._stop_listening()
        self._after_step = register_optimizer_step_post_hook(self._stepped)

    def _stop_listening(self) -> None:
        if self._after_step is not None:
            self._after_step.remove()

    def _note_layer(self, module: Any) -> None:
        self.torch_used = True
        self._layers.note(module, made_at(module))

    def _note_optimizer(self, optimizer: Any) -> None:
        self._optimizers.note(optimizer, made_at(optimizer))
        self._expect(optimizer)

    def _expect(self, optimizer: Any) -> None:
        """Attach at the next call of a module or at the next backward: until then models may still grow."""
        if os.getpid() == self._process:
            self._arm()
            self._pending.append(optimizer)

    def _arm(self) -> None:
        import torch

        if not self._pending and not self._joining:
            self._trigger.callback(before_next(torch.nn.Module, "__call__", self._begin))
            self._trigger.callback(before_next(torch.Tensor, "backward", self._begin))

    # ---- a training begins, steps and ends

    def _begin(self) -> None:
        self._trigger.close()
        optimizers, self._pending = self._pending, []
        joining, self._joining = self._joining, []
        if os.getpid() != self._process:
            return
        known = complete(self._layers.alive(), optimizers)
        models = roots([*owners(optimizers, known), *joining], known) or [loose(optimizers)]
        same = next((run for run in self._runs if holds(run.models, models)), None)
        if same is not None and same.seen >= STAGE and _others(optimizers, same.optimizers):
            self._runs.remove(same)  # a training of its own: first the whole network, then a new head
            self._finish(same)
            self._record(same.models, optimizers)
            return
        if same is not None:  # another optimiser for what is recorded already
            for optimizer in optimizers:
                same.optimizers.append(optimizer)
                same.recorder.watch_optimizer(optimizer)
            return
        joined = 0
        for run in [run for run in self._runs if related(run.models, models)]:
            self._runs.remove(run)
            if run.seen > len(run.optimizers):
                self._finish(run)
                continue
            # hardly begun: it goes on with what has joined it
            self._begun -= 1
            joined = max(joined, run.joined + 1)
            optimizers = [*run.optimizers, *optimizers]
            models = roots([*run.models, *models], known)
            with contextlib.suppress(Exception):
                run.recorder.close()
        self._record(models, optimizers, joined)

    def _begin_keras(self, model: Any, optimizer: Any, late: bool) -> None:
        """Record a Keras model, unless that is done already; one that was compiled anew begins anew."""
        known = any(core(one) is core(optimizer) for run in self._runs for one in run.optimizers)
        if os.getpid() != self._process or optimizer is None or known or model in self._refused:
            return
        for run in [run for run in self._runs if run.models[0] is model]:
            self._runs.remove(run)
            self._finish(run)
        self._record([model], [optimizer])
        run = next((run for run in self._runs if run.models[0] is model), None)
        if run is None:
            self._refused.note(model, None)
            return
        recorder: Any = run.recorder
        recorder.after_step = partial(self._count, run)
        if late:
            self.notes.append(
                "a Keras model in a loop of its own is found at its first step: that was not seen"
            )

    def _record(self, models: list[Any], optimizers: list[Any], joined: int = 0) -> None:
        self._begun += 1
        for model in models:
            self._recorded.note(model, None)
        if self._begun > MOST_RUNS:
            return
        options = self.options
        if options.folder is not None and self._begun > 1:
            options = replace(options, folder=options.folder / str(self._begun))
        try:
            recorder = self._attach(models, optimizers, options, self._locations)
            recorder.recording.meta.name = options.name
        except Exception as error:  # noqa: BLE001  (a program is never disturbed by being watched)
            known = isinstance(error, UnstuckError)
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            self.notes.append(f"a training was not recorded: {reason}")
            return
        place = self._optimizers.of(optimizers[0]) if optimizers else None
        self._runs.append(Run(models, optimizers, recorder, place, self._begun, joined))
        if self._after_step is not None:
            self._listen_last()

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        if os.getpid() != self._process:
            return
        run = next((run for run in self._runs if any(one is optimizer for one in run.optimizers)), None)
        if run is not None and run.seen + 1 == len(run.optimizers) and run.joined < MOST_JOINED:
            self._let_strays_join(run)
        elif run is None and optimizer not in self._optimizers:
            self._optimizers.note(optimizer, None)  # a copy or a loaded one: no constructor was seen
            self._expect(optimizer)
        self._count(run)

    def _count(self, run: Run | None) -> None:
        """A step was made."""
        self.steps += 1
        if run is not None:
            run.seen += 1
        self._stop_if_asked(run)

    def _let_strays_join(self, run: Run) -> None:
        """Models that the loss reaches, but no optimiser holds, belong to what is recorded."""
        known = self._layers.alive()
        held = [module for model in self._recorded.alive() for module in parts(model)]
        found = strays(known, [*held, *owners(self._pending, known)])
        found = [module for module in found if not is_layer(module)]  # of another training, by Keras
        if found:
            self._arm()
            self._joining = [*run.models, *found]

    def _stop_if_asked(self, run: Run | None) -> None:
        steps = self.steps if run is None else run.recorder.steps
        if self.options.steps is not None and steps >= self.options.steps:
            self.stopped = self.stopped or "steps"
        elif self.options.stop_on_error and run is not None and self._hopeless(run):
            self.stopped = self.stopped or "error"
        if self.stopped:
            raise StopTraining

    def _hopeless(self, run: Run) -> bool:
        try:
            return run.hopeless(self.options)
        except Exception as error:  # noqa: BLE001  (see _record)
            self.notes.append(f"a look at step {run.recorder.steps} failed ({type(error).__name__}: {error})")
            return False

    def _finish(self, run: Run) -> None:
        self.backwards += 0 if run.seen else int(getattr(run.recorder, "backwards", 0))
        try:
            recording = run.finish(self._locations)
        except Exception as error:  # noqa: BLE001  (what was measured so far is still worth telling)
            self.notes.append(f"a recording was not finished ({type(error).__name__}: {error})")
            recording = run.recorder.recording
        if run.seen or run.recorder.refused:
            self.notes += [warning for warning in run.recorder.warnings if warning not in self.notes]
            made = location(run.optimizer_place, self._folder)
            self.results.append(Watched(recording, made, run.number))


def _others(some: list[Any], known: list[Any]) -> bool:
    """Whether optimisers hold other parameters than those that are known: a later stage of a training."""
    held, before = ({id(one) for each in group for one in parameters(each)} for group in (some, known))
    return held != before
