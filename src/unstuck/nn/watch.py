"""Watches a training from inside its own pass: every step, or every so many, at little cost."""

from dataclasses import InitVar, dataclass, field

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.kernels import build, watching
from unstuck.nn.layout import aligned
from unstuck.nn.observer import output_kind
from unstuck.nn.program import Buffer
from unstuck.nn.training import Training

ENOUGH = 128
"""Numbers of a sample's output that are looked at, about."""
_TURNED = 256
"""Steps whose rows become columns at once: they fit a cache."""

Array = NDArray[np.floating]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Watched:
    """What was found of some steps."""

    steps: NDArray[np.int64]
    """(N,): their numbers, rising."""
    outputs: Doubles
    """(outputs, FOUND, N), see `kernels.watching`."""
    tensors: Doubles
    """(tensors, FOUND, N), see `kernels.statistics`."""


@dataclass
class Watch:
    """What a training's pass needs to be watched, and what was found.

    The outputs are those that the pass has in memory: not what a layer hands to a ReLU that it does itself.
    They are of the batch, in training mode.
    """

    training: Training
    start: InitVar[Array]
    """The parameters before the first step, flat; copied."""
    every: int = 1
    """Steps whose number this divides are watched."""
    outputs: dict[str, Buffer] = field(init=False)
    plan: NDArray[np.int64] = field(init=False)
    held: Array = field(init=False)
    """Parameters at the start, gradients of the watched step before, and parameters before their update."""
    centres: Array = field(init=False)
    """Of every unit of every output its mean at the watched step before."""
    _first: int = field(default=0, init=False)
    _found: Doubles = field(default_factory=lambda: np.empty((0, 0)), init=False)

    def __post_init__(self, start: Array) -> None:
        training, layout = self.training, self.training.layout
        layers = training.network.layers
        self.outputs = {
            name: buffer
            for name, buffer in training.program.outputs.items()
            if layers[name].type != "Flatten"  # the same numbers as before it
        }
        rows = [
            (*_thinned(buffer).place, output_kind(layers[name].type)) for name, buffer in self.outputs.items()
        ]
        tensors = [(layout.offsets[spec.name], int(np.prod(spec.shape))) for spec in layout.specs]
        lanes = training.program.lanes
        units = sum(-(-buffer.channels // lanes) * lanes for buffer in self.outputs.values())
        head = (self.every, len(rows), len(tensors), units)
        numbers = [*head, *(number for row in (*rows, *tensors) for number in row)]
        self.plan = np.array(numbers, dtype=np.int64)
        self.held = aligned(3 * layout.size, training.dtype)
        self.held[: layout.size] = start
        self.centres = np.zeros(units, training.dtype)

    @property
    def addresses(self) -> NDArray[np.int64]:
        """Of the operations that watch, in the order of a job's fields; compiled if need be."""
        needed = (watching.look_at_outputs, watching.close_outputs, watching.open_update, watching.weigh)
        return build.addresses(needed, self.training.dtype.itemsize)

    def prepare(
        self, first: int, last: int, parts: int
    ) -> tuple[NDArray[np.int64], Array, Array, Array, Doubles]:
        """What the interpreter is told and writes to, for the steps from `first` to before `last`.

        `parts`: of a batch.
        """
        lanes = self.training.program.lanes
        units, outputs, tensors = self.plan[[watching.UNITS, watching.OUTPUTS, watching.TENSORS]].tolist()
        sums = aligned(parts * (units + watching.SUMS * outputs) * lanes, self.training.dtype)
        self._first = first
        steps, width = len(self._steps(last)), watching.FOUND * (outputs + tensors)
        if self._found.size < steps * width:
            self._found = np.empty((steps, width))
        return self.plan, self.held, sums, self.centres, self._found

    def read(self, last: int) -> Watched:
        """What was found up to before step `last`, which may be earlier than was prepared for."""
        steps = self._steps(last)
        found = np.empty((self._found.shape[1], len(steps)))
        for i in range(0, len(steps), _TURNED):
            found[:, i : i + _TURNED] = self._found[i : min(i + _TURNED, len(steps))].T
        shape = (len(found) // watching.FOUND, watching.FOUND, len(steps))
        columns, outputs = found.reshape(shape), len(self.outputs)
        return Watched(np.array(steps, dtype=np.int64), columns[:outputs], columns[outputs:])

    def _steps(self, last: int) -> range:
        return range(-(-self._first // self.every) * self.every, last, self.every)


def _thinned(buffer: Buffer) -> Buffer:
    """The numbers of an output that are looked at: all of a small one, evenly spread ones of a large one.

    The spacing is odd, so that every column of an image has its turn.
    """
    _, line, position = buffer.strides
    lines, positions = buffer.lines, buffer.positions
    if line == positions * position:  # nothing lies between lines: they are one
        lines, positions, line = 1, lines * positions, lines * line
    spacing = -(-buffer.channels * lines * positions // ENOUGH) | 1
    spacing = min(spacing, positions if lines == 1 else lines)
    if lines == 1:
        positions, position = -(-positions // spacing), position * spacing
    else:
        lines, line = -(-lines // spacing), line * spacing
    return Buffer(buffer.offset, buffer.channels, lines, positions, (buffer.strides[0], line, position))
