"""Runs a program: owns the memory of one thread and hands everything to the compiled interpreter."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.kernels import build, job, machine, operations, share
from unstuck.nn.layout import Layout, aligned
from unstuck.nn.losses import Loss
from unstuck.nn.optimisers import Optimizer
from unstuck.nn.program import Buffer, Program

if TYPE_CHECKING:
    from unstuck.nn.watch import Watch

Array = NDArray[np.floating]

WORTH_THREADS = 4
"""Steps from which on it is worth while to start threads."""


@dataclass(frozen=True)
class Samples:
    """Inputs and targets as the interpreter reads them: flat, in the network's number type."""

    inputs: Array
    targets: Array
    target_size: int
    count: int

    def take(self, indices: NDArray[np.intp]) -> "Samples":
        """Some of the samples, in the order of `indices`."""
        inputs = self.inputs.reshape(self.count, -1)[indices].reshape(-1)
        targets = self.targets.reshape(self.count, -1)[indices].reshape(-1)
        return Samples(inputs, targets, self.target_size, len(indices))


@dataclass(frozen=True)
class Schedule:
    """What a training needs besides its network and data."""

    optimizer: Optimizer
    batch_size: int
    loss_scale: float
    clip_norm: float
    clip_value: float
    """Infinite where gradients are not clipped."""
    shuffle: bool
    segments: NDArray[np.int64]


