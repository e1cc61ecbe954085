"""Writes down what a growing network does, as a trace: accuracy by age of classes, growth, optimiser state.

Some samples of every class are set aside to be looked at (they are still trained on). A class is "present"
in a call of `partial_fit` that has samples of it, and "earlier" if it came before but is not present.
"""

import numpy as np
from numpy.typing import NDArray

from unstuck.grow.bodies import HEAD
from unstuck.grow.memory import Memory
from unstuck.grow.network import Array, GrowingNetwork
from unstuck.grow.penalties import cross_entropy
from unstuck.grow.widen import consumer, growable
from unstuck.nn.optimisers import GrowingAdam
from unstuck.trace.baseline import baseline_loss
from unstuck.trace.recording import Meta, Recording

WATCHED = 400
"""Samples that are looked at, over all classes."""


class Recorder:
    """Measures at the end of every pass; a look changes nothing.

    Args:
        seed: decides which samples are looked at.
    """

    def __init__(self, seed: int) -> None:
        meta = Meta(
            kind="engine",
            name="CNNClassifier",
            loss="CrossEntropyLoss",
            optimizer="Adam",
            task="classification",
            grows=True,
        )
        self.recording = Recording(meta=meta)
        self.recording.meta.complete = True
        self._watched = Memory(WATCHED, seed)
        self._updates = 0
        self._present = np.zeros(0, np.int64)
        self._best = np.zeros(0)
        self._widths = dict[str, int]()
        self._norm = 0.0
        self._begun = False

    def begin(self, network: GrowingNetwork, inputs: Array, units: NDArray[np.int64], kept: int) -> None:
        """A call of fit or partial_fit, before its first update; `kept` samples are in the memory."""
        self.recording.add(max(self._updates - 1, 0), "", "kept_samples", kept)
        self._watched.add(inputs, units)
        self._present = np.unique(units)
        self._remember_widths(network)
        if not self._begun:
            self._begun = True
            self._describe(network)
            self._losses(network)

    def grew(self, network: GrowingNetwork) -> None:
        """The network has just become larger."""
        self._remember_widths(network)
        if self._norm > 0:
            self.recording.add(self._updates, "", "state_kept", state_norm(network) / self._norm)
        self._describe(network)

    def passed(self, network: GrowingNetwork, loss: float, updates: int, rate: float) -> None:
        """A pass over the samples is made."""
        self._updates += updates
        run, step = self.recording, self._updates - 1
        run.add(step, "", "loss", loss)
        run.add(step, "", "lr", rate)
        self._norm = state_norm(network)
        self._losses(network)
        for name in growable(network):
            self._grown(network, name, step)

    def end(self, network: GrowingNetwork) -> None:
        """A call is over: what each class reached counts as known."""
        self._losses(network)  # once more: a correction of the weights comes behind the last pass
        units = self._watched.units
        guesses = self._scores(network).argmax(axis=1)
        count = max(len(self._best), network.outputs)
        best = np.zeros(count)
        best[: len(self._best)] = self._best
        for unit in np.unique(units):
            own = units == unit
            taken = (guesses[~own] == unit).mean() if not own.all() else 0.0
            best[unit] = max(best[unit], (guesses[own] == unit).mean() - taken)
        self._best = best
        self._norm = state_norm(network)

    def _describe(self, network: GrowingNetwork) -> None:
        self.recording.structure = network.net.structure(network.shape, "CrossEntropyLoss")
        self.recording.meta.n_classes = network.outputs

    def _remember_widths(self, network: GrowingNetwork) -> None:
        for name, layer in network.layers.items():
            if name != HEAD and "weight" in layer.parameters():
                self._widths.setdefault(name, layer.parameters()["weight"][0])

    def _scores(self, network: GrowingNetwork) -> Array:
        samples = self._watched.samples
        return network.scores(samples) if samples is not None else np.zeros((0, network.outputs))

    def _losses(self, network: GrowingNetwork) -> None:
        """Loss and accuracy over the watched samples, apart for present and earlier classes."""
        step, units, scores = max(self._updates - 1, 0), self._watched.units, self._scores(network)
        guesses = scores.argmax(axis=1)
        values: dict[str, float | None] = {
            "full_loss": cross_entropy(scores, units, None),
            "baseline_loss": baseline_loss("CrossEntropyLoss", units, network.outputs),
            "accuracy": float((guesses == units).mean()),
        }
        new = np.isin(np.arange(network.outputs), self._present)
        now = new[units]
        if now.any() and not now.all():
            values |= {
                "new_accuracy": float((guesses == units)[now].mean()),
                "new_apart": _accuracy(np.where(new, scores, -np.inf), units, now),
                "new_norm": _row_norm(network, new),
            }
            known = ~now & (units < len(self._best))
            if known.any():
                values |= {
                    "earlier_accuracy": float((guesses == units)[known].mean()),
                    "earlier_apart": _accuracy(np.where(new, -np.inf, scores), units, known),
                    "earlier_best": float(self._best[units[known]].mean()),
                    "earlier_lost": float(new[guesses[known]].mean()),
                }
        self.recording.add_row(step, "", values)

    def _grown(self, network: GrowingNetwork, name: str, step: int) -> None:
        """Units that were added: whether a gradient ever came, and how many updates the youngest had."""
        moments = network.moments()
        squares, ages = moments["exp_avg_sq"], moments["correction2"]
        width = network.layers[name].parameters()["weight"][0]
        added = width - self._widths.get(name, width)
        if added == 0:
            return
        reader = squares[f"{consumer(network, name)}.weight"]
        seen = squares[f"{name}.weight"][-added:].reshape(added, -1).any(axis=1)
        seen |= reader.reshape(reader.shape[0], width, -1)[:, -added:].any(axis=(0, 2))
        youngest = float(ages[f"{name}.weight"][-added:].reshape(added, -1).max(axis=1).min())
        beta = GrowingAdam().betas[1]
        age = np.log1p(-min(youngest, 1 - 1e-7)) / np.log(beta)
        self.recording.add_row(
            step,
            name,
            {"grown_units": float(added), "grown_idle": float(1 - seen.mean()), "grown_age": float(age)},
        )


def state_norm(network: GrowingNetwork) -> float:
    """Norm of Adam's second moments: what the optimiser knows of the sizes of gradients."""
    squares = network.moments()["exp_avg_sq"]
    return float(np.sqrt(sum(float(np.vdot(value, value)) for value in squares.values())))


def _accuracy(scores: Array, units: NDArray[np.int64], chosen: NDArray[np.bool_]) -> float:
    return float((scores.argmax(axis=1) == units)[chosen].mean())


def _row_norm(network: GrowingNetwork, new: NDArray[np.bool_]) -> float | None:
    norms = np.linalg.norm(network.net.parameters[f"{HEAD}.weight"], axis=1)
    return float(norms[new].mean() / norms[~new].mean()) if (~new).any() and norms[~new].any() else None
