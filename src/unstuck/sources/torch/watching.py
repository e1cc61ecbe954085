"""What happens in a training that is watched: told of every step, it measures some."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unstuck.sources.torch.arrivals import Arrivals
from unstuck.sources.torch.calls import Calls
from unstuck.sources.torch.constants import Constants
from unstuck.sources.torch.dependence import Dependence
from unstuck.sources.torch.dependence import due as looked_at
from unstuck.sources.torch.evaluations import Evaluations
from unstuck.sources.torch.guard import Guard
from unstuck.sources.torch.ledger import Ledger
from unstuck.sources.torch.loaders import Loaders
from unstuck.sources.torch.marks import Marks
from unstuck.sources.torch.pairing import Pairing
from unstuck.sources.torch.params import Held, Params
from unstuck.sources.torch.predictions import Predictions
from unstuck.sources.torch.probing import Probing, due
from unstuck.sources.torch.refusal import Refusal
from unstuck.sources.torch.rounds import Rounds, inner
from unstuck.sources.torch.step import Step
from unstuck.sources.torch.strays import Strays
from unstuck.sources.torch.terms import Terms
from unstuck.sources.torch.weights import Weights
from unstuck.sources.torch.writer import Writer
from unstuck.trace.recording import Recording
from unstuck.trace.schedule import is_close, is_measured
from unstuck.trace.signal import is_open
from unstuck.trace.structure import Location

REPEATS = 4
"""So many measured batches must have been the same before it is asked where they come from."""


class Watching:
    """Told of a training's steps (see `patches.Watcher`); what it measures goes into the ledger."""

    def __init__(
        self,
        models: Mapping[str, Any],
        optimizers: Sequence[Any],
        recording: Recording,
        guard: Guard,
        *,
        every: int | None,
        probing: Probing | None,
        writer: Writer | None,
        locations: Mapping[int, Location],
    ) -> None:
        """Prepare.

        Args:
            models: by the prefix of their layers' names.
            optimizers: those that are known.
            recording: where the rows go.
            guard: keeps what goes wrong.
            every: measure every so many steps; None for the default schedule.
            probing: runs extra computations, if they were asked for.
            writer: stores the recording while it grows, if it is to be stored.
            locations: by id of a module, where it was made.
        """
        self.models, self.every = models, every
        self.number = 0
        """Updates seen so far."""
        self.rounds = Rounds([inner(one) for one in optimizers])
        self.params = Params(models)
        self.weights = Weights(self.params)
        self.ledger = Ledger(recording, self.params, guard, locations)
        self._recording, self._guard, self._writer = recording, guard, writer
        self._probing = probing
        self._marks = Marks()
        self._calls = Calls(self._marks, guard.failed, guard.note)
        self._predictions = Predictions(self._marks, recording.meta)
        self._strays = Strays(locations)
        self._constants, self._dependence, self._pairing = Constants(), Dependence(), Pairing()
        self._terms = Terms()
        self.loaders = Loaders()
        self._dependence.sizes = self.loaders.sizes
        self._losses, self._reduction = self.ledger.losses, self.ledger.reduction
        self._arrivals = Arrivals()
        self._evaluations = Evaluations(recording, guard.failed)
        self._step: Step | None = None
        self._busy = False
        """Whether a backward pass is running."""
        self._inside: int | None = None
        """While an optimiser steps: how many backward passes its closure has run."""
        self._sound = True
        """Whether all losses so far were numbers; on other devices nobody waits for them."""
        self._together = False
        """Whether all optimisers made the last measured step of the gradients of one backward pass."""
        self._scaler: Any = None
        self._scaled = False
        self._repeats: tuple[tuple[str, ...], ...] | None = None
        """Calls of a forward pass whose graph was walked; None if the next must be walked too."""
        self._held: dict[int, list[Held]] = {}
        """What the optimisers hold that step now: one may call another."""
        self._on = False
        self._thread = threading.get_ident()
        self._process = os.getpid()

    # ---- life

    def begin(self) -> None:
        """From here on it listens."""
        self._on, self._thread = True, threading.get_ident()
        if self._probing is not None:
            self._probing.attach()
        self.weights.keep_start()
        self.params.note_remade()
        # first, so that its tape is put aside before another one listens
        self._evaluations.attach(
            self.models, lambda: self.rounds.optimised, lambda: self._busy or self._off()
        )
        self._arm()

    def end(self, error: BaseException | None) -> None:
        """It listens no more, and what was not written yet is.

        Args:
            error: that ends the training, if one does.
        """
        refusal = Refusal.of(error) if os.getpid() == self._process else None
        if refusal is not None:  # the program dies of what it gave its loss
            self._guard.run(
                "what the loss was given",
                self.ledger.learn_refusal,
                self.number,
                refusal,
                self._marks,
                self._calls,
                self.rounds.optimised,
            )
        self._on = False
        self._disarm()
        if os.getpid() == self._process:
            self._evaluations.finish()
        self._evaluations.detach()
        if self._probing is not None:
            self._probing.detach()
        if os.getpid() == self._process:
            self._guard.run("the end", self.ledger.finish, self.number, self.weights, self.rounds.optimised)
            self._guard.run("samples and their targets", self._compare_pairs)

    @property
    def backwards(self) -> int:
        """Backward passes since the last update."""
        return self._losses.count

    def _compare_pairs(self) -> None:
        if self.number and is_open(self._recording):
            self._recording.add_row(self.number - 1, "", self._predictions.pairs.measure())

    @property
    def waiting(self) -> bool:
        """Whether some numbers are not in the recording yet."""
        return self._losses.waiting or self._reduction.waiting

    def bring_waiting(self) -> None:
        """Put them there."""
        self.ledger.bring_waiting()
        self._recording.steps = self.number

    def give_up(self) -> None:
        """The present step is not measured any further."""
        self._step = None
        self._pairing.forget()
        self._calls.active = False
        self._calls.tape.forget()

    # ---- arming

    def _arm(self) -> None:
        """Hook what is needed to measure the next step, if it is to be measured."""
        if self._guard.tired or not is_measured(self.number, self.every):
            self._disarm()
            return
        close = is_close(self.number)
        self._calls.attach(self.models, self.params.signature())
        self._calls.clear()
        # between the steps of the default schedule, what the graph shows is known if nothing changed
        light = self._repeats is not None and not is_measured(self.number)
        self._calls.active, self._calls.light = not self._busy, light
        self._step = Step(
            self.number,
            close=close,
            light=light,
            marks=self._marks,
            calls=self._calls,
            params=self.params,
            weights=self.weights,
            predictions=self._predictions,
            arrivals=self._arrivals,
            reduction=self._reduction,
            strays=self._strays,
            constants=self._constants,
            dependence=self._dependence,
            pairing=self._pairing,
            terms=self._terms,
        )
        origin = self._calls.origin
        if self._predictions.repeats >= REPEATS and not origin.tired and self._calls.tape.may_listen:
            origin.listen()
        self._calls.deep = looked_at(self.number) and not (self._dependence.tired and self._pairing.tired)
        self._step.probing = self._probing if due(self.number) else None
        self._step.several = len(self.rounds.known) > 1 and not self._together
        self._step.optimised = self.rounds.optimised
        self._strays.attach()
        self._arrivals.forget()
        self._arrivals.attach(one.tensor for one in self.params.held)

    def _disarm(self) -> None:
        self._step = None
        self._calls.active = False
        self._calls.detach()
        self._strays.detach()
        self._arrivals.detach()
        self.weights.release()
        self._reduction.release()

    # ---- what it is told

    def before_backward(self, tensors: Any, gradients: Any) -> bool:
        """Note the loss; on a measured step, look at its graph."""
        self._calls.tape.pause()
        if self._off() or self._busy:
            return False
        self._evaluations.finish()
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
            if scale is None and value.device.type == "cpu" and self._sound:
                self._sound = self.ledger.is_sound(self.number, float(value), loss.grad_fn)
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
        self._calls.tape.pause()
        if self._off() or not self.rounds.ours(optimizer, self._owned):
            return
        self._inside = 0
        if self._step is not None:
            held = self._held[id(optimizer)] = self.rounds.held(optimizer, self.params.measurable())
            probing = self._step.probing
            self._guard.run("the weights", self._step.before_update, held)
            if probing is not None and self.rounds.first(optimizer):
                self._guard.run("the probes", self._probe, probing, optimizer)

    def _probe(self, probing: Probing, optimizer: Any) -> None:
        """Run the probes while nothing of ours looks at the model."""
        active, self._calls.active = self._calls.active, False
        arrived = len(self._arrivals)
        try:
            probing.run(self.number, optimizer)
        finally:
            self._calls.active = active
            self._arrivals.forget(arrived)

    def after_step(self, optimizer: Any) -> None:
        """Measure the update; the step may be complete."""
        self._calls.tape.pause()
        if self._off() or not self.rounds.ours(optimizer, self._owned):
            return
        once, self._inside = self._inside == 1, None
        if self._step is not None:
            held = self._held.pop(id(optimizer), [])
            self._guard.run("the update", self._step.after_update, held, once)
        if self.rounds.stepped(optimizer):
            self._guard.run("the step", self._end_step, optimizer)

    def scaled(self, scaler: Any) -> None:
        """Losses are multiplied by a factor: remember where it is kept."""
        self._scaler, self._scaled = scaler, True

    def scaler_updated(self) -> None:
        """A step that was left out because of overflow is no step."""
        if not self._off() and self._losses.count and self.rounds.between:
            self._losses.drop()
            self._guard.run("a step that was left out", self._arm)

    def handed(self, iterator: Any, data: Any) -> None:
        """Count what data loaders hand out."""
        if not self._off():
            self._guard.run("the data loader", self.loaders.handed, iterator, data)
            self._guard.run("the data loader", self._evaluations.handed, iterator, data)

    # ---- steps

    def _end_step(self, optimizer: Any) -> None:
        number, step = self.number, self._step
        self.ledger.rate(number, optimizer, step)
        if step is not None:
            self._losses.learn(step.ours)
            step.share[0] = 0.0 if step.several and sum(step.ours) > 1 else float(max(sum(step.ours), 1))
        self._losses.end(number)
        self.loaders.end_step()
        self.number += 1
        self._evaluations.stepped(self.number)
        self._recording.steps = self.number
        if step is not None:
            self._together = len(step.ours) == 1 and self.rounds.all_step
            step.rows[""]["passes"] = float(sum(step.ours))
            self._learn_repeats(step)
            step.rows[""] |= self.loaders.values(step.samples)
            self.ledger.write(step, optimizer, self.rounds.optimised, scaled=self._scaler is not None)
            self._constants.done = self._constants.done or "baseline_loss" in step.rows[""]
            self._calls.taping = not (self._constants.tired and self._terms.tired)
            self._recording.steps = self.number
        if step is not None or is_measured(self.number, self.every):
            self._arm()
        if self._writer is not None and self._writer.due():
            self.bring_waiting()
            self._writer.flush()

    def _learn_repeats(self, step: Step) -> None:
        """Whether the next walk over the graph would tell no more than this step did."""
        seen = tuple(tuple(group.names) for group in self._calls.groups)
        if step.light:
            self._repeats = seen if seen == self._repeats else None
        else:
            self._repeats = step.repeats if len(step.graphs) == 1 and len(seen) == 1 else None

    # ---- helpers

    def _owned(self) -> set[int]:
        self.params.refresh()
        return set(self.params.owners)

    def _off(self) -> bool:
        return (
            not self._on
            or (self._probing is not None and self._probing.busy)
            or torch.compiler.is_compiling()
            or threading.get_ident() != self._thread
            or os.getpid() != self._process
        )
