"""The ledger of a recorded training: puts what was measured into the recording, and what that says."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
import torch

from unstuck.sources.torch.calls import Calls
from unstuck.sources.torch.graph import walk
from unstuck.sources.torch.guard import Guard
from unstuck.sources.torch.losses import Losses
from unstuck.sources.torch.lost import lost
from unstuck.sources.torch.marks import Marks
from unstuck.sources.torch.ops import kind
from unstuck.sources.torch.params import Params, options
from unstuck.sources.torch.reduction import Reduction
from unstuck.sources.torch.refusal import Refusal
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.step import Step
from unstuck.sources.torch.structure import Places, chain, merged, structure
from unstuck.sources.torch.units import compare_units
from unstuck.sources.torch.weights import Rows, Weights
from unstuck.trace.recording import Recording
from unstuck.trace.structure import INPUT, Location


class Ledger:
    """Writes rows, losses, learning rates and the structure."""

    def __init__(
        self, recording: Recording, params: Params, guard: Guard, locations: Mapping[int, Location]
    ) -> None:
        """Begin.

        Args:
            recording: what is written into.
            params: the parameters.
            guard: keeps sentences on what was not measured.
            locations: by id of a module, where it was made.
        """
        self.recording, self.params, self.guard, self.locations = recording, params, guard, locations
        self.losses = Losses()
        self.reduction = Reduction(recording)
        self.refused = False
        """Whether the training ended because its loss raised on its labels."""
        self._last_lr: float | None = None
        self._last_loss, self._last_loss_step = 0.0, -1
        self._writing = -1
        """The measured step whose numbers are being brought over; -1 between such steps."""
        self._last_measured: int | None = None
        self._named_origin = False

    # ---- one step

    def rate(self, number: int, optimizer: Any, step: Step | None) -> None:
        """The learning rate, where it is a plain number, whenever it changes and on measured steps."""
        rate = optimizer.param_groups[0].get("lr")
        if isinstance(rate, (int, float)) and (step is not None or rate != self._last_lr):
            self._last_lr = float(rate)
            self.recording.add(number, "", "lr", self._last_lr)
        elif isinstance(rate, torch.Tensor) and step is not None:
            recording = self.recording
            step.gather.put(
                rate.detach().float().reshape(()).clone(), lambda x: recording.add(number, "", "lr", float(x))
            )

    def write(self, step: Step, optimizer: Any, optimised: set[int] | None, *, scaled: bool) -> None:
        """Bring a step's numbers over and put them into the recording, with the structure that it shows.

        Args:
            step: it is complete.
            optimizer: that made it.
            optimised: see `learn_structure`.
            scaled: whether losses are multiplied for half precision.
        """
        self._writing = step.number
        self.losses.put(step.gather, self._write_losses)
        with torch.no_grad():
            step.finish()
        self._writing = -1
        earlier = {id(one.tensor): one.row for one in self.params.held}
        self.learn_structure(step, optimizer, optimised)
        for one in self.params.held:  # a parameter that stands alone has another name once its use is known
            old = earlier.get(id(one.tensor), one.row)
            if old != one.row and old in step.rows:
                step.rows[one.row] |= step.rows.pop(old)
        known = self.params.note_remade()
        for layer in known:
            step.rows[layer]["remade"] = float(layer in self.params.remade)
        loss = self._last_loss if self._last_loss_step == step.number else None
        if loss is not None:
            step.rows[""]["loss_finite"] = float(loss - loss == 0)
        for row, values in step.rows.items():
            self.recording.add_row(step.number, row, values)
        fresh = step.number == 0 or self._last_measured == step.number - 1
        if not self._named_origin:
            born = step.origin(loss=loss, scaled=scaled, weights_fresh=fresh)
            if born is not None:
                self.recording.add(step.number, born, "origin.nonfinite", float(step.number))
                self._named_origin = True
        self._last_measured = step.number

    def bring_waiting(self) -> None:
        """Bring over the losses of steps that were not measured otherwise, and finish what waits."""
        self.reduction.flush()
        gather = Gather()
        self.losses.put(gather, self._write_losses)
        gather.deliver()

    def is_sound(self, number: int, loss: float, root: Any) -> bool:
        """Whether a loss is a number; if not, the data that it was made of are looked at.

        Args:
            number: of the step.
            loss: its value.
            root: its operation in the graph.
        """
        if loss - loss == 0 or root is None:
            return True
        frozen = any(not one.tensor.requires_grad for one in self.params.held)
        bad = "" if frozen else lost(root)  # what a frozen layer made has no graph either
        if bad == "inputs":
            self.recording.add(number, INPUT, "origin.nonfinite", float(number))
        elif bad == "targets":
            self.recording.add(number, "", "target.max", math.nan)
        if bad:  # the loss itself is written later, when its origin is known
            self.recording.add(number, "", "loss_finite", 0.0)
            self._named_origin = True
        return False

    def _write_losses(self, steps: list[int], values: Floats) -> None:
        for step, value in zip(steps, values.tolist(), strict=True):
            self.recording.add(step, "", "loss", value)
            self._last_loss_step, self._last_loss = step, value
            if value - value == 0 or self._named_origin:
                continue
            self.recording.add(step, "", "loss_finite", 0.0)
            if self._writing != step:
                self._named_origin = True
                last = "the start" if self._last_measured is None else f"step {self._last_measured}"
                self.guard.note(
                    f"the loss of step {step} is the first that is not finite; that step was not measured in "
                    f"full: the NaN or infinity was born between {last} and step {step}"
                )

    # ---- structure

    def learn_structure(self, step: Step, optimizer: Any, optimised: set[int] | None) -> None:
        """What a step's graphs show of the network.

        Args:
            step: it is complete.
            optimizer: that made it.
            optimised: ids of the tensors that some optimiser holds; None when none is known.
        """
        meta = self.recording.meta
        if meta.optimizer is None:
            meta.optimizer, meta.optimizer_options = type(optimizer).__name__, options(optimizer)
        if self.recording.structure.nodes and not step.close:
            return
        for graph, calls, shape in step.graphs:
            places = Places(self.locations, step.strays.places)
            found = structure(graph, calls, self.params, optimised, places, shape)
            self.recording.structure = merged(self.recording.structure, found)
            for hidden in sorted(set(graph.opaque)):
                self.guard.note(f"the inside of {hidden} could not be seen in the graph")
            if not graph.whole:
                self.guard.note("the graph is too large to be walked to its end: its order is not known")

    def learn_refusal(
        self, number: int, refusal: Refusal, marks: Marks, calls: Calls, optimised: set[int] | None
    ) -> None:
        """What a loss was given that raised: no graph of it will ever be walked.

        A program may train several models: a loss that was given the prediction of another tells nothing.

        Args:
            number: of the step that did not come to its update.
            refusal: what entered the loss.
            marks: of the recorder.
            calls: what the forward pass showed, if it was looked at.
            optimised: see `learn_structure`.
        """
        meta, known = self.recording.meta, self.recording.structure
        name, root = refusal.loss, refusal.prediction.grad_fn
        self.params.refresh()
        if root is not None and not refusal.reaches(self.params.owners):
            return
        self.refused = refusal.by_numbers
        if name == "NLLLoss" and root is not None and kind(root) == "LogSoftmax" and not marks.known(root):
            name, root = "CrossEntropyLoss", root.next_functions[0][0]  # one loss, written in two steps
        meta.loss = meta.loss or name
        meta.task = meta.task or "classification"
        if not known.nodes and root is not None:
            graph = walk(root, marks, self.params.owners)
            seen = [call for group in calls.groups for call in group.calls]
            known = structure(graph, seen, self.params, optimised, Places(self.locations))
            known = msgspec.structs.replace(known, loss=name, loss_facts=refusal.facts(graph.source))
        self.recording.structure = known
        if refusal.loss == "BCELoss" and refusal.is_lost:
            self.is_sound(number, math.nan, root)
            if not self._named_origin:
                self.recording.add(number, "", "loss_finite", 0.0)
        else:
            self.recording.add_row(number, "", refusal.measured())
        self.recording.steps = number

    # ---- the end

    def finish(self, steps: int, weights: Weights, optimised: set[int] | None) -> None:
        """The last weights, and what was never seen.

        Args:
            steps: updates that were made.
            weights: measures the parameters.
            optimised: see `learn_structure`.
        """
        if steps == 0:
            self.guard.note("no optimiser step was seen")
        self.bring_waiting()
        if steps == 0:
            return
        if not self.recording.has("loss"):
            self.guard.note("no loss was seen: backward was not called on a single number")
        if not self.recording.structure.nodes:
            self.recording.structure = chain(self.params, optimised, Places(self.locations))
            self.guard.note("no graph was seen: the order of the layers is that in which they were defined")
        last: Rows = defaultdict(dict)
        moved: Rows = defaultdict(dict)
        gather, held = Gather(), self.params.measurable()
        compare_units(gather, held, last, grads=False)
        weights.drift(gather, held, moved)
        gather.deliver()
        for row, values in last.items():
            self.recording.add_row(steps, row, values)
        for row, values in moved.items():
            self.recording.add_row(steps - 1, row, values)
        self.recording.steps = steps
