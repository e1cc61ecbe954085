"""What learns from a stream: network, classes, memory, and how the samples of each call are used."""

from typing import Any, Literal, get_args

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
from unstuck.grow.widen import add_outputs
from unstuck.nn.checks import real, whole
from unstuck.nn.layers.linear import Linear

Strategy = Literal["replay", "naive", "gdumb", "joint"]
Growth = Literal["outputs", "auto"]
Array = NDArray[Any]


class Settings(msgspec.Struct, frozen=True):
    """How a stream is learned."""

    memory: int = 0
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    strategy: Strategy = "replay"
    growth: Growth = "outputs"

    @property
    def budget(self) -> int:
        """Samples that the memory may hold."""
        return 2**62 if self.strategy == "joint" else self.memory

    def check(self) -> None:
        """Refuse numbers out of range and words that mean nothing.

        Raises:
            UnstuckError: names the argument, what was found and what was expected.
        """
        whole("memory", self.memory, 0)
        whole("epochs", self.epochs, 1)
        whole("batch_size", self.batch_size, 1)
        if real("learning_rate", self.learning_rate) <= 0:
            raise UnstuckError(f"learning_rate must be above 0, found {self.learning_rate!r}")
        for name, kind in (("strategy", Strategy), ("growth", Growth)):
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(map(repr, get_args(kind)))
                raise UnstuckError(f"{name}: expected one of {known}, found {getattr(self, name)!r}")
        if self.strategy == "gdumb" and self.memory == 0:
            raise UnstuckError(
                "strategy 'gdumb' learns from the memory alone: expected memory above 0, found 0"
            )


class GrowthStep(msgspec.Struct, frozen=True):
    """One decision to grow, with what it was made on."""

    call: int
    """Which call of fit or partial_fit, from 1 on."""
    what: str
    """"outputs", "units" or "layer"."""
    layer: str
    count: int
    """New units."""
    parameters: int
    """Weights and biases of the network after it."""
    evidence: dict[str, Any]


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
        self.calls = 0
        self.passes = 0
        """Epochs made in the learner's life; each has an order of its own."""
        self.losses = list[float]()
        """Mean loss of every epoch."""
        self.growth = list[GrowthStep]()

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
        self.meet(labels)
        units = self.classes.units(labels)
        compact = x.astype(np.float32) if x.dtype == np.float64 else x
        if self.settings.strategy in {"gdumb", "joint"}:
            self.memory.add(compact, units)
            self._begin_again()
            kept, units = self._kept()
            self._train(kept, units, epochs)
        else:
            self._train(inputs, units, epochs, replay=self.settings.strategy == "replay")
            self.memory.add(compact, units)

    def meet(self, labels: Array) -> None:
        """Make room for the classes that are new."""
        new = self.classes.learn(labels)
        if new == 0:
            return
        if self.network is None:
            self.network = self._network(new)
        else:
            add_outputs(self.network, new)
        names = self.classes.names[-new:].tolist()
        self.growth.append(GrowthStep(self.calls, "outputs", HEAD, new, self.net.size, {"new labels": names}))

    @property
    def net(self) -> GrowingNetwork:
        """The network; there is one as soon as a class came."""
        if self.network is None:
            raise UnstuckError("no class has come yet: nothing to answer with")
        return self.network

    def _network(self, outputs: int) -> GrowingNetwork:
        features = self.form.shape[0]
        if self.body:
            from unstuck.nn.compiler import output_shapes

            features = list(output_shapes(self.body, self.form.shape).values())[-1][0]
        layers = self.body | {HEAD: Linear(features, outputs)}
        return GrowingNetwork(layers, self.form.shape, self.seed)

    def _begin_again(self) -> None:
        """The same network as new, with all its classes."""
        self.network = self._network(len(self.classes))

    def _kept(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The memory as the network reads it."""
        samples = self.memory.samples
        if samples is None:
            return np.zeros((0, *self.form.shape), np.float32), np.zeros(0, np.int64)
        return self.form.prepare(samples), self.memory.units

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
            self.passes += 1
            self.losses.append(float(losses.mean()))
            if not np.isfinite(losses[-1]):
                raise UnstuckError(
                    f"training broke: the loss is {losses[-1]} in pass {self.passes}; "
                    f"try a learning_rate below "
                    f"{self.settings.learning_rate:g}, and look at the range of the samples"
                )

    def _full(self, order: orders.Order, batch: int) -> orders.Order:
        """Fill up a last batch of one, of which batch normalisation can learn nothing."""
        alone = self.net.program.statistics and order.size % batch == 1 and order.size > 1
        return np.concatenate([order, order[:1]]) if alone else order

    # ---- answering

    def scores(self, x: Array) -> NDArray[np.floating]:
        """(N, classes): scores, in the order of the sorted classes."""
        return self.net.scores(self.form.prepare(x))[:, self.classes.by_name]
