"""Writes down what the engine's own pass finds of every step, or every so many."""

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.kernels import watching
from unstuck.nn.kernels.statistics import ALONG, GRADIENTS, LARGEST, SMALLEST
from unstuck.nn.session import Session
from unstuck.nn.watch import Watch, Watched
from unstuck.sources.engine_layers import tensor_columns
from unstuck.trace import measure
from unstuck.trace.grouping import row_name
from unstuck.trace.recording import Recording
from unstuck.trace.structure import PIECEWISE, SATURATING

Doubles = NDArray[np.float64]

TOGETHER = 1 << 22
"""Numbers that are kept before they are written down."""


class Steps:
    """Watches a session between the steps that are looked at closely, and these too.

    What it finds is of the step's own batch in training mode; it replaces what a look at other samples found
    of the same step, so that a quantity means the same at all steps. What is undefined or not finite at a
    step has no row there.
    """

    def __init__(self, recording: Recording, session: Session, every: int) -> None:
        """Nothing is watched yet.

        Args:
            recording: where the rows go.
            session: that is watched, before its first step.
            every: steps whose number this divides are watched.
        """
        self._recording, self._session = recording, session
        self.watch = Watch(session.training, session.params, every)
        layers, layout = session.training.network.layers, session.training.layout
        self._types = [layers[name].type for name in self.watch.outputs]
        self._sizes = [int(np.prod(spec.shape)) for spec in layout.specs]
        self._starts = [measure.norm(view) for view in layout.views(session.params).values()]
        self._waiting = list[Watched]()
        self._square = np.zeros(0)
        """Square of the gradient's norm at the watched step before; empty before the first."""

    def advance_slice(self, to_step: int) -> None:
        """As the session's own."""
        session = self._session
        session.advance_slice(to_step, self.watch)
        self._waiting.append(self.watch.read(session.step - session.diverged))

    @property
    def full(self) -> bool:
        """Whether enough waits to be written down."""
        return sum(part.outputs.size + part.tensors.size for part in self._waiting) > TOGETHER

    def flush(self) -> NDArray[np.int64]:
        """Write down all that waits; the steps of which it was found."""
        if not self._waiting:
            return np.zeros(0, dtype=np.int64)
        steps = np.concatenate([part.steps for part in self._waiting])
        outputs = np.concatenate([part.outputs for part in self._waiting], axis=2)
        tensors = np.concatenate([part.tensors for part in self._waiting], axis=2)
        self._waiting.clear()
        for name, kind, found in zip(self.watch.outputs, self._types, outputs, strict=True):
            self._write(steps, name, _output_columns(kind, found))
        specs = self._session.training.layout.specs
        for spec, size, start, found in zip(specs, self._sizes, self._starts, tensors, strict=True):
            columns = tensor_columns(found, size, start)
            columns.pop("nonfinite")  # such a step has no row
            self._write(steps, row_name(spec.name), columns)
        self._compare(steps, tensors)
        return steps

    def _compare(self, steps: NDArray[np.int64], tensors: Doubles) -> None:
        """The direction of the gradient against that of the watched step before, where it was told."""
        squares = np.concatenate([self._square, tensors[:, GRADIENTS].sum(0)])
        lengths = np.sqrt(squares[1:]) * np.sqrt(squares[:-1])
        with np.errstate(all="ignore"):
            cosines = tensors[:, ALONG].sum(0)[steps.size - lengths.size :] / lengths
        cosines[~((lengths > SMALLEST) & (lengths < LARGEST))] = np.nan
        self._write(steps[steps.size - lengths.size :], "", {"grad_cosine": cosines})
        self._square = squares[-1:]

    def _write(self, steps: NDArray[np.int64], name: str, columns: dict[str, Doubles]) -> None:
        whole = dict[str, Doubles]()
        for quantity, values in columns.items():
            defined = np.isfinite(values)
            if defined.all():
                whole[quantity] = values
            elif defined.any():
                self._recording.add_columns(steps[defined], name, {quantity: values[defined]})
        self._recording.add_columns(steps, name, whole)


def _output_columns(kind: str, found: Doubles) -> dict[str, Doubles]:
    """Quantities of an output, (FOUND, steps)."""
    columns = {
        "act_mean": found[watching.MEAN],
        "act_rms": np.sqrt(found[watching.SQUARE]),
        "act_std": np.sqrt(found[watching.DEVIATION]),
    }
    if kind in PIECEWISE:
        columns["zero"] = 1 - found[watching.FILLED_SHARE]
    elif kind in SATURATING:
        columns |= {"slope": found[watching.SLOPE], "saturated": found[watching.FLAT_SHARE]}
    return columns
