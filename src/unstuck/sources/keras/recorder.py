"""Watches a training by Keras 3, where the backend computes at once: PyTorch, or TensorFlow run eagerly.

Keras gives no callback the gradients or the batch's own loss (`logs` holds running means): they are taken
where the loss is computed and where the optimiser applies them.
"""

import functools
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from unstuck.sources.keras.batch import batch, has_further_terms, loss_facts, ranges
from unstuck.sources.keras.refusals import check
from unstuck.sources.keras.structure import (
    Array,
    Called,
    Weight,
    activation_type,
    as_array,
    layer_name,
    loss_name,
    loss_scale,
    options,
    structure,
    takes_scores,
    total_norm,
    units_first,
    weights_of,
)
from unstuck.trace import measure
from unstuck.trace.meta import Meta
from unstuck.trace.meter import Meter
from unstuck.trace.recording import Recording
from unstuck.trace.schedule import due
from unstuck.trace.structure import INPUT, Location

__all__ = ["KerasRecorder", "record_keras"]


def record_keras(
    model: Any,
    optimizer: Any = None,
    *,
    every: int | None = None,
    probe: bool = False,
    folder: str | os.PathLike[str] | None = None,
    goal: str | None = None,
    locations: Mapping[int, Location] | None = None,
) -> "KerasRecorder":
    """Watch a Keras model while a `with` block runs, in `fit` or in a loop of one's own.

    Args:
        model: a built or unbuilt `keras.Model`.
        optimizer: by default the model's own, given to `compile`.
        every: measure every so many steps instead of the usual schedule.
        probe: nothing is probed: a Keras model's training cannot be copied. Then `warnings` say so.
        folder: where to store the recording at the end.
        goal: what counts as learned, such as "loss<0.1".
        locations: where layers were made, by their id.

    Returns:
        A context manager; `.diagnose()` names what is wrong, `.recording` holds what was measured,
        `.warnings` what was not and why.

    Raises:
        UnstuckError: for what is no Keras model, a model without optimiser, or a step that is compiled.
    """
    recorder = KerasRecorder(model, optimizer, every=every, folder=folder, goal=goal, locations=locations)
    if probe:
        recorder.warnings.append("a Keras training is not probed: nothing was computed on copies of it")
    return recorder


