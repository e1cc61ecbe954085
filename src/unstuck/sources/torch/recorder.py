"""The recorder of a training in PyTorch: it is told of every step, and measures some."""

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch

from unstuck.sources.torch.arrivals import Arrivals
from unstuck.sources.torch.calls import Calls
from unstuck.sources.torch.guard import Guard
from unstuck.sources.torch.ledger import Ledger
from unstuck.sources.torch.marks import Marks
from unstuck.sources.torch.modules import compiled
from unstuck.sources.torch.params import Held, Params, models_by_name
from unstuck.sources.torch.patches import install
from unstuck.sources.torch.predictions import Predictions
from unstuck.sources.torch.probing import Probing, due
from unstuck.sources.torch.refusal import Refusal
from unstuck.sources.torch.rounds import Rounds, inner
from unstuck.sources.torch.schedule import is_close, is_measured
from unstuck.sources.torch.step import Step
from unstuck.sources.torch.strays import Strays
from unstuck.sources.torch.weights import Weights
from unstuck.sources.torch.writer import Writer
from unstuck.trace.meta import Meta
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Location

FLUSH_SECONDS = 10.0


class Recorder:
    """A training that is being watched. Made by `record`."""

    def __init__(
        self,
        model: Any,
        optimizers: Sequence[Any],
        *,
        every: int | None = None,
        probe: bool = False,
        folder: str | os.PathLike[str] | None = None,
        goal: str | None = None,
        locations: Mapping[int, Location] | None = None,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        """Prepare; see `record`."""
        self.models = models_by_name(model)
        self._guard = Guard(self._give_up)
        self._probing: Probing | None = None
        self.every = every
        name = next(iter(self.models.values()))
        self._recording = Recording(meta=Meta(kind="torch", name=type(name).__name__, goal=goal))
        self._writer = Writer(folder, self._recording, flush_seconds) if folder is not None else None
        self._marks = Marks()
        if probe:
            self._probing = Probing(self.models, self._recording, self.warnings)
        self._calls = Calls(self._marks, self._guard.failed, self._guard.note)
        self._rounds = Rounds([inner(one) for one in optimizers])
        self._predictions = Predictions(self._marks, self._recording.meta)
        self._params = Params(self.models)
        self._weights = Weights(self._params)
        self._strays = Strays(locations or {})
        self._ledger = Ledger(self._recording, self._params, self._guard, locations or {})
        self._losses, self._reduction = self._ledger.losses, self._ledger.reduction
        self._arrivals = Arrivals()
        self._step: Step | None = None
        self._number = 0
        self._busy = False
        """Whether a backward pass is running."""
        self._inside: int | None = None
        """While an optimiser steps: how many backward passes its closure has run."""
        self._scaler: Any = None
        self._scaled = False
        self._repeats: tuple[tuple[str, ...], ...] | None = None
        """Calls of a forward pass whose graph was walked; None if the next must be walked too."""
        self._held: dict[int, list[Held]] = {}
        """What the optimisers hold that step now: one may call another."""
        self._remove: Callable[[], None] | None = None
        self._thread = threading.get_ident()
        self._process = os.getpid()

    # ---- life

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Start watching."""
        if self._remove is None:
            self._thread = threading.get_ident()
            self._remove = install(self)
            self._guard.run("the start", self._begin)

    def close(self) -> None:
        """Stop watching: all hooks go, and the recording is finished. A second call does nothing."""
        if self._remove is None:
            return
        self._remove()
        self._remove = None
        if os.getpid() == self._process:
            self._guard.run("what the loss was given", self._learn_refusal, sys.exception())
        self._disarm()
        if self._probing is not None:
            self._probing.detach()
        if os.getpid() != self._process:
            return
        self._guard.run("the end", self._ledger.finish, self._number, self._weights, self._rounds.optimised)
        self._recording.meta.complete = True
        if self._writer is not None:
            self._guard.run("storing", self._writer.flush)

    def _learn_refusal(self, error: BaseException | None) -> None:
        """If the program dies of what it gave its loss: keep that."""
        refusal = Refusal.of(error)
        if refusal is not None:
            self._ledger.learn_refusal(
                self._number, refusal, self._marks, self._calls, self._rounds.optimised
            )

    @property
    def recording(self) -> Recording:
        """What was measured so far."""
        if self._losses.waiting or self._reduction.waiting:
            self._guard.run("what waits", self._bring_waiting)
        return self._recording

    @property
    def warnings(self) -> list[str]:
        """What was not measured, and why: one sentence each."""
        return self._guard.notes

    @property
    def steps(self) -> int:
        """Updates seen so far."""
        return self._number

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong: a `Diagnosis`. Options: `select` and `ignore`, prefixes of rule codes."""
        return self.recording.diagnose(**options)

    def watch_optimizer(self, optimizer: Any) -> None:
        """An optimiser that was made later."""
        self._rounds.add(inner(optimizer))

    def _begin(self) -> None:
        if self._probing is not None:
            self._probing.attach()
        for prefix, model in self.models.items():
            inside = [name for name, module in model.named_modules() if compiled(module)]
            if inside:
                where = prefix or inside[0] or type(model).__name__
                self._guard.note(
                    f"{where} is compiled: its inner operations are out of sight; weights, gradients, "
                    "updates and the loss were measured"
                )
        if any(one.tensor.is_meta for one in self._params.held):
            self._guard.note("parameters on the device 'meta' have no numbers: they were not measured")
        self._weights.keep_start()
        self._params.note_remade()
        if self._weights.large:
            self._guard.note(
                "more than 100 million parameters: updates and drift were measured on a sample of them"
            )
        self._arm()

    # ---- arming

    def _arm(self) -> None:
        """Hook what is needed to measure the next step, if it is to be measured."""
        if self._guard.tired or not is_measured(self._number, self.every):
            self._disarm()
            return
        close = is_close(self._number)
        self._calls.attach(self.models, self._params.signature())
        self._calls.clear()
        # between the steps of the default schedule, what the graph shows is known if nothing changed
        light = self._repeats is not None and not is_measured(self._number)
        self._calls.active, self._calls.light = not self._busy, light
        self._step = Step(
            self._number,
            close=close,
            light=light,
            marks=self._marks,
            calls=self._calls,
            params=self._params,
            weights=self._weights,
            predictions=self._predictions,
            arrivals=self._arrivals,
            reduction=self._reduction,
            strays=self._strays,
        )
        self._step.probing = self._probing if due(self._number) else None
        self._step.several = len(self._rounds.known) > 1
        self._strays.attach()
        self._arrivals.forget()
        self._arrivals.attach(one.tensor for one in self._params.held)

    def _disarm(self) -> None:
        self._step = None
        self._calls.active = False
        self._calls.detach()
        self._strays.detach()
        self._arrivals.detach()
        self._weights.release()
        self._reduction.release()

    # ---- what is told of the training (see patches.Watcher)

    def before_backward(self, tensors: Any, gradients: Any) -> bool:
        """Note the loss; on a measured step, look at its graph."""
        if self._off() or self._busy:
            return False
        self._inside = None if self._inside is None else self._inside + 1
        if (self._inside or 0) > 1:
            return False  # a closure's later evaluations are at other weights
        return bool(self._guard.run("the loss", self._note_loss, tensors, gradients))

    def _note_loss(self, tensors: Any, gradients: Any) -> bool:
        loss = tensors if isinstance(tensors, torch.Tensor) else next(iter(tensors), None)
        if not isinstance(loss, torch.Tensor):
            return False
        scale = getattr(self._scaler, "_scale", None) if self._scaled else None
        if loss.numel() == 1 and gradients is None:
            value = loss.detach()
            self._losses.note(value if scale is None else value / scale.to(value.device))
        if self._step is None:
            return False
        with torch.no_grad():
            self._step.before_backward(loss, scale)
        self._busy, self._calls.active = True, False
        return True

    def after_backward(self) -> None:
        """Measure the gradients."""
        self._busy = False
        if self._step is not None:
            self._guard.run("the gradients", self._step.after_backward)
            self._calls.active = bool(self._step)

    def before_step(self, optimizer: Any) -> None:
        """Remember the weights."""
        if self._off() or not self._rounds.ours(optimizer, self._owned):
            return
        self._inside = 0
        if self._step is not None:
            held = self._held[id(optimizer)] = self._rounds.held(optimizer, self._params.measurable())
            probing = self._step.probing
            self._guard.run("the weights", self._step.before_update, held)
            if probing is not None and self._rounds.first(optimizer):
                self._guard.run("the probes", self._probe, probing, optimizer)

    def _probe(self, probing: Probing, optimizer: Any) -> None:
        """Run the probes while nothing of ours looks at the model."""
        active, self._calls.active = self._calls.active, False
        arrived = len(self._arrivals)
        try:
            probing.run(self._number, optimizer)
        finally:
            self._calls.active = active
            self._arrivals.forget(arrived)

    def after_step(self, optimizer: Any) -> None:
        """Measure the update; the step may be complete."""
        if self._off() or not self._rounds.ours(optimizer, self._owned):
            return
        self._inside = None
        if self._step is not None:
            self._guard.run("the update", self._step.after_update, self._held.pop(id(optimizer), []))
        if self._rounds.stepped(optimizer):
            self._guard.run("the step", self._end_step, optimizer)

    def scaled(self, scaler: Any) -> None:
        """Losses are multiplied by a factor: remember where it is kept."""
        self._scaler, self._scaled = scaler, True

    def scaler_updated(self) -> None:
        """A step that was left out because of overflow is no step."""
        if not self._off() and self._losses.count and self._rounds.between:
            self._losses.drop()
            self._guard.run("a step that was left out", self._arm)

    # ---- steps

    def _end_step(self, optimizer: Any) -> None:
        number, step = self._number, self._step
        self._ledger.rate(number, optimizer, step)
        if step is not None:
            self._losses.learn(step.ours)
            step.share[0] = 0.0 if step.several and sum(step.ours) > 1 else float(max(sum(step.ours), 1))
        self._losses.end(number)
        self._number += 1
        self._recording.steps = self._number
        if step is not None:
            self._learn_repeats(step)
            self._ledger.write(step, scaled=self._scaler is not None)
            self._ledger.learn_structure(step, optimizer, self._rounds.optimised)
            self._recording.steps = self._number
        if step is not None or is_measured(self._number, self.every):
            self._arm()
        if self._writer is not None and self._writer.due():
            self._bring_waiting()
            self._writer.flush()

    def _learn_repeats(self, step: Step) -> None:
        """Whether the next walk over the graph would tell no more than this step did."""
        seen = tuple(tuple(group.names) for group in self._calls.groups)
        if step.light:
            self._repeats = seen if seen == self._repeats else None
        else:
            self._repeats = step.repeats if len(step.graphs) == 1 and len(seen) == 1 else None

    def _bring_waiting(self) -> None:
        self._ledger.bring_waiting()
        self._recording.steps = self._number

    # ---- helpers

    def _give_up(self) -> None:
        self._step = None
        self._calls.active = False

    def _owned(self) -> set[int]:
        self._params.refresh()
        return set(self._params.owners)

    def _off(self) -> bool:
        return (
            self._remove is None
            or (self._probing is not None and self._probing.busy)
            or torch.compiler.is_compiling()
            or threading.get_ident() != self._thread
            or os.getpid() != self._process
        )
