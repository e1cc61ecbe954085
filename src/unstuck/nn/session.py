"""One network in training: its weights, its place in the schedule, and what it can be asked on the way."""

import threading
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.layout import aligned
from unstuck.nn.network import Sequential
from unstuck.nn.optimisers import Optimizer
from unstuck.nn.pace import Pace
from unstuck.nn.runner import WORTH_THREADS, Runner, Samples
from unstuck.nn.training import Progress, Training
from unstuck.trace.baseline import accuracy, class_labels

if TYPE_CHECKING:
    from unstuck.nn.watch import Watch

Outcome = Literal["success", "diverged", "dead", "stuck"]
Array = NDArray[np.floating]

TEST_EVERY = 10
"""Epochs between two tests of a criterion of success."""


def runner_of(training: Training) -> Runner:
    """What runs a training of one network: the same code as in an ensemble, so with the same bits."""
    from unstuck.nn.members.design import design_of
    from unstuck.nn.members.trainer import MemberRunner

    design = design_of(training)
    if design is None:
        return Runner(training.program, training.layout, training.dtype)
    return MemberRunner(training, design)


class Session:
    """A training in progress. `advance` runs updates; everything else looks and changes nothing."""

    def __init__(self, training: Training, seed: int, params: Array, runner: Runner | None = None) -> None:
        self.training = training
        self.seed = int(random.seed_array(seed))
        self.params = params
        self.state = aligned((len(training.optimizer.state), params.size), params.dtype)
        """(slots, numbers): what the optimiser keeps; zeros before the first step."""
        self.runner = runner or runner_of(training)
        self.threads = 1
        """How many may share a batch; changes no number."""
        self._observer: Runner | None = None
        self._pace = Pace(training.program.work * training.batch)
        self.step = 0
        self.losses = list[float]()
        """Loss of every step's batch, before its update."""
        self.diverged = False

    @property
    def last_step(self) -> int:
        """Updates in the whole training."""
        return self.training.epochs * self.training.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Epochs begun (all of them whole, unless the training diverged)."""
        return -(-self.step // self.training.steps_per_epoch)

    @property
    def epoch_losses(self) -> NDArray[np.float64]:
        """(epochs,): mean loss over the samples of each epoch, each before its batch's update."""
        training = self.training
        steps = np.arange(self.step)
        sizes = np.minimum(
            training.batch, training.samples.count - steps % training.steps_per_epoch * training.batch
        )
        epoch = steps // training.steps_per_epoch
        weighted = np.bincount(epoch, np.array(self.losses) * sizes)
        return weighted / np.bincount(epoch, sizes)

    def fork(self, optimizer: Optimizer) -> "Session":
        """A copy that goes on from here with other numbers of the optimiser; the original is not touched.

        Raises:
            UnstuckError: the other optimiser keeps other arrays than the one that filled them.
        """
        kept, wanted = self.training.optimizer.state, optimizer.state
        if kept != wanted:
            msg = (
                f"cannot go on with {optimizer!r}: it needs {', '.join(wanted)}, there are {', '.join(kept)}"
            )
            raise UnstuckError(msg)
        twin = Session(self.training.with_optimizer(optimizer), self.seed, self.params.copy())
        twin.state[...] = self.state
        twin.step = self.step
        twin.losses = list(self.losses)
        return twin

    def advance(self, to_step: int) -> None:
        """Train up to before the given step, or until the loss is not finite."""
        while self.step < to_step and not self.diverged:
            self.advance_slice(to_step)

    def advance_slice(self, to_step: int, watch: "Watch | None" = None) -> None:
        """Train towards the given step for some tenths of a second, one step at least.

        `watch`: what watches the steps, if the runner can be watched; what it finds is to be read after each
        slice.
        """
        if self.diverged or to_step <= self.step:
            return
        least = WORTH_THREADS if self.threads > 1 else 1  # threads hear Ctrl-C by themselves
        end = min(to_step, self.step + max(least, self._pace.steps))
        self._pace.take(lambda: self._train(end, watch))

    def _train(self, to_step: int, watch: "Watch | None") -> int:
        """Train up to before the given step in one go; how many steps were made."""
        losses = self.runner.train(
            self.params,
            self.state,
            self.training.samples,
            self.training.loss,
            self.training.schedule,
            self.seed,
            self.step,
            self.training.rates(self.step, to_step),
            self.threads,
            watch,
        )
        self.diverged = losses.size > 0 and not np.isfinite(losses[-1])
        self.losses += losses.tolist()
        self.step += losses.size
        return losses.size

    def full_loss(self) -> float:
        """Mean loss over all training samples at the present weights."""
        return self.runner.loss(self.params, self.training.samples, self.training.loss)

    def activations(self, samples: Samples) -> dict[str, Array]:
        """Output of every layer for some samples at the present weights, by name: (N, ...)."""
        training = self.training
        if self._observer is None:
            self._observer = Runner(training.observable, training.layout, self.params.dtype)
        values = self._observer.activations(self.params, samples)
        return {name: value.reshape(-1, *training.observable.shapes[name]) for name, value in values.items()}

    def outputs(self) -> Array:
        """Outputs of the network for all training samples, (N, outputs)."""
        program = self.training.program
        out = self.runner.forward(self.params, self.training.samples, program.scores)
        return out.reshape(out.shape[0], -1)

    def accuracy(self) -> float | None:
        """Share of training samples classified right; None when the targets are no classes."""
        labels = class_labels(self.training.targets)
        return None if labels is None else accuracy(self.outputs(), labels, self.training.loss.type)

    def succeeded(self, final_loss: float) -> bool:
        """Whether the training's criterion holds at the present weights."""
        training = self.training
        if not np.isfinite(final_loss):
            return False
        if training.success is None:
            return training.half_constant is not None and final_loss < training.half_constant
        values = {"loss": final_loss}
        if "mse" in training.success:
            targets = training.samples.targets.reshape(training.samples.count, -1)
            if targets.shape[1] != training.outputs:
                targets = np.eye(training.outputs)[targets[:, 0].astype(np.int64)]
            values["mse"] = float(np.mean((self.outputs().astype(np.float64) - targets) ** 2))
        if training.success.get("accuracy") is not None:
            right = self.accuracy()
            if right is None or right < training.success["accuracy"]:
                return False
        return all(values[key] <= bound for key, bound in training.success.items() if key != "accuracy")

    def outcome(self, final_loss: float) -> Outcome:
        """How the training ended."""
        if self.diverged or not np.isfinite(final_loss) or not np.isfinite(self.params).all():
            return "diverged"
        if self.succeeded(final_loss):
            return "success"
        return "dead" if self._dead() else "stuck"

    def network(self) -> Sequential:
        """The network with a copy of the present weights."""
        layers = self.training.network.layers
        values = self.training.layout.all_views(self.params)
        return Sequential(dict(layers)).load(values, self.params.dtype.type)

    def _dead(self) -> bool:
        """Whether an output is, or all units of a layer are, inactive on all data."""
        training, program = self.training, self.training.program
        names = list(training.network.layers)
        for name, layer in training.network.layers.items():
            if layer.type != "ReLU":
                continue
            out = self.runner.forward(self.params, training.samples, program.outputs[name])
            silent = (out == 0).all(axis=(0, 2, 3))
            if silent.all() or (name == names[-1] and silent.any()):
                return True
        return False


def train_on(session: Session, stop: threading.Event, progress: Progress | None = None) -> None:
    """Train to the end in short slices, testing every ten epochs, until `stop` is set."""
    between = TEST_EVERY * session.training.steps_per_epoch
    while session.step < session.last_step and not session.diverged and not stop.is_set():
        test = min((session.step // between + 1) * between, session.last_step)
        session.advance_slice(test)
        if progress is not None:
            progress(session.step / session.last_step)
        tested = session.step == test or session.diverged
        if tested and session.training.success is not None and session.succeeded(session.full_loss()):
            return