class KerasRecorder:
    """A Keras training that is being watched. Made by `record_keras`."""

    refused = False
    """Whether it ended because its loss raised on its labels: never told of Keras."""

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        *,
        every: int | None,
        folder: str | os.PathLike[str] | None,
        goal: str | None,
        locations: Mapping[int, Location] | None,
    ) -> None:
        """Prepare; see `record_keras`."""
        self._model = model
        self._optimizer: Any = optimizer if optimizer is not None else getattr(model, "optimizer", None)
        check(model, self._optimizer)
        self._every, self._folder, self._locations = every, folder, locations or {}
        self.warnings: list[str] = []
        """What was not measured, and why: one sentence each."""
        self.after_step: Callable[[], None] | None = None
        """Called after each step, once it is measured; what it raises ends the training."""
        self._recording = Recording(meta=Meta(kind="keras", name=type(model).__name__, goal=goal))
        self._weights: list[Weight] = []
        self._meter: Meter | None = None
        self._calls: list[Called] = []
        self._makers: dict[int, str] = {}
        self._kept: list[Any] = []
        """Outputs of the current forward pass: as long as they live, their ids are their own."""
        self._given: dict[str, Any] = {}
        self._sent_back: Any = None
        """The last number that a backward pass of PyTorch began at."""
        self._losses: list[tuple[int, Any]] = []
        self._step = 0
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        if not self._undo:
            self._replace(self._optimizer, "apply", self._apply)
            inner = getattr(self._optimizer, "inner_optimizer", self._optimizer)
            if hasattr(inner, "_clip_gradients"):  # no public method of it shows them before and after
                self._replace(inner, "_clip_gradients", self._clip)
            self._replace(self._model, "compute_loss", self._compute_loss)
            self._replace(self._model, "call", self._forward)
            if "torch" in sys.modules:
                self._replace(sys.modules["torch"].autograd, "backward", self._backward)
            for layer in _leaves(self._model):
                self._replace(layer, "call", lambda original, layer=layer: self._call(original, layer))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching, and finish the recording. A second call does nothing."""
        if not self._undo:
            return
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._safely("the end", self._finish)

    @property
    def recording(self) -> Recording:
        """What was measured so far."""
        self._bring_losses()
        return self._recording

    @property
    def steps(self) -> int:
        """Updates seen so far."""
        return self._step

    def watch_optimizer(self, optimizer: Any) -> None:
        """Another optimiser of the same model is not watched."""
        self.warnings.append(f"the steps of a second optimiser ({type(optimizer).__name__}) were not seen")

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong: a `Diagnosis`. Options: `select` and `ignore`, prefixes of rule codes."""
        return self.recording.diagnose(**options)

    # ---- what is replaced while the training is watched

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """In the object's own dictionary: Keras tracks what is set in the usual way."""
        own = vars(owner)
        before = own.get(name)
        original = getattr(owner, name)
        own[name] = ours = functools.wraps(original)(make(original))

        def undo() -> None:
            if own.get(name) is ours:
                del own[name]
                if before is not None:
                    own[name] = before

        self._undo.append(undo)

    def _apply(self, original: Any) -> Any:
        def apply(grads: Any, trainable_variables: Any = None) -> Any:
            step = self._step
            self._safely("the step", self._measure, list(grads), trainable_variables)
            result = original(grads, trainable_variables)
            if self._due(step):
                self._safely("the update", self._measure_update, step)
            if self.after_step is not None:
                self.after_step()
            return result

        return apply

    def _clip(self, original: Any) -> Any:
        def clip(grads: Any) -> Any:
            clipped = original(grads)
            if self._due(self._step - 1):
                self._safely("the clipping", self._note_clipping, grads, clipped)
            return clipped

        return clip

    def _note_clipping(self, before: Any, after: Any) -> None:
        """Inside the optimiser's step, which has been counted already."""
        ratio = 1.0 if after is before else measure.ratio(total_norm(after), total_norm(before))
        self._recording.add_row(self._step - 1, "", {"clip_ratio": ratio})

    def _compute_loss(self, original: Any) -> Any:
        names = ("x", "y", "y_pred", "sample_weight")

        def compute_loss(*args: Any, **kwargs: Any) -> Any:
            loss = original(*args, **kwargs)
            self._given = {**dict(zip(names, args, strict=False)), **kwargs, "loss": loss}
            return loss

        return compute_loss

    def _backward(self, original: Any) -> Any:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            self._safely("the loss", self._note_loss, tensors)
            return original(tensors, *args, **kwargs)

        return backward

    def _note_loss(self, tensors: Any) -> None:
        if getattr(tensors, "numel", int)() == 1:
            self._sent_back = tensors.detach()

    def _forward(self, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls, self._kept, self._makers = [], [], {}
            return original(*args, **kwargs)

        return call

    def _call(self, original: Any, layer: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            if self._due(self._step):
                self._safely("an output", self._note, layer, args, output)
            return output

        return call

    # ---- measuring

    def _note(self, layer: Any, args: tuple[Any, ...], output: Any) -> None:
        if not hasattr(output, "shape") or len(output.shape) < 2 or not _has_numbers(output):
            return
        name = layer_name(layer.path or layer.name, self._model.name)
        if any(call.name == name for call in self._calls):
            return
        tensors = [one for arg in args for one in (arg if isinstance(arg, (list, tuple)) else [arg])]
        known = tuple(self._makers[id(one)] for one in tensors if id(one) in self._makers)
        before = self._calls[-1] if self._calls else None
        inputs = known or ((INPUT,) if before is None else (_result(before),))
        called = Called(layer, name, inputs, as_array(output))
        self._calls.append(called)
        self._kept.append(output)
        self._makers[id(output)] = _result(called)

    def _measure(self, grads: list[Any], variables: Any) -> None:
        step, given = self._step, self._given
        loss = given.get("loss", self._sent_back)
        self._step, self._given, self._sent_back = step + 1, {}, None
        if loss is not None:
            self._losses.append((step, loss))
        self._recording.steps = step + 1
        if not self._due(step):
            return
        variables = variables if variables is not None else self._trained()
        if self._meter is None:
            self._meter = self._begin(given, variables, loss_seen=loss is not None)
        by_id = {id(variable): grad for variable, grad in zip(variables, grads, strict=True)}
        slopes = {one.name: (one, by_id.get(id(one.variable))) for one in self._weights}
        scale = loss_scale(self._optimizer)
        seen = batch(given, self._recording.meta.loss)
        self._meter.step(
            step,
            lr=float(as_array(self._optimizer.learning_rate)),
            params=self._params(),
            grads={
                name: None if grad is None else one.read(grad) / scale for name, (one, grad) in slopes.items()
            },
            activations=self._outputs(),
            inputs=seen.get("inputs"),
            targets=seen.get("targets"),
            outputs=seen.get("outputs"),
        )
        self._bring_losses()
        self._recording.add_row(step, "", ranges(given, self._recording.meta.loss))

    def _measure_update(self, step: int) -> None:
        if self._meter is not None:
            self._meter.updated(step, self._params())

    def _due(self, step: int) -> bool:
        return due(step) if self._every is None else step % self._every == 0

    def _params(self) -> dict[str, Array]:
        return {one.name: one.read(one.variable.value) for one in self._weights}

    def _begin(self, given: dict[str, Any], variables: Any, *, loss_seen: bool) -> Meter:
        """Structure and meta, once a forward pass and a loss were seen."""
        meta = self._recording.meta
        self._weights = weights_of(self._model)
        held = frozenset(id(one) for one in variables)
        last = self._calls[-1].layer if self._calls else None
        loss = loss_name(getattr(self._model, "loss", None), None if last is None else activation_type(last))
        source = _result(self._calls[-1]) if self._calls else ""
        facts = loss_facts(given, source, getattr(self._model, "loss", None))
        scores = takes_scores(getattr(self._model, "loss", None), sys.modules["keras"].backend.backend())
        made = structure(self._calls, self._weights, held, loss, facts, self._locations, scores=scores)
        meta.loss, meta.optimizer = loss, type(self._optimizer).__name__
        meta.optimizer_options = dict(options(self._optimizer))
        if loss in {"CrossEntropyLoss", "BCELoss", "BCEWithLogitsLoss"}:
            meta.task = "classification"
            meta.n_classes = (
                facts.input_shape[-1] if loss == "CrossEntropyLoss" and facts.input_shape else None
            )
        self._recording = Recording(made, meta)
        if not given:
            unseen = "the data were" if loss_seen else "the loss and the data were"
            self.warnings.append(f"compute_loss was not called: {unseen} not seen")
        return Meter(self._recording, partial=has_further_terms(self._model, given.get("loss")))

    def _trained(self) -> list[Any]:
        return list(getattr(self._optimizer, "_trainable_variables", None) or self._model.trainable_variables)

    def _outputs(self) -> dict[str, Array]:
        """What came out of each layer; of one with an activation inside, that is the activation's."""
        known = {node.name for node in self._recording.structure.nodes}
        return {
            _result(call): units_first(call.output).astype(np.float32)
            for call in self._calls
            if _result(call) in known
        }

    def _bring_losses(self) -> None:
        waiting, self._losses = self._losses, []
        for step, loss in waiting:
            value = float(as_array(loss))
            self._recording.add_row(step, "", {"loss": value, "loss_finite": float(np.isfinite(value))})

    def _finish(self) -> None:
        if self._step == 0:
            self.warnings.append("no optimiser step was seen")
        self._bring_losses()
        self._recording.meta.complete = True
        self._calls, self._kept, self._makers, self._sent_back = [], [], {}, None
        if self._folder is not None:
            self._recording.save(self._folder)

    def _safely(self, what: str, action: Callable[..., Any], *args: Any) -> None:
        """Run something of ours; whatever it raises stays with us."""
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001  (nothing of ours may stop a training)
            text = f"{what} could not be measured ({type(error).__name__}: {error}); the training goes on"
            if text not in self.warnings:
                self.warnings.append(text)
                warnings.warn(f"unstuck: {text}", RuntimeWarning, stacklevel=4)


def _leaves(model: Any) -> list[Any]:
    """Layers without layers inside, in the order in which the model holds them."""
    return [layer for layer in model._flatten_layers(include_self=False) if not layer._layers]  # noqa: SLF001  (there is no public way)


def _has_numbers(tensor: Any) -> bool:
    """Not while Keras only works out shapes."""
    return type(tensor).__name__ != "KerasTensor" and str(getattr(tensor, "device", "")) != "meta"


def _result(call: Called) -> str:
    """Name of the node that a layer's output comes from."""
    inside = type(call.layer).__name__ != "Activation" and activation_type(call.layer) is not None
    return f"{call.name}.activation" if inside else call.name
