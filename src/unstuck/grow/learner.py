"""What learns from a stream: network, classes, memory, and how the samples of each call are used."""

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.grow import orders
from unstuck.grow.bodies import HEAD, body
from unstuck.grow.inputs import Form
from unstuck.grow.labels import Classes
from unstuck.grow.memory import Memory
from unstuck.grow.network import GrowingNetwork
from unstuck.grow.penalties import Elastic, cross_entropy, elastic, refuse_noise, slope
from unstuck.grow.plateau import Plateau, grow_at, plateau
from unstuck.grow.settings import GrowthStep, Settings
from unstuck.grow.widen import How, add_outputs, widen
from unstuck.nn.compiler import output_shapes
from unstuck.nn.layers.linear import Linear

if TYPE_CHECKING:
    from unstuck.grow.recorder import Recorder

Array = NDArray[Any]

LOOK = 256
"""Samples whose gradient is looked at when the loss stays where it is."""
MOST_PASSES = 256
"""Passes over a memory from the start, unless more were asked for: as in GDumb."""


class Learner:
    """A network on a stream.

    Args:
        settings: how it learns.
        given: the layers that the user wants, or None.
        form: what a sample looks like.
        seed: decides weights, orders and what the memory keeps.
    """

    def __init__(self, settings: Settings, given: Any, form: Form, seed: int) -> None:
        self.settings = settings
        self.form = form
        self.seed = seed
        self.body = body(given, form.shape)
        self.classes = Classes()
        self.memory = Memory(settings.budget, seed)
        self.network: GrowingNetwork | None = None
        self.elastic: Elastic | None = None
        self.recorder: Recorder | None = None
        self.calls = 0
        self.passes = 0
        """Epochs made in the learner's life; each has an order of its own."""
        self.losses = list[float]()
        """Mean loss of every epoch."""
        self.growth = list[GrowthStep]()
        self.since = 0
        """Number of losses at the last growth: a plateau is looked for behind it."""
        self.plateaus = list[Plateau]()
        """At which a hidden part grew, since the last new class."""

    # ---- learning

    def learn(self, x: Array, labels: Array, epochs: int) -> None:
        """Learn from some samples, whose labels may never have been seen.

        Args:
            x: (N, ...) as the user gave them, at least one.
            labels: (N,), checked.
            epochs: passes over them.

        Raises:
            ShapeError, DataError: samples that do not have the form of the first ones.
            UnstuckError: the loss is not finite any more.
        """
        inputs = self.form.prepare(x)
        self.calls += 1
        teacher = self.network.outputs if self.network else 0
        scores = self.net.scores(inputs) if teacher and self.settings.strategy == "lwf" else None
        self.meet(labels)
        units = self.classes.units(labels)
        compact = x.astype(np.float32) if x.dtype == np.float64 else x
        if self.recorder is not None:
            self.recorder.begin(self.net, inputs, units, len(self.memory))
        if self.settings.strategy in {"gdumb", "joint"}:
            self.memory.add(compact, units)
            self.network = self._network(len(self.classes))  # from the start
            kept, known = self._kept()
            self._train(kept, known, self._passes(epochs))
        elif scores is not None or self._by_hand(units):
            self._train_by_hand(inputs, units, epochs, scores)
            self.memory.add(compact, units)
        else:
            self._train(inputs, units, epochs, replay=self.settings.strategy == "replay")
            self.memory.add(compact, units)
        if self.settings.strategy == "ewc":
            self.elastic = elastic(self.net, inputs, units, self.elastic)
        if self.settings.bias_correction == "weights":
            self._align(units)
        if self.recorder is not None:
            self.recorder.end(self.net)

    def meet(self, labels: Array) -> None:
        """Make room for the classes that are new."""
        new = self.classes.learn(labels)
        if new == 0:
            return
        if self.network is None:
            self.network = self._network(new)
        else:
            add_outputs(self.network, new)
            if self.recorder is not None:
                self.recorder.grew(self.network)
        names = self.classes.names[-new:].tolist()
        self._grew("outputs", HEAD, new, {"new labels": names})
        self.plateaus.clear()

    def widen(self, layer: str, count: int, how: How, evidence: dict[str, Any]) -> None:
        """Give a hidden layer more units, and tell so."""
        widen(self.net, layer, count, how)
        self._hidden_grew("units", layer, count, evidence)

    @property
    def net(self) -> GrowingNetwork:
        """The network; there is one as soon as a class came."""
        if self.network is None:
            raise UnstuckError("no class has come yet: nothing to answer with")
        return self.network

    def _network(self, outputs: int) -> GrowingNetwork:
        shapes = output_shapes(self.body, self.form.shape) if self.body else {"": self.form.shape}
        features = list(shapes.values())[-1][0]
        return GrowingNetwork(self.body | {HEAD: Linear(features, outputs)}, self.form.shape, self.seed)

    def _grew(self, what: str, layer: str, count: int, evidence: dict[str, Any]) -> None:
        self.growth.append(GrowthStep(self.calls, what, layer, count, self.net.size, evidence))
        self.since = len(self.losses)

    def _hidden_grew(self, what: str, layer: str, count: int, evidence: dict[str, Any]) -> None:
        self.body = {name: one for name, one in self.net.layers.items() if name != HEAD}
        self._grew(what, layer, count, evidence)
        if self.recorder is not None:
            self.recorder.grew(self.net)

    def _kept(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The memory as the network reads it."""
        samples = self.memory.samples
        if samples is None:
            return np.zeros((0, *self.form.shape), np.float32), np.zeros(0, np.int64)
        return self.form.prepare(samples), self.memory.units

    def _passes(self, epochs: int) -> int:
        """Passes over a memory that make as many updates as passes over all that came would."""
        times = int(self.memory.seen.sum()) // max(1, len(self.memory))
        return min(epochs * times, max(epochs, MOST_PASSES))

    def _train(
        self, inputs: NDArray[np.float32], units: NDArray[np.int64], epochs: int, *, replay: bool = False
    ) -> None:
        """Pass over samples, with a batch from the memory beside every batch of them."""
        count, batch, each = len(inputs), min(self.settings.batch_size, len(inputs)), 0
        if replay and len(self.memory):
            kept, old = self._kept()
            inputs, units = np.concatenate([inputs, kept]), np.concatenate([units, old])
            each = min(self.settings.batch_size, len(kept))
        for _ in range(epochs):
            order = orders.shuffled(self.seed, self.passes, count)
            if each:
                steps = -(-count // batch)
                old = orders.replayed(self.seed, self.passes, len(self.memory), steps * each)
                order = orders.beside(order, count + old, batch)
            order = self._full(order, batch + each)
            seed = (self.seed + (self.passes << 32)) % 2**64
            losses = self.net.train(inputs, units, order, batch + each, self.settings.learning_rate, seed)
            self._passed(float(losses.mean()), losses.size)
            if self.settings.growth == "auto":
                self._grow_if_stuck(inputs[order[:LOOK]], units[order[:LOOK]])

    def _train_by_hand(
        self, inputs: NDArray[np.float32], units: NDArray[np.int64], epochs: int, teacher: Array | None
    ) -> None:
        """Pass over samples with a gradient that the losses of the engine do not have."""
        refuse_noise(self.net, f"strategy {self.settings.strategy!r}" if teacher is not None else "masked")
        present = None
        if self.settings.masked:
            present = np.isin(np.arange(self.net.outputs), units)
        for _ in range(epochs):
            order = orders.shuffled(self.seed, self.passes, len(inputs))
            losses = list[float]()
            for start in range(0, len(order), self.settings.batch_size):
                part = order[start : start + self.settings.batch_size]
                scores = self.net.scores(inputs[part])
                losses.append(cross_entropy(scores, units[part], present))
                d = slope(scores, units[part], present, None if teacher is None else teacher[part])
                extra = 0.0 if self.elastic is None else self.elastic.gradient(self.net)
                self.net.step(inputs[part], scores, d, extra, self.settings.learning_rate)
            self._passed(float(np.mean(losses)), len(losses))

    def _by_hand(self, units: NDArray[np.int64]) -> bool:
        """Whether the engine's own losses will not do."""
        absent = len(np.unique(units)) < self.net.outputs
        return self.elastic is not None or (self.settings.masked and absent and not len(self.memory))

    def _passed(self, loss: float, updates: int) -> None:
        self.passes += 1
        self.losses.append(loss)
        if not np.isfinite(loss):
            raise UnstuckError(
                f"training broke: the loss is {loss} in pass {self.passes}; try a learning_rate below "
                f"{self.settings.learning_rate:g}, and look at the range of the samples"
            )
        if self.recorder is not None:
            self.recorder.passed(self.net, loss, updates, self.settings.learning_rate)

    def _grow_if_stuck(self, inputs: Array, units: NDArray[np.int64]) -> None:
        found = plateau(self.losses[self.since :], self.net, inputs, units)
        if found is not None:
            what, layer, count = grow_at(self.net, found, self.plateaus)
            self.plateaus.append(found)
            self._hidden_grew(what, layer, count, msgspec.to_builtins(found))

    def _full(self, order: orders.Order, batch: int) -> orders.Order:
        """Fill up a last batch of one, of which batch normalisation can learn nothing."""
        alone = self.net.program.statistics and order.size % batch == 1 and order.size > 1
        return np.concatenate([order, order[:1]]) if alone else order

    def _align(self, units: NDArray[np.int64]) -> None:
        """Scale the head's rows of the present classes to the mean norm of the others.

        References:
            Zhao, Xiao, Gan, Zhang & Xia (2020), "Maintaining discrimination and fairness in class incremental
            learning", CVPR, arXiv:1911.07053.
        """
        weight = self.net.net.parameters[f"{HEAD}.weight"]
        present = np.isin(np.arange(len(weight)), units)
        norms = np.linalg.norm(weight, axis=1)
        if present.all() or not norms[present].any():
            return
        weight[present] *= np.float32(norms[~present].mean() / norms[present].mean())

    # ---- answering

    def scores(self, x: Array) -> NDArray[np.floating]:
        """(N, classes): scores, in the order of the sorted classes."""
        return self.net.scores(self.form.prepare(x))[:, self.classes.by_name]
