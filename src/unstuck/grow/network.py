"""A network that changes its shape while it is trained, its weights and the optimiser's state in step."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import ShapeError
from unstuck.grow.bodies import HEAD
from unstuck.grow.draws import fresh
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layout import aligned
from unstuck.nn.losses import CrossEntropyLoss, Loss, MSELoss
from unstuck.nn.network import Sequential, as_samples
from unstuck.nn.optimisers import GrowingAdam
from unstuck.nn.program import Program, Shape
from unstuck.nn.runner import Runner, Schedule

Array = NDArray[np.floating]
Kept = dict[str, tuple[NDArray[np.intp], ...]]
"""Where the old entries of a tensor stand in the new one: numbers along each axis."""

EVALUATED = 4096
"""Samples that are evaluated at a time, so that memory stays bounded."""


@dataclass(frozen=True)
class Snapshot:
    """All that a network is: to be stored, compared and put back."""

    values: dict[str, Array]
    moments: dict[str, dict[str, Array]]
    """By slot of the optimiser, then by parameter."""


class GrowingNetwork:
    """Layers, weights and the optimiser's state; a new shape costs no compilation.

    Args:
        layers: all of them, the head last.
        shape: of one sample.
        seed: draws the weights: each is f(seed, layer, unit, input), so that one drawn later has the bits
            that it would have had from the start.
        values: weights to start from; None: drawn.
    """

    def __init__(
        self, layers: Mapping[str, Layer], shape: Shape, seed: int, values: Mapping[str, Array] | None = None
    ) -> None:
        self.shape = shape
        self.seed = seed
        self.net = Sequential(dict(layers))
        self.net.program(shape, np.dtype(np.float32), fused=True)  # refuses layers that do not fit
        self.net.load(values if values is not None else fresh(self.net, seed), np.float32)
        self.slots = GrowingAdam().state
        self.state = aligned((len(self.slots), self.net.flat.size), self.net.dtype)
        self._runner: Runner | None = None
        self._looker: Runner | None = None

    # ---- what it is

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name."""
        return self.net.layers

    @property
    def outputs(self) -> int:
        """Units of the head."""
        head = self.layers[HEAD]
        return head.out_features if isinstance(head, Linear) else 0

    @property
    def size(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(spec.shape)) for spec in self.net.specs)

    @property
    def program(self) -> Program:
        """The network as it is trained."""
        return self.net.program(self.shape, self.net.dtype, fused=True)

    def moments(self) -> dict[str, dict[str, Array]]:
        """What the optimiser keeps, by slot and parameter: views."""
        layout = self.net.layout(self.net.dtype)
        return {slot: layout.views(self.state[i]) for i, slot in enumerate(self.slots)}

    def snapshot(self) -> Snapshot:
        """A copy of everything."""
        return Snapshot(
            {name: value.copy() for name, value in self.net.state.items()},
            {slot: {n: v.copy() for n, v in views.items()} for slot, views in self.moments().items()},
        )

    def restore(self, moments: Mapping[str, Mapping[str, Array]]) -> None:
        """Set what the optimiser keeps.

        Raises:
            ShapeError: an array of another shape.
        """
        for slot, views in self.moments().items():
            for name, view in views.items():
                if moments[slot][name].shape != view.shape:
                    raise ShapeError(
                        f"{slot} of {name!r}: found shape {moments[slot][name].shape}, expected {view.shape}"
                    )
                view[...] = moments[slot][name]

    # ---- growing

    def reshape(self, layers: Mapping[str, Layer], values: Mapping[str, Array], kept: Kept) -> None:
        """Become a network of other layers.

        Args:
            layers: the new layers.
            values: all new parameters and buffers by name.
            kept: where old entries stand, for parameters whose optimiser state goes on; all others start
                with none, and with a step count of their own.
        """
        before = self.moments()
        self.net = Sequential(dict(layers)).load(dict(values), np.float32)
        self.state = aligned((len(self.slots), self.net.flat.size), self.net.dtype)
        for slot, views in self.moments().items():
            for name, places in kept.items():
                views[name][np.ix_(*places)] = before[slot][name]
        self._runner = self._looker = None

    # ---- learning and answering

    def train(
        self,
        inputs: Array,
        targets: NDArray[np.generic],
        order: NDArray[np.int64],
        batch: int,
        rate: float,
        seed: int,
        loss: Loss | None = None,
        frozen: frozenset[str] = frozenset(),
    ) -> NDArray[np.float64]:
        """One update for each `batch` samples of `order`.

        Args:
            inputs: (N, ...) float32.
            targets: as the loss expects them.
            order: numbers of samples, in the order in which they are used.
            batch: samples in an update; the last may have fewer.
            rate: the learning rate.
            seed: of dropout's masks.
            loss: cross entropy if None.
            frozen: names of layers that are not trained.

        Returns:
            Mean loss of each batch before its update; the last is not finite if the training broke.
        """
        loss = loss or CrossEntropyLoss()
        program = self.program
        last = order.size % batch or batch
        program.check_batch(last, training=True, hint=": give more samples at a time")
        schedule = Schedule(
            optimizer=GrowingAdam(rate),
            batch_size=batch,
            loss_scale=1.0,
            clip_norm=np.inf,
            clip_value=np.inf,
            shuffle=False,
            segments=self.net.layout(self.net.dtype).segments(frozen),
        )
        if self._runner is None:
            self._runner = Runner(program, self.net.layout(self.net.dtype), self.net.dtype)
        return self._runner.train_in_order(
            order,
            self.net.flat,
            self.state,
            as_samples(inputs, targets, loss, program),
            loss,
            schedule,
            seed,
            0,
            np.full(-(-order.size // batch), rate),
        )

    def gradient(self, inputs: Array, targets: NDArray[np.generic], loss: Loss | None = None) -> Array:
        """The gradient of the mean loss (cross entropy if None), in the layout of the parameters."""
        loss, runner = loss or CrossEntropyLoss(), self._watching()
        runner.gradient(self.net.flat, as_samples(inputs, targets, loss, runner.program), loss)
        return runner.gradients

    def step(self, inputs: Array, scores: Array, slopes: Array, extra: Array | float, rate: float) -> None:
        """One update from the gradient of the loss with respect to the scores, and a further gradient.

        Args:
            inputs: (N, ...).
            scores: (N, outputs) of these inputs now.
            slopes: (N, outputs) of each sample's loss; their mean counts.
            extra: added to the gradient, in the layout of the parameters.
            rate: the learning rate.
        """
        targets = scores - slopes * (self.outputs / 2)
        g = self.gradient(inputs, targets, MSELoss()) + extra
        one = GrowingAdam(rate)
        b1, b2 = one.betas
        m, v, c1, c2 = self.state
        m += (1 - b1) * (g - m)
        v += (1 - b2) * (g * g - v)
        c1 += (1 - b1) * (1 - c1)
        c2 += (1 - b2) * (1 - c2)
        update = rate * m / (c1 * (np.sqrt(v / c2) + one.eps))
        layout = self.net.layout(self.net.dtype)
        changes, weights = layout.views(update), self.net.parameters
        for name, change in changes.items():
            weights[name][...] -= change

    def scores(self, inputs: Array) -> Array:
        """(N, outputs): the head's outputs."""
        runner = self._watching()
        read = runner.program.outputs[HEAD]
        parts = [
            runner.forward(self.net.flat, as_samples(inputs[start : start + EVALUATED]), read)
            for start in range(0, len(inputs), EVALUATED)
        ]
        return (
            np.concatenate(parts).reshape(-1, self.outputs)
            if parts
            else np.zeros((0, self.outputs), np.float32)
        )

    def _watching(self) -> Runner:
        """What looks without training: every layer's output stands in its memory."""
        if self._looker is None:
            program = self.net.program(self.shape, self.net.dtype)
            self._looker = Runner(program, self.net.layout(self.net.dtype), self.net.dtype)
        return self._looker