class Runner:
    """The memory for one program. Not to be used by two threads at once; it may itself use several."""

    watches = True
    """Whether steps can be watched from inside (`nn.watch`)."""

    def __init__(self, program: Program, layout: Layout, dtype: np.dtype[np.floating]) -> None:
        self.program = program
        self.layout = layout
        self.dtype = dtype
        self.memory = aligned(program.memory_size, dtype)
        self.gradients = aligned(layout.size, dtype)
        self._parts = self.gradients
        """The gradients of all parts of a batch, one after another; the first become those of all."""
        self._others = list[Array]()
        """Memory of the other threads."""

    def forward(self, params: Array, samples: Samples, read: Buffer) -> Array:
        """Evaluate all samples; the values of the buffer `read`: (N, channels, lines, positions)."""
        out = np.zeros((samples.count, *read.lengths), dtype=self.dtype)
        self._execute(job.EVALUATE, params, samples, None, np.arange(samples.count), read=read, out=out)
        return out

    def activations(self, params: Array, samples: Samples) -> dict[str, Array]:
        """Output of every layer for all samples: (N, channels, lines, positions) by the layer's name."""
        program, lanes = self.program, self.program.lanes
        together = samples.count if program.whole(training=False) else lanes
        out = {
            name: np.empty((samples.count, *buffer.lengths), dtype=self.dtype)
            for name, buffer in program.outputs.items()
        }
        for first in range(0, samples.count, together):
            order = np.arange(first, min(first + together, samples.count))
            self._execute(job.EVALUATE, params, samples, None, order)
            for chunk, start in enumerate(range(0, order.size, lanes)):
                part = order[start : start + lanes]
                for name, buffer in program.outputs.items():
                    out[name][part] = self._view(buffer, chunk)[..., : part.size].transpose(3, 0, 1, 2)
        return out

    def _view(self, buffer: Buffer, chunk: int) -> Array:
        """A buffer of a chunk in memory as an array (channels, lines, positions, lanes)."""
        strides = [step * self.dtype.itemsize for step in (*buffer.strides, 1)]
        shape = (*buffer.lengths, self.program.lanes)
        start = self.memory[chunk * self.program.memory_size + buffer.offset :]
        return np.lib.stride_tricks.as_strided(start, shape, strides, writeable=False)

    def _make_room(self, samples: int) -> None:
        """Memory for all chunks of a batch."""
        size = -(-samples // self.program.lanes) * self.program.memory_size
        if self.memory.size < size:
            self.memory = aligned(size, self.dtype)

    def loss(self, params: Array, samples: Samples, loss: Loss) -> float:
        """Mean loss over all samples."""
        total = self._execute(job.EVALUATE, params, samples, loss, np.arange(samples.count))
        return float(total[0]) / self._divisor(loss, samples.count)

    def evaluate(self, params: Array, samples: Samples, loss: Loss) -> tuple[float, Array]:
        """Mean loss over all samples, and the network's outputs: (N, channels, lines, positions)."""
        read = self.program.scores
        out = np.zeros((samples.count, *read.lengths), dtype=self.dtype)
        order = np.arange(samples.count)
        total = self._execute(job.EVALUATE, params, samples, loss, order, read=read, out=out)
        return float(total[0]) / self._divisor(loss, samples.count), out

    def gradient(
        self,
        params: Array,
        samples: Samples,
        loss: Loss,
        order: NDArray[np.int64] | None = None,
        masks: tuple[int, int] | None = None,
    ) -> float:
        """Mean loss over the samples of `order` (default: all); its gradient is left in `self.gradients`.

        `masks`: seed and step of dropout's; None: everything passes.
        """
        order = np.arange(samples.count) if order is None else order
        total = self._execute(job.ACCUMULATE, params, samples, loss, order, masks=masks)
        return float(total[0]) / self._divisor(loss, order.size)

    def train(
        self,
        params: Array,
        state: Array,
        samples: Samples,
        loss: Loss,
        schedule: Schedule,
        seed: int,
        first: int,
        rates: NDArray[np.float64],
        threads: int = 1,
        watch: "Watch | None" = None,
    ) -> NDArray[np.float64]:
        """Run one step for each of `rates`, from step `first` on; changes `params` and `state` in place.

        Args:
            params: the network's parameters.
            state: what the optimiser keeps, (slots, numbers); zeros before step 0.
            samples: all of the training set.
            loss: what is made small.
            schedule: optimiser and batches.
            seed: decides the order of the samples.
            first: number of the first step.
            rates: the learning rate of each step.
            threads: how many may share a batch, if it is worth it. Changes no number.
            watch: what watches the steps and keeps what it finds; changes no number.

        Returns:
            Mean loss of each step's batch before its update; fewer than asked for when a loss was not finite,
            which then is the last.
        """
        order = np.arange(samples.count)
        return self.train_in_order(
            order, params, state, samples, loss, schedule, seed, first, rates, threads=threads, watch=watch
        )

    def train_in_order(
        self,
        order: NDArray[np.int64],
        params: Array,
        state: Array,
        samples: Samples,
        loss: Loss,
        schedule: Schedule,
        seed: int,
        first: int,
        rates: NDArray[np.float64],
        *,
        threads: int = 1,
        watch: "Watch | None" = None,
    ) -> NDArray[np.float64]:
        """As `train`, with an epoch made of the samples whose numbers are in `order`, some perhaps twice.

        A schedule that shuffles shuffles `order` in place.
        """
        told = np.zeros(job.FIELDS, dtype=np.int64)
        told[job.BATCH] = schedule.batch_size
        told[job.FIRST_STEP], told[job.LAST_STEP] = first, first + rates.size
        told[job.SHUFFLE] = schedule.shuffle
        told[job.MASKING] = 1
        told[job.RULE] = build.addresses([operations.UPDATES[schedule.optimizer.rule]], self.dtype.itemsize)[
            0
        ]
        told[job.PARTS] = parts = self.program.parts(schedule.batch_size)
        self._divide(parts)
        losses = np.zeros(rates.size)
        scale, clips = schedule.loss_scale, (schedule.clip_norm, schedule.clip_value)
        made = self._call(
            job.TRAIN,
            told,
            np.array([scale, *clips, *schedule.optimizer.numbers]),
            rates,
            seed,
            schedule.segments,
            params,
            state.reshape(-1),
            samples,
            loss,
            order,
            losses,
            threads=min(threads, parts) if rates.size >= WORTH_THREADS else 1,
            watch=watch,
        )
        per_epoch = -(-order.size // schedule.batch_size)
        place = np.arange(first, first + made) % per_epoch
        sizes = np.minimum(schedule.batch_size, order.size - place * schedule.batch_size)
        return losses[:made] / (sizes * self._divisor(loss, 1))

    def _divide(self, parts: int) -> None:
        """Room for the gradients of so many parts."""
        if self._parts.size < parts * self.layout.size:
            self._parts = aligned(parts * self.layout.size, self.dtype)
            self.gradients = self._parts[: self.layout.size]

    def _divisor(self, loss: Loss, count: int) -> float:
        outputs = math.prod(self.program.scores.lengths)
        return float(count * (outputs if loss.per_output else 1))

    def _execute(
        self,
        task: int,
        params: Array,
        samples: Samples,
        loss: Loss | None,
        order: NDArray[np.int64],
        read: Buffer | None = None,
        out: Array | None = None,
        masks: tuple[int, int] | None = None,
        *,
        whole: bool = False,
    ) -> NDArray[np.float64]:
        told = np.zeros(job.FIELDS, dtype=np.int64)
        seed, step = masks or (0, 0)
        told[job.FIRST_STEP], told[job.LAST_STEP] = step, step + (1 if order.size else 0)
        told[job.BATCH] = order.size
        told[job.MASKING] = masks is not None
        told[job.PARTS] = 1
        losses = np.zeros(1)
        numbers = np.ones(1)  # the scale of the gradients
        segments = self.layout.all_segments
        none = self.gradients  # there is no optimiser
        self._call(
            *(
                task,
                told,
                numbers,
                losses,
                seed,
                segments,
                params,
                none,
                samples,
                loss,
                order,
                losses,
                read,
                out,
            ),
            whole=whole,
        )
        return losses

    def _call(
        self,
        task: int,
        told: NDArray[np.int64],
        numbers: NDArray[np.float64],
        rates: NDArray[np.float64],
        seed: int,
        segments: NDArray[np.int64],
        params: Array,
        state: Array,
        samples: Samples,
        loss: Loss | None,
        order: NDArray[np.int64],
        losses: NDArray[np.float64],
        read: Buffer | None = None,
        out: Array | None = None,
        threads: int = 1,
        *,
        whole: bool = False,
        watch: "Watch | None" = None,
    ) -> int:
        program = self.program
        outputs = math.prod(program.scores.lengths)
        training = task != job.EVALUATE
        told[job.FORWARD_STAGES] = program.forward_stages
        told[job.STAGES] = len(program.stages) if training else program.forward_stages
        told[job.SIZE] = program.memory_size
        told[job.STATISTICS] = training
        told[job.WHOLE] = whole or program.whole(training=training)
        if told[job.WHOLE]:
            self._make_room(int(told[job.BATCH]))
        size = self.dtype.itemsize
        if loss is not None:
            told[job.LOSS] = build.addresses([operations.LOSSES[loss.kind]], size)[0]
        told[job.OUTPUTS] = outputs
        told[job.DIVISOR] = outputs if loss is not None and loss.per_output else 1
        told[job.SEED] = np.array(seed, dtype=np.uint64).astype(np.int64)
        told[job.SCORES] = program.scores.offset
        told[job.DELTAS] = program.deltas.offset
        told[job.TARGETS] = program.targets
        told[job.TASK] = task
        step = program.lanes
        places = np.array(
            [
                program.input.place,
                (program.targets, samples.target_size, 1, 1, step, step, step),
                (read or program.scores).place,
            ],
            dtype=np.int64,
        )
        shared = np.zeros(share.SHARED, dtype=np.int64)
        shared[share.STEPS] = told[job.LAST_STEP] - told[job.FIRST_STEP]
        part_losses = np.zeros(int(told[job.PARTS]))
        nothing = np.zeros(0, dtype=self.dtype)
        exported = nothing if out is None else out.reshape(-1)
        watching = (np.zeros(4, dtype=np.int64), nothing, nothing, nothing, np.zeros((0, 0)))
        if watch is not None:
            told[job.LOOK : job.WEIGH + 1] = watch.addresses
            watching = watch.prepare(int(told[job.FIRST_STEP]), int(told[job.LAST_STEP]), part_losses.size)

        code = program.code(size, training=training)

        def run(memory: Array, order: NDArray[np.int64]) -> int:
            return int(
                machine.execute(
                    *(told.copy(), numbers, rates, segments.reshape(-1), params, state),
                    *(self._parts, memory, code.numbers, program.constants, code.addresses, code.places),
                    *(program.stages, places),
                    *(samples.inputs, samples.targets, order, losses, exported, shared, part_losses),
                    *watching,
                )
            )

        if threads == 1:
            return run(self.memory, order)
        while len(self._others) < threads - 1:
            self._others.append(aligned(program.memory_size, self.dtype))
        return together(lambda memory: run(memory, order.copy()), [self.memory, *self._others], shared)


def together(run: Callable[[Array], int], memories: list[Array], shared: NDArray[np.int64]) -> int:
    """Let one thread for each memory run; an interruption (Ctrl-C) ends them after the step they are in."""
    with ThreadPoolExecutor(len(memories)) as pool:
        waiting = [pool.submit(run, memory) for memory in memories]
        try:
            while wait(waiting, timeout=0.2).not_done:
                pass
        except BaseException:
            shared[share.STOP] = 1
            raise
        return waiting[0].result()
