"""Runs members of one training through its machine code: a queue of them, or one step by step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.kernels.vectors import lanes
from unstuck.nn.layout import aligned
from unstuck.nn.losses import Loss
from unstuck.nn.members import campaign
from unstuck.nn.members.design import Design, blocks, widened
from unstuck.nn.members.machine_code import compiled
from unstuck.nn.members.program import TEST_FIELDS
from unstuck.nn.runner import Array, Runner, Samples, Schedule
from unstuck.nn.session import TEST_EVERY
from unstuck.nn.training import Training
from unstuck.trace.baseline import BINARY, class_labels

if TYPE_CHECKING:
    from unstuck.nn.watch import Watch

SLICE = 256
"""Steps between two looks at the losses: a block's losses of so many stay in the first cache."""


@dataclass(frozen=True)
class Memory:
    """What one thread needs for a block of members."""

    block: Array
    orders: NDArray[np.int64]
    keys: NDArray[np.int64]
    lanes: NDArray[np.int64]
    losses: Array
    sums: NDArray[np.float64]
    tested: NDArray[np.float64]

    @classmethod
    def of(cls, design: Design, steps: int) -> "Memory":
        """Memory for slices of so many steps."""
        dtype = np.dtype(np.float32 if design.single else np.float64)
        return cls(
            aligned(design.block * design.width, dtype),
            np.zeros(design.samples * design.width, dtype=np.int64),
            np.zeros(3 * design.width, dtype=np.int64),
            np.zeros(3 * design.width, dtype=np.int64),
            aligned(steps * design.width, dtype),
            np.zeros((steps // design.steps_per_epoch + 2) * design.width),
            np.zeros(TEST_FIELDS * design.width),
        )


def places(training: Training) -> NDArray[np.int64]:
    """Where in a network's flat array each number of a member's block stands."""
    offsets = training.layout.offsets
    numbers = (*training.network.specs, *training.layout.buffers)
    parts = [offsets[spec.name] + np.arange(int(np.prod(spec.shape))) for spec in numbers]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts]).astype(np.int64)


@dataclass(frozen=True)
class Ends:
    """How members ended: arrays over them."""

    training: Training
    result: NDArray[np.float64]
    """(members, RESULT_FIELDS), see `campaign`."""
    loss: NDArray[np.float64]
    """(members, columns): mean loss of every `stride`-th epoch; NaN after a member's end."""
    rows: Array

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which came to their ends."""
        return self.result[:, campaign.ENDED] != campaign.UNFINISHED

    @property
    def final_loss(self) -> NDArray[np.float64]:
        """Loss over all samples at the end."""
        return self.result[:, campaign.FINAL_LOSS]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of samples classified right; NaN where the targets are no classes."""
        known = class_labels(self.training.targets) is not None and knows_classes(self.training)
        return self.result[:, campaign.ACCURACY] if known else np.full(len(self.result), np.nan)

    @property
    def epochs(self) -> NDArray[np.int64]:
        """Epochs made."""
        return self.result[:, campaign.EPOCH].astype(np.int64)

    @property
    def outcome(self) -> NDArray[np.str_]:
        """success, diverged, dead or stuck."""
        training, ended = self.training, self.result[:, campaign.ENDED]
        outcome = np.full(len(ended), "stuck", dtype="<U8")
        outcome[ended == campaign.INACTIVE] = "dead"
        outcome[ended == campaign.SUCCESS] = "success"
        if training.success is None and training.half_constant is not None:
            outcome[self.final_loss < training.half_constant] = "success"
        lost = (ended == campaign.LOST) | ~np.isfinite(self.final_loss) | ~np.isfinite(self.rows).all(axis=1)
        outcome[lost] = "diverged"
        return outcome


def knows_classes(training: Training) -> bool:
    """Whether outputs say a class: there are several, or the loss is one of yes and no."""
    return training.outputs > 1 or training.loss.type in BINARY


