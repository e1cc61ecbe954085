"""Which trainings run with members as lanes, and all that their code depends on."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer
from unstuck.nn.optimisers import SGD, Adam, AdamW, Optimizer

if TYPE_CHECKING:
    from unstuck.nn.training import Training

Sizes = tuple[tuple[str, int], ...]

MOST_SAMPLES = 8
"""Batches up to this size: above, lanes are samples, which then fill half a vector or more."""
MOST_OUTPUTS = 64
MOST_BYTES = 2**19
"""A block of members stays in the second cache."""


NUMBERS = 4
"""A member's own numbers in a block."""


@dataclass(frozen=True)
class AdamRule:
    """What Adam and AdamW have in common for all members."""

    betas: tuple[float, float]
    eps: float
    decoupled: bool


@dataclass(frozen=True)
class Design:
    """All that the code of a network depends on."""

    layers: tuple[tuple[str, Layer], ...]
    units: tuple[int, ...]
    """Numbers in one sample of the input and of every layer's output."""
    parameters: Sizes
    """Name and size of each parameter and buffer, in the order of the block."""
    frozen: frozenset[str]
    loss: int
    target_size: int
    samples: int
    batch: int
    scale: float
    """Factor of the gradient of a loss that is summed over outputs, besides 1 / samples in the batch."""
    momentum: bool
    nesterov: bool
    decay: bool
    adam: AdamRule | None
    """None: SGD."""
    clip_value: float | None
    shuffle: bool
    single: bool
    """float32, not float64."""
    width: int
    """Members in a block. Twice the processor's lanes hide half of the waits; it changes no member's bits."""

    @property
    def size(self) -> int:
        """Numbers in one member's parameters and buffers."""
        return sum(size for _, size in self.parameters)

    @property
    def states(self) -> int:
        """What the optimiser keeps for each number."""
        return 2 if self.adam else 1

    @property
    def numbers_at(self) -> int:
        """Where in a block the members' own numbers begin: -learning rate, momentum, decay, steps made."""
        return (1 + self.states) * self.size

    @property
    def block(self) -> int:
        """Vectors in a block."""
        return self.numbers_at + NUMBERS

    @property
    def plain(self) -> bool:
        """Whether a step is w - lr g and no more."""
        return not (self.momentum or self.decay or self.adam) and self.clip_value is None

    @property
    def steps_per_epoch(self) -> int:
        """Updates in an epoch."""
        return -(-self.samples // self.batch)


def design_of(training: "Training") -> Design | None:
    """The design for a training, one member wide; None where lanes must be samples.

    It depends on the training alone and not on how many members there are, for the two ways add numbers up
    in another order: so a member has the same bits alone and among many. A schedule or a limit that changes
    nothing may change last bits, for it changes the way.
    """
    from unstuck.nn.members.layers import operation_of

    optimizer, network = training.optimizer, training.network
    if training.batch > MOST_SAMPLES or not _offered(optimizer):
        return None
    if training.lr_schedule is not None or training.clip_norm is not None:
        return None
    layers = tuple(network.layers.items())
    if any(operation_of(layer) is None for _, layer in layers):
        return None
    if training.inputs.ndim != 2 and not isinstance(layers[0][1], Flatten):
        return None
    shapes = training.program.shapes
    units = (int(np.prod(training.inputs.shape[1:])), *(int(np.prod(shapes[name])) for name, _ in layers))
    samples = training.samples
    design = Design(
        layers=layers,
        units=units,
        parameters=tuple(
            (spec.name, int(np.prod(spec.shape))) for spec in (*network.specs, *training.layout.buffers)
        ),
        frozen=frozenset(
            spec.name for spec in network.specs if {spec.name, spec.layer} & set(training.frozen)
        ),
        loss=training.loss.kind,
        target_size=samples.target_size,
        samples=samples.count,
        batch=training.batch,
        scale=training.loss_scale / (units[-1] if training.loss.per_output else 1),
        momentum=isinstance(optimizer, SGD) and optimizer.momentum > 0,
        nesterov=isinstance(optimizer, SGD) and optimizer.nesterov,
        decay=optimizer.weight_decay > 0,
        adam=AdamRule(optimizer.betas, optimizer.eps, isinstance(optimizer, AdamW))
        if isinstance(optimizer, Adam)
        else None,
        clip_value=None if training.clip_value is None else float(training.clip_value),
        shuffle=training.shuffle and samples.count > 1,
        single=training.dtype == np.float32,
        width=1,
    )
    widest = 16 if design.single else 8
    too_large = (design.block + 2 * sum(units) * design.batch) * widest * training.dtype.itemsize > MOST_BYTES
    return None if too_large or units[-1] > MOST_OUTPUTS else design


def _offered(optimizer: Optimizer) -> TypeGuard[SGD | Adam]:
    return type(optimizer) is SGD or (type(optimizer) in (Adam, AdamW) and not optimizer.amsgrad)  # pyright: ignore[reportAttributeAccessIssue]  Adam has it


def widened(design: Design, lanes: int, members: int) -> Design:
    """The design for blocks that fit the number of members: of 4, of a vector, or of two.

    One network alone is fastest in narrow vectors; many, where two vectors hide each other's waits.

    Args:
        design: for one member.
        lanes: of the processor's vector.
        members: how many are to be trained.
    """
    return replace(design, width=4 if members <= 4 else lanes if members <= lanes else 2 * lanes)


def blocks(design: Design, lanes: int, members: int) -> list[tuple[Design, int, int]]:
    """Which members train in blocks of which width: (design, first, last); a rest that fills less in less."""
    whole = members - members % (2 * lanes)
    parts = [(0, whole), (whole, members)] if members - whole <= lanes else [(0, members)]
    return [
        (widened(design, lanes, last - first), first, last)
        for first, last in parts
        if last > first or not members
    ]
