"""What is measured of the engine's layers: summed by kernels at once, written down for many steps."""

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.kernels.statistics import LARGEST, SMALLEST
from unstuck.nn.observer import Observer
from unstuck.nn.runner import Samples
from unstuck.nn.training import Training
from unstuck.trace import measure
from unstuck.trace.activity import Activity, active_units
from unstuck.trace.draws import rows_of_start
from unstuck.trace.grouping import BIAS, WEIGHT, row_name
from unstuck.trace.recording import Recording
from unstuck.trace.schedule import is_measured
from unstuck.trace.structure import PIECEWISE, SATURATING

Array = NDArray[np.floating]
Doubles = NDArray[np.float64]

TOGETHER = 256
"""Steps that are written down at once."""
CLOSE_SAMPLES, CLOSE_ROWS = 32, 1024
"""What is looked at closely: about so many samples times positions, but so many samples at least."""


class Layers:
    """Measures outputs, weights, gradients and updates, and puts them into a recording.

    Where something is 0, not finite, or so large or small that its square may not be representable,
    `trace.measure` measures that output or tensor: it means the same, and is slow.
    """

    def __init__(self, recording: Recording, training: Training, samples: Samples, start: Array) -> None:
        """Nothing is measured yet.

        Args:
            recording: where the rows go.
            training: that is watched.
            samples: whose outputs are looked at.
            start: the parameters before the first step, flat.
        """
        self._recording = recording
        self._layout = layout = training.layout
        self._observer = Observer(training, samples)
        self._types = {name: layer.type for name, layer in training.network.layers.items()}
        self._start = start.copy()
        self._earlier = np.zeros_like(start)
        self._earlier_square: float | None = None
        sizes = [int(np.prod(spec.shape)) for spec in layout.specs]
        places = [(layout.offsets[spec.name], size) for spec, size in zip(layout.specs, sizes, strict=True)]
        self._tensors = np.array(places, dtype=np.int64).reshape(-1, 2)
        self._norms = {name: measure.norm(view) for name, view in layout.views(start).items()}
        self._outputs, self._weights = list[tuple[int, Doubles]](), list[tuple[int, Doubles]]()
        self._cosines = list[tuple[int, float]]()
        drawn = rows_of_start(layout.views(start))
        self._exceptions = [(0, layer, values) for layer, values in drawn.items()]
        self._activity = Activity(same_samples=True)

    def outputs(self, step: int, params: Array, *, close: bool) -> None:
        """Measure all outputs at some parameters; closely: ranks, cosines and distinct outputs too."""
        found = self._observer.look(params)
        self._outputs.append((step, found))
        for i in _doubtful(found[:, 1] / self._observer.sizes):
            name = self._observer.names[i]
            values = measure.size_stats(self._observer.output(name), self._types[name])
            self._exceptions.append((step, name, values))
        if close or is_measured(step):  # it reads every number, which the sums need not
            self._follow(step)
        if close:
            for name in self._observer.names:
                if self._makes_units(name):
                    self._exceptions.append((step, name, measure.close_stats(self._close(name))))

    def _follow(self, step: int) -> None:
        """Which units are active now, and which were never or no longer are."""
        for name in self._observer.names:
            if self._types[name] in PIECEWISE:
                units = measure.by_unit(self._observer.output(name))
                active = active_units(units)
                seen = self._activity.see(name, active, units=units.shape[1], samples=units.shape[0])
                self._exceptions.append((step, name, seen))

    def weights(self, step: int, before: Array, after: Array, gradients: Array, *, close: bool) -> None:
        """Measure one update; closely: the units of each layer beside each other too."""
        from unstuck.nn.kernels.statistics import reduce_weights

        found = np.zeros((len(self._tensors), 6))
        reduce_weights(self._start, before, after, gradients, self._earlier, self._tensors, found)
        self._weights.append((step, found))
        views = self._layout.views
        doubtful = _doubtful(found[:, :4].T).tolist()
        if doubtful or close:
            old, new, slopes, start = views(before), views(after), views(gradients), views(self._start)
            for i in doubtful:
                name = self._layout.specs[i].name
                values = measure.tensor_stats(old[name], slopes[name])
                values |= measure.update_stats(old[name], new[name], start[name])
                self._exceptions.append((step, row_name(name), values))
            for name in old if close else ():
                if name.endswith(WEIGHT):
                    bias = name.removesuffix(WEIGHT) + BIAS
                    units = measure.unit_stats(old[name], old.get(bias), slopes[name], slopes.get(bias))
                    self._exceptions.append((step, row_name(name), units))
        self._compare(step, found, gradients)
        if len(self._weights) >= TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Write down all that waits."""
        if self._outputs:
            self._flush_outputs()
        if self._weights:
            self._flush_weights()
        if self._cosines:
            steps, cosines = zip(*self._cosines, strict=True)
            self._recording.add_columns(steps, "", {"grad_cosine": np.array(cosines)})
        for step, name, values in self._exceptions:  # these replace what the kernels found
            self._recording.add_row(step, name, values)
        for waiting in (self._outputs, self._weights, self._cosines, self._exceptions):
            waiting.clear()

    def _close(self, name: str) -> Array:
        """Of images fewer samples: their positions count too."""
        output = self._observer.output(name)
        positions = int(np.prod(output.shape[2:]))
        return output[: max(CLOSE_SAMPLES, CLOSE_ROWS // positions)]

    def _makes_units(self, name: str) -> bool:
        """Whether an operation does more than pass on the units that it gets."""
        node = self._recording.structure.node(name)
        return node is not None and (bool(node.parameters) or node.type in PIECEWISE | SATURATING)

    def _compare(self, step: int, found: Doubles, gradients: Array) -> None:
        """The direction of the gradient against that of the measured step before."""
        square = float(found[:, 1].sum())
        if self._earlier_square is not None:
            length = float(np.sqrt(square) * np.sqrt(self._earlier_square))
            cosine = float(found[:, 4].sum()) / length if SMALLEST < length < LARGEST else None
            if cosine is None:
                old, new = self._layout.views(self._earlier), self._layout.views(gradients)
                cosine = measure.grad_cosine((new[name], old[name]) for name in new)
            self._cosines.append((step, np.nan if cosine is None else cosine))
        self._earlier[...] = gradients
        self._earlier_square = square

    def _flush_outputs(self) -> None:
        observer, samples = self._observer, self._observer.samples.count
        steps = [step for step, _ in self._outputs]
        sums = np.array([found for _, found in self._outputs]).transpose(1, 2, 0)
        with np.errstate(all="ignore"):
            for i, name in enumerate(observer.names):
                means, squares, within, deviation, dead, filled, slope, flat = sums[i]
                size, units = observer.sizes[i], observer.units[i]
                columns = {
                    "act_mean": means / size,
                    "act_rms": np.sqrt(squares / size),
                    "units": np.full(len(steps), float(units)),
                    "act_std": np.sqrt(deviation / units),
                    "act_variation": within / squares if samples > 1 else np.full(len(steps), np.nan),
                }
                if self._types[name] in PIECEWISE:
                    columns |= {"dead": dead / units, "zero": 1 - filled / (size * samples)}
                elif self._types[name] in SATURATING:
                    columns |= {"saturated": flat / (size * samples), "slope": slope / (size * samples)}
                self._recording.add_columns(steps, name, columns)

    def _flush_weights(self) -> None:
        steps = [step for step, _ in self._weights]
        sums = np.array([found for _, found in self._weights]).transpose(1, 2, 0)
        for i, spec in enumerate(self._layout.specs):
            columns = tensor_columns(sums[i], int(self._tensors[i, 1]), self._norms[spec.name])
            self._recording.add_columns(steps, row_name(spec.name), columns)


def tensor_columns(sums: Doubles, size: int, start: float | None) -> dict[str, Doubles]:
    """Quantities of a tensor from its sums.

    Args:
        sums: (6, steps), see `kernels.statistics`.
        size: numbers of the tensor.
        start: its norm before the first step.
    """
    weight, grad, update, drift = np.sqrt(sums[:4])
    with np.errstate(all="ignore"):
        return {
            "weight_norm": weight,
            "nonfinite": np.zeros(weight.size),
            "grad_norm": grad,
            "zero_grad": 1 - sums[5] / size,
            "update_norm": update,
            "update_ratio": update / weight,
            "drift_norm": drift,
            "drift": drift / start if start else np.full(weight.size, np.nan),
        }


def _doubtful(squares: Doubles) -> NDArray[np.intp]:
    """Where a sum of squares (or, by column, one of several) may have overflowed or vanished."""
    trusted = (squares > SMALLEST) & (squares < LARGEST)
    return np.flatnonzero(~(trusted if trusted.ndim == 1 else trusted.all(axis=0)))
