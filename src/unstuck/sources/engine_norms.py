"""What is measured of the engine's batch normalisations, read off how the running statistics move."""

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.layers.normalisation import BatchNorm
from unstuck.nn.training import Training
from unstuck.trace.norms import norm_gaps
from unstuck.trace.recording import Recording

Array = NDArray[np.floating]


class Norms:
    """Follows the running statistics: running' = (1 - m) running + m batch tells the batch's."""

    def __init__(self, recording: Recording, training: Training) -> None:
        """Nothing is measured yet.

        Args:
            recording: where the rows go.
            training: that is watched.
        """
        self._recording, self._training = recording, training
        self._layers = {
            name: layer
            for name, layer in training.network.layers.items()
            if isinstance(layer, BatchNorm) and layer.track_running_stats
        }

    def step(self, step: int, before: Array, after: Array) -> None:
        """One step: the running statistics before and after it.

        Args:
            step: its number.
            before: all parameters before it, flat.
            after: the same after it.
        """
        self._recording.add(step, "", "eval_mode", 0.0)
        if not self._layers:
            return
        old, new = (self._training.layout.all_views(params) for params in (before, after))
        for name, layer in self._layers.items():
            batches = _count(new, name)
            if batches == _count(old, name):
                continue
            values = self._values(step, name)
            self._recording.add_row(step, name, {"norm_batches": batches, "norm_values": values})
            part = 1 / batches if layer.momentum is None else float(layer.momentum)
            if part <= 0:
                continue
            mean = _batch(old[f"{name}.running_mean"], new[f"{name}.running_mean"], part)
            var = _batch(old[f"{name}.running_var"], new[f"{name}.running_var"], part)
            biased = var * (1 - 1 / values)  # the running variance is of the unbiased kind
            running = (new[f"{name}.{of}"].astype(np.float64) for of in ("running_mean", "running_var"))
            self._recording.add_row(step, name, norm_gaps(mean, biased, *running, eps=layer.eps))

    def _values(self, step: int, name: str) -> float:
        """Numbers that each mean of a step's batch is taken over."""
        training = self._training
        begun = step % training.steps_per_epoch * training.batch
        samples = min(training.batch, training.samples.count - begun)
        return float(samples * int(np.prod(training.program.shapes[name][1:])))


def _batch(old: Array, new: Array, part: float) -> NDArray[np.float64]:
    """What a batch added to a running mean."""
    return (new.astype(np.float64) - (1 - part) * old.astype(np.float64)) / part


def _count(values: dict[str, Array], name: str) -> float:
    """Batches that the running statistics of a layer took in."""
    return float(values[f"{name}.num_batches_tracked"].reshape(-1)[0])
