"""Looks at the outputs of all layers for some samples: sums where they lie, and arrays on demand."""

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.kernels import job
from unstuck.nn.runner import Array, Runner, Samples
from unstuck.nn.training import Training
from unstuck.trace.structure import PIECEWISE

MOST_BYTES = 256 << 20
"""Memory for all chunks of the samples; of a network that needs more, fewer samples are looked at."""


class Observer(Runner):
    """Runs the network with every layer's output in memory.

    The samples' chunks lie there together, so that one pass over the memory measures all outputs.
    """

    def __init__(self, training: Training, samples: Samples) -> None:
        """An observer that has seen nothing yet.

        Args:
            training: whose network it is.
            samples: that are looked at, always the same.
        """
        super().__init__(training.observable, training.layout, training.dtype)
        lanes = self.program.lanes
        chunk = self.program.memory_size * self.dtype.itemsize
        most = max(MOST_BYTES // chunk, 1) * lanes
        self.samples = samples if samples.count <= most else samples.take(np.arange(most))
        self.names = tuple(self.program.outputs)
        self.sizes = np.array([int(np.prod(buffer.lengths)) for buffer in self.program.outputs.values()])
        """Numbers of each output of one sample."""
        self.units = np.array([buffer.channels for buffer in self.program.outputs.values()])
        rows = [
            (*buffer.place, output_kind(training.network.layers[name].type))
            for name, buffer in self.program.outputs.items()
        ]
        self._plan = np.array(rows, dtype=np.int64).reshape(-1, 8)
        self.kinds = self._plan[:, 7]

    def look(self, params: Array) -> NDArray[np.float64]:
        """Evaluate the samples: (outputs, 8), the sums of `kernels.statistics`."""
        from unstuck.nn.kernels.statistics import reduce_outputs

        count = self.samples.count
        self._execute(job.EVALUATE, params, self.samples, None, np.arange(count), whole=True)
        found = np.zeros((len(self.names), 8))
        reduce_outputs(self.memory, self._plan, self.program.memory_size, count, found)
        return found

    def output(self, name: str) -> Array:
        """A layer's output for the samples as they were last evaluated: (N, *shape)."""
        buffer, lanes, count = self.program.outputs[name], self.program.lanes, self.samples.count
        out = np.empty((count, *buffer.lengths), dtype=self.dtype)
        for chunk, start in enumerate(range(0, count, lanes)):
            part = out[start : start + lanes]
            part[...] = self._view(buffer, chunk)[..., : len(part)].transpose(3, 0, 1, 2)
        return out.reshape(count, *self.program.shapes[name])


def output_kind(layer_type: str) -> int:
    """What else than means is measured of a layer's output, see `kernels.statistics`."""
    from unstuck.nn.kernels import statistics

    if layer_type in PIECEWISE:
        return statistics.PIECEWISE
    return {"Sigmoid": statistics.SIGMOID, "Tanh": statistics.TANH}.get(layer_type, statistics.PLAIN)
