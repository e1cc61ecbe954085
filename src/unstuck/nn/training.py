"""A training as a value: everything that determines it except its seed; and how to run it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck import wiring
from unstuck.errors import UnstuckError
from unstuck.nn.checks import numbers, real, whole
from unstuck.nn.initialise import Initialisation
from unstuck.nn.layout import Layout
from unstuck.nn.losses import Loss
from unstuck.nn.network import Sequential, as_samples, checked_inputs
from unstuck.nn.optimisers import Optimizer
from unstuck.nn.program import Program
from unstuck.nn.runner import Samples, Schedule
from unstuck.nn.schedules import LRSchedule
from unstuck.trace.baseline import baseline_loss, class_labels

Progress = Callable[[float], None]
"""Called with the share that is done, 0..1, from the calling thread."""

CRITERIA = ("loss", "mse", "accuracy")


@dataclass(frozen=True)
class Training:
    """A network, its data and how it is trained. Immutable: `dataclasses.replace` makes a changed one.

    Args:
        network: its layers; weights it may have are ignored by `run(seeds=...)`.
        data: (inputs, targets): inputs (N, C, H, W) or (N, features); targets as the loss expects.
        loss: for example `nn.CrossEntropyLoss()`.
        optimizer: for example `nn.SGD(lr=0.1)`.
        batch_size: samples in a batch; 0, or more than there are, for all of them. The last batch of an
            epoch may be smaller.
        epochs: passes over the data.
        init: what `Initialisation.of` reads; None: PyTorch's default.
        shuffle: another order of the samples in every epoch, drawn from the seed; else the order given.
        loss_scale: factor of the gradient (not of the loss that is reported).
        frozen: names of layers or parameters that are not trained.
        success: {"loss": at most, "mse": at most, "accuracy": at least}, all on the training data, tested
            every 10 epochs and at the end; training stops when they hold. None: success is a final loss below
            half of that of the best constant prediction, and training runs to its end.
        lr_schedule: how the learning rate goes on, such as `nn.StepLR(30)`; None: it stays.
        clip_norm: gradients are scaled down before an update where their norm over all trained parameters is
            larger (as torch's `clip_grad_norm_`); None: never.
        clip_value: gradients are cut to between -clip_value and clip_value (as torch's `clip_grad_value_`).
            Clipping acts on what the optimiser sees; a recording shows the gradients before.

    Raises:
        UnstuckError: a number out of range or an unknown key of `success`.
        ShapeError, DataError: data that do not fit the network or the loss.
    """

    network: Sequential
    data: tuple[ArrayLike, ArrayLike]
    loss: Loss
    optimizer: Optimizer
    batch_size: int = 32
    epochs: int = 10
    init: object = None
    shuffle: bool = True
    loss_scale: float = 1.0
    frozen: Sequence[str] = ()
    success: Mapping[str, float] | None = None
    lr_schedule: LRSchedule | None = None
    clip_norm: float | None = None
    clip_value: float | None = None

    def __post_init__(self) -> None:
        for what, value, kind in (
            ("network", self.network, Sequential),
            ("loss", self.loss, Loss),
            ("optimizer", self.optimizer, Optimizer),
        ):
            if not isinstance(value, kind):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may pass anything
                msg = f"{what}: expected an nn.{kind.__name__}, found {value!r}"
                raise UnstuckError(msg)
        object.__setattr__(self, "epochs", whole("epochs", self.epochs, 1))
        object.__setattr__(self, "batch_size", whole("batch_size (0 means all samples)", self.batch_size, 0))
        if isinstance(self.frozen, str):
            object.__setattr__(self, "frozen", (self.frozen,))
        if real("loss_scale", self.loss_scale) <= 0:
            msg = f"loss_scale must be above 0, found {self.loss_scale!r}"
            raise UnstuckError(msg)
        self._check_update()
        self._check_success()
        names = {spec.name for spec in self.network.specs} | {spec.layer for spec in self.network.specs}
        for name in self.frozen:
            if name not in names:
                msg = f"frozen: no layer or parameter {name!r}; there are {', '.join(sorted(names))}"
                raise UnstuckError(msg)

    def _check_update(self) -> None:
        if self.lr_schedule is not None and not isinstance(self.lr_schedule, LRSchedule):  # pyright: ignore[reportUnnecessaryIsInstance]  callers may pass anything
            msg = f"lr_schedule: expected a schedule such as nn.StepLR(30), found {self.lr_schedule!r}"
            raise UnstuckError(msg)
        for name, limit in (("clip_norm", self.clip_norm), ("clip_value", self.clip_value)):
            if limit is not None and real(name, limit) <= 0:
                msg = f"{name} must be above 0, found {limit!r}"
                raise UnstuckError(msg)
        if self.clip_norm is not None and self.clip_value is not None:
            msg = f"give clip_norm or clip_value, found both ({self.clip_norm!r} and {self.clip_value!r})"
            raise UnstuckError(msg)

    def _check_success(self) -> None:
        for key in self.success or {}:
            if key not in CRITERIA:
                msg = f"success: unknown key {key!r}, expected some of {', '.join(CRITERIA)}"
                raise UnstuckError(msg)
        if self.success and "accuracy" in self.success and class_labels(self.targets) is None:
            msg = "success: accuracy was asked for, but the targets are no classes"
            raise UnstuckError(msg)

    @cached_property
    def dtype(self) -> np.dtype[np.floating]:
        """Number type: that of the network's weights, float32 when it has none."""
        return self.network.dtype if self.network.initialised else np.dtype(np.float32)

    @cached_property
    def inputs(self) -> NDArray[np.floating]:
        """The inputs, checked, (N, ...)."""
        return checked_inputs(self.data[0], self.dtype)

    @cached_property
    def targets(self) -> NDArray[np.floating | np.integer]:
        """The targets as they were given, (N, ...)."""
        return cast("Any", numbers("targets", self.data[1]))

    @cached_property
    def program(self) -> Program:
        """The network written down for these inputs, as it is trained."""
        return self.network.program(self.inputs.shape[1:], self.dtype, fused=True)

    @cached_property
    def observable(self) -> Program:
        """The same network with the output of every layer in memory."""
        return self.network.program(self.inputs.shape[1:], self.dtype)

    @cached_property
    def samples(self) -> Samples:
        """The data as the interpreter reads them."""
        return as_samples(self.inputs, self.targets, self.loss, self.program)

    @property
    def outputs(self) -> int:
        """Numbers in one sample of the network's output."""
        return int(np.prod(self.program.scores.lengths))

    @cached_property
    def half_constant(self) -> float | None:
        """Half the loss of the best constant prediction: a success without a criterion ends below it."""
        constant = baseline_loss(self.loss.type, self.targets, self.outputs)
        return None if constant is None else constant / 2

    def with_optimizer(self, optimizer: Optimizer) -> "Training":
        """The same training by another optimiser; what network and data gave already is kept."""
        twin = replace(self, optimizer=optimizer)
        kept = ("dtype", "inputs", "targets", "program", "observable", "samples", "half_constant")
        twin.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        return twin

    @property
    def layout(self) -> Layout:
        """Where the parameters stand."""
        return self.network.layout(self.dtype)

    @property
    def batch(self) -> int:
        """Samples in a full batch."""
        return min(self.batch_size or self.samples.count, self.samples.count)

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch."""
        return -(-self.samples.count // self.batch)

    @property
    def initialisation(self) -> Initialisation:
        """How weights and biases start."""
        return Initialisation.of(self.init)

    @cached_property
    def schedule(self) -> Schedule:
        """What the interpreter needs to know of the optimiser and the batches.

        Raises:
            ShapeError: a batch is too small for batch normalisation.
        """
        last = self.samples.count % self.batch or self.batch
        of_many = f", the last of {self.steps_per_epoch} in an epoch" if last < self.batch else ""
        self.program.check_batch(last, training=True, hint=f"{of_many}: choose another batch_size")
        segments = self.layout.segments(frozenset(self.frozen))
        return Schedule(
            optimizer=self.optimizer,
            batch_size=self.batch,
            loss_scale=self.loss_scale,
            clip_norm=np.inf if self.clip_norm is None else float(self.clip_norm),
            clip_value=np.inf if self.clip_value is None else float(self.clip_value),
            shuffle=self.shuffle,
            segments=segments,
        )

    def rates(self, first: int, last: int) -> NDArray[np.float64]:
        """The learning rates of the steps from `first` to before `last`."""
        steps = np.arange(first, last)
        if self.lr_schedule is None:
            return np.full(steps.size, float(self.optimizer.lr))
        count = steps // self.steps_per_epoch if self.lr_schedule.per == "epoch" else steps
        return self.lr_schedule.rates(self.optimizer.lr, count)

    def run(
        self,
        seed: int | None = None,
        *,
        seeds: Sequence[int] | None = None,
        vary: Mapping[str, Sequence[Any]] | None = None,
        record: bool = False,
        every: int | None = None,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Train one network (`seed`) or one for each of `seeds`, which may differ in more (`vary`).

        Args:
            seed: of the network.
            seeds: of the networks of an ensemble.
            vary: see `fit.run_ensemble`.
            record: whether the training is measured on the way, see `fit`.
            every: with `record`, steps whose number this divides are measured, too.
            threads: see `fit`.
            progress: called with the share that is done.

        Returns:
            A `fit.FitResult` for one network, an `ensemble.EnsembleResult` for several.

        Raises:
            UnstuckError: both seed and seeds, or `vary` without seeds or with a value that will not do.
        """
        from unstuck.nn.fit import run_ensemble, run_single

        if every is not None:
            whole("every", every, 1)
            if not record:
                msg = "run: every needs record=True"
                raise UnstuckError(msg)
        if seeds is not None:
            if record or seed is not None:
                msg = "run: give either seed (which may be recorded) or seeds, not both"
                raise UnstuckError(msg)
            return run_ensemble(self, seeds, vary=vary, threads=threads, progress=progress)
        if vary:
            msg = "run: vary needs seeds, one for each member"
            raise UnstuckError(msg)
        if record:
            seed = 0 if seed is None else seed
            return wiring.call("record_training", self, seed, progress=progress, every=every)
        return run_single(self, 0 if seed is None else seed, progress, threads)
