"""A recording: the measurements of a training, its structure, and what is known of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck import wiring
from unstuck.errors import UnstuckError
from unstuck.trace import arrays, storage
from unstuck.trace.grouping import BIAS, infer_structure, torch_names
from unstuck.trace.meta import Meta
from unstuck.trace.meter import Meter
from unstuck.trace.schedule import due
from unstuck.trace.structure import Structure
from unstuck.trace.table import Rows, Series, Table

__all__ = ["Meta", "Recording", "Rows", "Series"]


class Recording:
    """A table of measurements (step, layer, quantity, value) with the network's structure.

    Sources fill it by `add`; own training loops by `step`; rules read it by `series`, `first`, `last`.
    `steps` is the number of updates seen: at least one more than the highest step with a row. A source
    that measures only some steps may set it.

    Example:
        >>> import numpy as np
        >>> run = Recording()
        >>> w, b = np.ones((2, 3)), np.zeros(2)
        >>> for _ in range(2):
        ...     run.step(loss=1.0, params={"w": w, "b": b}, grads={"w": w, "b": b}, lr=0.1)
        ...     w = w * 0.9
        >>> run.series("update_ratio", "w").values.round(6).tolist()
        [0.1]
    """

    def __init__(self, structure: Structure | None = None, meta: Meta | None = None) -> None:
        """An empty recording.

        Args:
            structure: of the network; without one, `step` infers it from the arrays.
            meta: what is known of the training.
        """
        self.structure = structure or Structure()
        self.meta = meta or Meta()
        self.steps = 0
        self._table = Table()
        self._meter = Meter(self)
        self._next = 0
        self._names: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._outputs: dict[str, tuple[int, ...]] = {}
        self._inferred = not self.structure.nodes
        self._measured_weights = False

    # ---- writing

    def add(self, step: int, layer: str, quantity: str, value: float | None) -> None:
        """Adds a row; a second value for the same step replaces the first.

        Raises:
            UnstuckError: for an unknown quantity, a negative step or a value that is no number.
        """
        if step < 0:
            raise UnstuckError(f"{quantity} of {layer!r}: step {step} is negative")
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError):
            raise UnstuckError(
                f"{quantity} of {layer!r} at step {step}: expected a number or None, found {value!r}"
            ) from None
        self._table.column(quantity, layer).add(step, number)
        self.steps = max(self.steps, step + 1)

    def add_row(self, step: int, layer: str, values: Mapping[str, float | None]) -> None:
        """Adds a row for each quantity."""
        if step >= 0 and all(type(value) is float or value is None for value in values.values()):
            self._table.add(step, layer, values)  # the usual case, without further checks
        else:
            for quantity, value in values.items():
                self.add(step, layer, quantity, value)
        if values:
            self.steps = max(self.steps, step + 1)

    def add_columns(
        self,
        steps: Sequence[int] | npt.NDArray[np.int64],
        layer: str,
        columns: Mapping[str, npt.NDArray[np.float64]],
    ) -> None:
        """Adds rows of several steps.

        Args:
            steps: (N,), rising.
            layer: whose they are.
            columns: by quantity, (N,); NaN is undefined. Kept, not copied: nobody may change them.

        Raises:
            UnstuckError: for an unknown quantity.
        """
        numbers, none = np.array(steps, dtype=np.int64), np.zeros(len(steps), dtype=np.bool_)
        for quantity, values in columns.items():
            null = np.isnan(values)
            self._table.column(quantity, layer).extend(numbers, values, null if null.any() else none)
        self.steps = max([self.steps, *(numbers[-1:] + 1).tolist()])

    def step(
        self,
        *,
        loss: float | None = None,
        params: Mapping[str, Any] | None = None,
        grads: Mapping[str, Any] | None = None,
        activations: Mapping[str, Any] | None = None,
        lr: float | None = None,
        inputs: Any = None,
        targets: Any = None,
        outputs: Any = None,
    ) -> None:
        """Records one step of an own training loop; call it after backward and before the update.

        Loss and learning rate are recorded at every step; all else at the first 128 and then at 64 steps of
        every doubling (`schedule.due`), together with the updates of these steps.

        Arrays may be of any float type, lists too; they are copied where they are kept, never changed. The
        order of a dict is the forward order. Parameters named "<layer>.weight" and "<layer>.bias" belong
        together; of other names, an array of two or more axes opens a layer, whose bias is a one-axis
        array right after it with as many entries as the layer has units (axis 0).
        Unless the recording was given a structure, the first call with parameters or activations makes
        one: a chain of "Linear" (two axes) and "Conv2d" (four) layers, and an "Output" for each activation.

        Args:
            loss: loss of the step's batch.
            params: name to weights before the update.
            grads: name to gradient, of the same shape; None for a parameter that has none.
            activations: name to output, (N, units) or (N, channels, height, width).
            lr: learning rate of the step.
            inputs: the batch, (N, ...).
            targets: class numbers (N,), or numbers (N,) or (N, outputs).
            outputs: the network's output for the batch; by default the last activation.

        Raises:
            UnstuckError: for names or shapes that do not fit, naming them.
        """
        weights = arrays.mapping("params", params)
        slopes = arrays.optional_mapping("grads", grads)
        acts = arrays.mapping("activations", activations)
        arrays.check_batches(acts, {"inputs": inputs, "targets": targets, "outputs": outputs})
        self._learn(weights, slopes, acts)
        named = {self._names[name]: weight for name, weight in weights.items()}
        if self._measured_weights and named:
            self._meter.updated(self._next - 1, named)
        full = due(self._next)
        self._meter.step(
            self._next,
            loss=arrays.number("loss", loss),
            lr=arrays.number("lr", lr),
            params=named if full and named else None,
            grads={self._names[name]: slope for name, slope in slopes.items()},
            activations=acts if full else None,
            inputs=arrays.optional("inputs", inputs if full else None),
            targets=arrays.optional("targets", targets if full else None),
            outputs=arrays.optional("outputs", outputs if full else None),
        )
        self._measured_weights = full and bool(named)
        self._next += 1
        self.steps = max(self.steps, self._next)

    def close(self, params: Mapping[str, Any] | None = None) -> None:
        """Ends the recording; a second call does nothing.

        Args:
            params: the weights after the last update, for its update_norm and drift. Without them these
                rows stay unmeasured: the arrays of the last step were copied before its update.
        """
        if params is not None and self._measured_weights:
            weights = arrays.mapping("params", params)
            arrays.check_same(weights, self._shapes)
            self._meter.updated(self._next - 1, {self._names[name]: w for name, w in weights.items()})
        self._measured_weights = False
        self.meta.complete = True

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong: a `Diagnosis`. Options: `select` and `ignore`, prefixes of rule codes."""
        return wiring.call("diagnose", self, **options)

    def _learn(self, params: arrays.Arrays, grads: arrays.OptionalArrays, acts: arrays.Arrays) -> None:
        """Names and shapes: taken from the first step, checked at every other."""
        shapes = {name: weight.shape for name, weight in params.items()}
        if not self._names and params:
            names = torch_names(shapes)
            if not self._inferred:
                arrays.check_structure(self.structure, {names[name]: shape for name, shape in shapes.items()})
            self._names, self._shapes = names, shapes
        elif params:
            arrays.check_same(params, self._shapes)
        arrays.check_grads(params, grads)
        if self._inferred and ((params and not self.structure.layers) or (acts and not self._outputs)):
            self._outputs = self._outputs or {name: act.shape[1:] for name, act in acts.items()}
            own = {self._names[name]: shape for name, shape in self._shapes.items()}
            self.structure = infer_structure(own, self._outputs, self.meta.loss)
        arrays.check_activations(acts, self.structure)

    # ---- reading

    def series(self, quantity: str, layer: str = "") -> Series:
        """A quantity over all steps at which it was defined, read-only; empty when it never was."""
        column = self._table.find(quantity, layer)
        return Table.EMPTY if column is None else column.read()[3]

    def at(self, quantity: str, layer: str, step: int) -> float | None:
        """The value at a step; None when it is null or was not measured then."""
        column = self._table.find(quantity, layer)
        if column is None:
            return None
        steps, values, null, _ = column.read()
        i = int(steps.searchsorted(step))
        return float(values[i]) if i < len(steps) and steps[i] == step and not null[i] else None

    def first(self, quantity: str, layer: str = "") -> float | None:
        """The value at the first step measured; None when it is null there or was never measured."""
        return self._end(quantity, layer, 0)

    def last(self, quantity: str, layer: str = "") -> float | None:
        """The value at the last step measured; None when it is null there or was never measured."""
        return self._end(quantity, layer, -1)

    def has(self, quantity: str, layer: str | None = None) -> bool:
        """Whether it was measured at least once (null counts), of this layer or of any."""
        if layer is None:
            return bool(self._table.layers_of(quantity))
        return self._table.find(quantity, layer) is not None

    def is_null(self, quantity: str, layer: str = "", step: int | None = None) -> bool:
        """Whether it was measured and is undefined, at a step or (by default) at the last one measured."""
        column = self._table.find(quantity, layer)
        if column is None:
            return False
        steps, _, null, _ = column.read()
        i = len(steps) - 1 if step is None else int(steps.searchsorted(step))
        return 0 <= i < len(steps) and (step is None or bool(steps[i] == step)) and bool(null[i])

    def layers(self, quantity: str) -> tuple[str, ...]:
        """Layers that have this quantity, in forward order; "<layer>.bias" comes after its layer.

        Names that the structure does not hold come last, in the order in which they were first recorded.
        """
        place = {node.name: i for i, node in enumerate(self.structure.nodes)}

        def order(name: str) -> tuple[int, bool]:
            if name in place:
                return place[name], False
            return place.get(name.removesuffix(BIAS), len(place)), name.endswith(BIAS)

        return tuple(sorted(self._table.layers_of(quantity), key=order))

    def without(self, quantities: Collection[str]) -> "Recording":
        """The same recording without some quantities; structure and meta are shared."""
        kept = Recording(self.structure, self.meta)
        for rows in self.rows():
            if rows.quantity not in quantities:
                column = kept._table.column(rows.quantity, rows.layer)
                column.extend(rows.steps, rows.values, rows.null)
        kept.steps = self.steps
        return kept

    def rows(self) -> Iterator[Rows]:
        """All rows, one group for each quantity and layer."""
        return self._table.rows()

    def _end(self, quantity: str, layer: str, i: int) -> float | None:
        column = self._table.find(quantity, layer)
        if column is None:
            return None
        _, values, null, _ = column.read()
        return None if null[i] else float(values[i])

    # ---- storing

    def save(self, folder: str | PathLike[str]) -> None:
        """Stores the recording as a folder; one that is there already is replaced as a whole.

        Raises:
            RecordingError: when the folder cannot be written.
        """
        storage.write(folder, self.stored())

    def stored(self) -> storage.Stored:
        """What belongs into a folder."""
        return storage.Stored(self.meta, self.structure, self._table, self.steps)

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> "Recording":
        """Reads a stored recording: the same rows, structure and meta.

        Raises:
            RecordingError: naming the file that is missing, damaged or not understood.
        """
        stored = storage.read(folder)
        recording = cls(stored.structure, stored.meta)
        recording._table = stored.table
        recording.steps = recording._next = stored.steps
        return recording