def train_members(
    training: Training,
    design: Design,
    rows: Array,
    numbers: NDArray[np.float64],
    seeds: NDArray[np.uint64],
    stride: int,
    signal: NDArray[np.int64],
) -> Ends:
    """Train members to their ends, on the calling thread.

    Args:
        training: what they have in common.
        design: from `design_of(training)`.
        rows: (members, numbers) their parameters, replaced by the trained ones.
        numbers: (members, 3) learning rate, momentum and weight decay of each.
        seeds: (members,).
        stride: the losses of every so many epochs are kept.
        signal: (2,) int64: set the first to 1 to stop; the second counts epochs of members.
    """
    job = np.zeros(campaign.JOB_FIELDS, dtype=np.int64)
    job[campaign.SIZE], job[campaign.STATES] = design.size, design.states
    job[campaign.SAMPLES], job[campaign.SCORES] = design.samples, design.units[-1]
    job[campaign.EPOCHS], job[campaign.STEPS_PER_EPOCH] = training.epochs, design.steps_per_epoch
    job[campaign.OUTPUTS] = design.units[-1] if training.loss.per_output else 1
    job[campaign.TEST_EVERY] = 0 if training.success is None else TEST_EVERY
    job[campaign.STRIDE] = stride
    success = training.success or {}
    bounds = np.array(
        [success.get("loss", np.inf), success.get("mse", np.inf), success.get("accuracy", -np.inf)]
    )
    labels = class_labels(training.targets)
    known = (np.full(design.samples, -1) if labels is None else labels).astype(training.dtype)
    spots = places(training)
    result = np.zeros((len(rows), campaign.RESULT_FIELDS))
    history = np.full((len(rows), -(-training.epochs // stride)), np.nan)
    for wide, first, last in blocks(design, lanes(training.dtype.itemsize), len(rows)):
        code = compiled(wide)
        job[campaign.STEPS_AT], job[campaign.TEST_AT] = code.steps, code.test
        job[campaign.FIRST], job[campaign.LAST] = first, last
        memory = Memory.of(wide, max(SLICE, wide.steps_per_epoch))
        campaign.campaign(
            job, bounds, memory.block, memory.orders, memory.keys, memory.lanes, memory.losses, memory.sums,
            memory.tested,
            training.samples.inputs, training.samples.targets, known,
            rows, spots, numbers, seeds, result, history, signal,
        )  # fmt: skip
    return Ends(training, result, history, rows)


class MemberRunner(Runner):
    """A `Runner` whose training steps are those of the members' code: the bits of a member of an ensemble."""

    watches = False

    def __init__(self, training: Training, design: Design) -> None:
        super().__init__(training.program, training.layout, training.dtype)
        self._design = widened(design, lanes(training.dtype.itemsize), 1)
        self._places = places(training)

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
        """As `Runner.train`, but not to be watched; a single step leaves its gradient in `self.gradients`."""
        design = self._design
        epoch, place = divmod(first, design.steps_per_epoch)
        if rates.size == 1:
            order = np.arange(samples.count)
            if design.shuffle:
                campaign.order_of(order, np.uint64(seed), epoch)
            batch = order[place * design.batch : (place + 1) * design.batch]
            self.gradient(params, samples, loss, batch)
            self.gradients *= self.dtype.type(schedule.loss_scale)
        losses = self._advance(params, state, samples, schedule, seed, (epoch, place), rates)
        lost = np.flatnonzero(~np.isfinite(losses))
        made = int(lost[0]) + 1 if lost.size else rates.size
        start = place + np.arange(made)
        sizes = np.minimum(design.batch, samples.count - start % design.steps_per_epoch * design.batch)
        return losses[:made] / (sizes * self._divisor(loss, 1))

    def _advance(
        self,
        params: Array,
        state: Array,
        samples: Samples,
        schedule: Schedule,
        seed: int,
        where: tuple[int, int],
        rates: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        design, (epoch, place) = self._design, where
        memory = Memory.of(design, rates.size)
        block = memory.block.reshape(design.block, design.width)
        block[: design.size, 0] = params[self._places]
        for i in range(design.states):
            block[(i + 1) * design.size : (i + 2) * design.size, 0] = state[i][self._places]
        made = epoch * design.steps_per_epoch + place
        block[design.numbers_at :, 0] = -rates[0], *numbers_of(schedule.optimizer)[1:], made
        memory.keys.reshape(3, -1)[:, 0] = seed & 0xFFFFFFFF, seed >> 32, epoch
        campaign.advance(
            compiled(design).steps, memory.block, samples.inputs, samples.targets, memory.orders, memory.keys,
            memory.losses, memory.sums, place, rates.size,
        )  # fmt: skip
        params[self._places] = block[: design.size, 0]
        for i in range(design.states):
            state[i][self._places] = block[(i + 1) * design.size : (i + 2) * design.size, 0]
        return memory.losses.reshape(rates.size, -1)[:, 0].astype(np.float64)


def numbers_of(optimizer: object) -> tuple[float, float, float]:
    """Learning rate, momentum (0 where there is none) and weight decay of an optimiser."""
    return tuple(float(getattr(optimizer, name, 0.0)) for name in ("lr", "momentum", "weight_decay"))  # pyright: ignore[reportReturnType]  three names, three numbers
