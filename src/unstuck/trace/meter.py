"""Turns the arrays of a training step into rows of a trace."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from unstuck.trace import baseline, measure
from unstuck.trace.activity import Activity, active_units
from unstuck.trace.draws import rows_of_start
from unstuck.trace.grouping import BIAS, WEIGHT, row_name
from unstuck.trace.measure import Array
from unstuck.trace.meta import Meta
from unstuck.trace.minority import minority_stats
from unstuck.trace.structure import PIECEWISE, Structure

Arrays = Mapping[str, Array]


class Sink(Protocol):
    """What a meter writes to: a recording."""

    structure: Structure
    meta: Meta

    def add_row(self, step: int, layer: str, values: Mapping[str, float | None]) -> None:
        """Adds one row for each quantity."""
        ...


class Meter:
    """Keeps the first weights, the latest weights and gradients, and writes what they show.

    The arrays that are passed in are only read; what is needed later is copied.
    """

    def __init__(self, recording: Sink, *, same_samples: bool = False, partial: bool = False) -> None:
        """A meter that has seen nothing yet.

        Args:
            recording: where the rows go; its structure tells the type of each operation.
            same_samples: whether the activations are always those of the same samples.
            partial: whether the loss has terms beside the one that is known.
        """
        self._recording = recording
        self._activity = Activity(same_samples=same_samples)
        self._partial = partial
        self._seen_weights = False
        self._start: dict[str, Array] = {}
        self._before: dict[str, Array] = {}
        self._grads: dict[str, Array] = {}
        self._seen_data = False

    def step(
        self,
        step: int,
        *,
        loss: float | None = None,
        params: Arrays | None = None,
        grads: Mapping[str, Array | None] | None = None,
        activations: Arrays | None = None,
        lr: float | None = None,
        inputs: Array | None = None,
        targets: Array | None = None,
        outputs: Array | None = None,
    ) -> None:
        """Measures one step, after its backward pass and before its update.

        Args:
            step: number of the step.
            loss: of the step's batch.
            params: "<layer>.weight", "<layer>.bias" to array; axis 0 of a weight counts the units.
            grads: the same names; None for a parameter that got no gradient, which is recorded as null.
            activations: operation to its output, (N, units) or (N, units, *positions).
            lr: learning rate.
            inputs: (N, ...), measured the first time they are given.
            targets: (N,) or (N, outputs).
            outputs: the network's last output; without it, the output of the last operation.
        """
        add = self._recording.add_row
        network = {"loss": loss, "lr": lr}
        add(step, "", {name: value for name, value in network.items() if value is not None})
        if inputs is not None and not self._seen_data:
            self._first_data(step, inputs, targets)
        elif inputs is not None:
            lost = measure.nonfinite_share(inputs)
            if lost:
                self._recording.add_row(step, "", {"data.nonfinite": lost})
        if params is not None:
            self._weights(step, params, grads or {})
        for name, output in (activations or {}).items():
            node = self._recording.structure.node(name)
            kind = node.type if node else ""
            add(step, name, measure.output_stats(output, kind))
            if kind in PIECEWISE and np.size(output):
                units = measure.by_unit(output)
                seen = self._activity.see(
                    name, active_units(units), units=units.shape[1], samples=units.shape[0]
                )
                add(step, name, seen)
        last = self._last(activations) if outputs is None else outputs
        if last is not None:
            self._predictions(step, last, targets)

    def updated(self, step: int, params: Arrays) -> None:
        """Measures the update of `step`, given the weights right after it."""
        for name, before in self._before.items():
            after = params.get(name)
            if after is not None and after.shape == before.shape:
                values = measure.update_stats(before, after, self._start[name])
                self._recording.add_row(step, row_name(name), values)
        self._before = {}

    def _weights(self, step: int, params: Arrays, grads: Mapping[str, Array | None]) -> None:
        if not self._seen_weights:
            self._seen_weights = True
            for layer, values in rows_of_start(params).items():
                self._recording.add_row(step, layer, values)
        for name, weight in params.items():
            grad = grads.get(name)
            values = measure.tensor_stats(weight, grad)
            if name.endswith(WEIGHT):
                bias_name = name.removesuffix(WEIGHT) + BIAS
                values |= measure.unit_stats(weight, params.get(bias_name), grad, grads.get(bias_name))
            if name in grads and grad is None:
                values |= {"grad_norm": None, "zero_grad": None}
            self._recording.add_row(step, row_name(name), values)
            if name not in self._start:
                self._start[name] = np.array(weight)
        self._before = {name: np.array(weight) for name, weight in params.items()}
        self._compare_gradients(step, {name: grad for name, grad in grads.items() if grad is not None})

    def _compare_gradients(self, step: int, grads: Arrays) -> None:
        if not grads:
            return
        pairs = [
            (grad, self._grads[name])
            for name, grad in grads.items()
            if name in self._grads and self._grads[name].shape == grad.shape
        ]
        if pairs:
            self._recording.add_row(step, "", {"grad_cosine": measure.grad_cosine(pairs)})
        self._grads = {name: np.array(grad) for name, grad in grads.items()}

    def _last(self, activations: Arrays | None) -> Array | None:
        """The output of the operation nearest the loss."""
        if not activations:
            return None
        nodes = self._recording.structure.nodes
        if not nodes:
            return list(activations.values())[-1]
        return activations.get(nodes[-1].name)

    def _predictions(self, step: int, outputs: Array, targets: Array | None) -> None:
        meta, structure = self._recording.meta, self._recording.structure
        values = baseline.prediction_stats(
            outputs, targets=targets, loss_name=meta.loss or structure.loss, task=meta.task
        )
        if self._partial and "baseline_loss" in values:
            values["part_baseline"] = values.pop("baseline_loss")
        if targets is not None and outputs.ndim <= 2:
            count = measure.by_row(outputs).shape[1]
            if meta.task == "classification":
                labels = baseline.class_labels(targets)
                values |= minority_stats(outputs, targets, labels, meta.loss or structure.loss)
            values |= baseline.target_stats(targets, loss_name=meta.loss or structure.loss, outputs=count)
        self._recording.add_row(step, "", values)

    def _first_data(self, step: int, inputs: Array, targets: Array | None) -> None:
        self._seen_data = True
        values = measure.data_stats(inputs)
        labels = None if targets is None else baseline.class_labels(targets)
        if labels is not None and self._recording.meta.task != "regression":
            values["data.majority"] = baseline.majority(labels)
        self._recording.add_row(step, "", values)
