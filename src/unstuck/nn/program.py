"""Writing a network down as a table of operations (see `kernels/table.py`)."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import ShapeError
from unstuck.nn.kernels import table as codes

if TYPE_CHECKING:
    from unstuck.nn.kernels.build import Code

MOST_PARTS = 4
PART_WORK = 16_000_000
"""Multiplications that are worth a part of their own: some tenths of a millisecond."""
# fields of a CONTRACT row, see `kernels/contract.py`
UNITS, LINES, POSITIONS, INNER = 5, 6, 7, 19

Shape = tuple[int, ...]
Constants = tuple[float, float]
"""The two floats of an operation (`kernels/table.py`); 0 where it needs none."""


@dataclass(frozen=True)
class Buffer:
    """A view of the chunk memory: an activation or its gradient, (channels, lines, positions) of vectors."""

    offset: int
    channels: int
    lines: int
    positions: int
    strides: tuple[int, int, int]
    """Numbers from one channel, line and position to the next."""
    rectified: bool = False
    """Written: what is below 0 becomes 0. Read going back: the gradient also goes through that ReLU's
    slope."""

    @property
    def lengths(self) -> tuple[int, int, int]:
        """Channels, lines, positions."""
        return self.channels, self.lines, self.positions

    @property
    def place(self) -> tuple[int, ...]:
        """The seven numbers by which samples are gathered and scattered."""
        return (self.offset, *self.lengths, *self.strides)


@dataclass(frozen=True)
class Statistics:
    """A layer that needs the mean and variance of each channel over a batch."""

    layer: str
    type: str
    values: int
    """Numbers of one channel in one sample."""
    tracked: bool
    """Whether it keeps running statistics, with which it evaluates."""


@dataclass(frozen=True)
class Program:
    """A network for one input shape and number type: what the interpreter runs."""

    table: NDArray[np.int64]
    constants: NDArray[np.float64]
    """(rows, 2)."""
    stages: NDArray[np.int64]
    """(stages, 3): first row, end row, and the row that then joins all chunks of a batch, or -1."""
    forward_stages: int
    memory_size: int
    """Numbers of one chunk."""
    statistics: tuple[Statistics, ...]
    input: Buffer
    outputs: dict[str, Buffer]
    """Each layer's output, by the layer's name."""
    shapes: dict[str, Shape]
    """Shape of one sample of each layer's output."""
    scores: Buffer
    deltas: Buffer
    """Compact copies of the last output and of its gradient: where the loss reads and writes."""
    targets: int
    """Where in memory the targets go."""
    lanes: int
    _codes: "dict[tuple[int, bool], Code]" = field(default_factory=dict[tuple[int, bool], "Code"], init=False)

    @cached_property
    def multiplications(self) -> int:
        """Of one sample's forward pass, in linear and convolution layers."""
        rows = self.table.reshape(-1, codes.WIDTH)[: self.stages[: self.forward_stages, 1].max(initial=0)]
        rows = rows[rows[:, 0] == codes.CONTRACT]
        return int(rows[:, [UNITS, LINES, POSITIONS, INNER, INNER + 1, INNER + 2]].prod(1).sum())

    def code(self, itemsize: int, *, training: bool) -> "Code":
        """What is run for a forward pass, or for a training; compiles what is not compiled yet."""
        from unstuck.nn.kernels import build

        if (itemsize, training) not in self._codes:
            stages = self.stages[: len(self.stages) if training else self.forward_stages]
            end = max(stages[:, 1].max(initial=0), stages[:, 2].max(initial=-1) + 1)
            self._codes[itemsize, training] = build.code(self.table[: end * codes.WIDTH], itemsize)
        return self._codes[itemsize, training]

    @property
    def work(self) -> int:
        """What a step costs for each sample of its batch, about, in multiplications."""
        return 3 * self.multiplications + 16 * self.memory_size // self.lanes

    def parts(self, batch: int) -> int:
        """Into how many parts a batch is cut, for threads to share; nothing else decides it."""
        if self.whole(training=True):
            return 1
        chunks = -(-batch // self.lanes)
        work = 3 * self.multiplications * chunks * self.lanes
        return max(1, min(MOST_PARTS, chunks, work // PART_WORK))

    def whole(self, *, training: bool) -> bool:
        """Whether a batch must be in memory as a whole; else chunk by chunk."""
        return any(training or not item.tracked for item in self.statistics)

    def check_batch(self, count: int, *, training: bool, hint: str = "") -> None:
        """Refuse a batch that is too small for a layer's statistics.

        Raises:
            ShapeError: one value for each channel, whose variance would be 0; names the layer.
        """
        for item in self.statistics:
            if (training or not item.tracked) and count * item.values < 2:
                msg = (
                    f"layer {item.layer!r}: {item.type} expected more than 1 value per channel when training,"
                    f" got a batch of 1 sample with 1 value per channel{hint}"
                )
                raise ShapeError(msg)


@dataclass
class Writer:
    """Collects rows and memory while layers write themselves down."""

    lanes: int
    rows: list[tuple[list[int], Constants]] = field(default_factory=list[tuple[list[int], Constants]])
    size: int = 0
    masks: int = 0
    """Layers so far that draw masks; each is known to the random stream by its number."""
    _kept: dict[int, Buffer] = field(default_factory=dict[int, Buffer])

    def allocate(self, shape: Shape) -> Buffer:
        """Room for a value of this shape."""
        channels, lines, positions = as_image(shape)
        start = self._take(channels * lines * positions)
        strides = (lines * positions * self.lanes, positions * self.lanes, self.lanes)
        return Buffer(start, channels, lines, positions, strides)

    def keep(self, output: Buffer, shape: Shape) -> Buffer:
        """Room for what the forward pass that makes `output` leaves for the backward pass."""
        if output.offset not in self._kept:
            self._kept[output.offset] = self.allocate(shape)
        return self._kept[output.offset]

    def allocate_rows(self, rows: int, numbers: int) -> Buffer:
        """Room for `rows` rows of so many numbers (not vectors), each rounded up to the widest tile."""
        step = -(-numbers // (4 * self.lanes)) * 4 * self.lanes
        start = self._take(rows * step // self.lanes)
        return Buffer(start, rows, 1, numbers, (step, step, 1))

    def _take(self, vectors: int) -> int:
        start = self.size
        # three vectors of distance keep buffers from lying at equal places of different 4 kB pages
        self.size += (vectors + 3) * self.lanes
        return start

    def row(self, code: int, *numbers: int, constants: Constants = (0.0, 0.0)) -> None:
        """Append one operation."""
        filled = [code, *numbers]
        if len(filled) > codes.WIDTH:
            msg = f"a row of {len(filled)} numbers does not fit the table's width of {codes.WIDTH}"
            raise AssertionError(msg)
        self.rows.append((filled + [0] * (codes.WIDTH - len(filled)), constants))

    def stages(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """The rows from `first` to before `end`, cut where all chunks of a batch must have come so far."""
        joins = [row for row in range(first, end) if self.rows[row][0][0] in codes.JOINS]
        starts = [first, *(row + 1 for row in joins)]
        return list(zip(starts, [*joins, end], [*joins, -1], strict=True))

    def elementwise(
        self, kind: int, source: Buffer, target: Buffer, constants: Constants = (0.0, 0.0)
    ) -> None:
        """Target = f(source)."""
        source, target = self._flattened(source, target)
        self.row(
            codes.FORWARD,
            kind,
            source.offset,
            target.offset,
            *target.lengths,
            *source.strides,
            *target.strides,
            constants=constants,
        )

    def elementwise_back(
        self, kind: int, output: Buffer, delta: Buffer, result: Buffer, constants: Constants = (0.0, 0.0)
    ) -> None:
        """Result = f'(.) * delta, from the output of f (or, for some kinds, from its input)."""
        output, delta, result = self._flattened(output, delta, result)
        self.row(
            codes.BACKWARD,
            kind,
            output.offset,
            delta.offset,
            result.offset,
            *output.lengths,
            *output.strides,
            *delta.strides,
            *result.strides,
            constants=constants,
        )

    def _flattened(self, *buffers: Buffer) -> tuple[Buffer, ...]:
        """The same buffers as one long line of positions each, if all are compact."""
        if not all(self.compact(buffer) for buffer in buffers):
            return buffers
        first = buffers[0]
        count = first.channels * first.lines * first.positions
        line = (count * first.strides[2], count * first.strides[2], first.strides[2])
        return tuple(replace(b, channels=1, lines=1, positions=count, strides=line) for b in buffers)

    def compact(self, buffer: Buffer) -> bool:
        """Whether nothing lies between the buffer's vectors."""
        channel, line, position = buffer.strides
        return (
            position == self.lanes and line == position * buffer.positions and channel == line * buffer.lines
        )

    def copied(self, source: Buffer) -> Buffer:
        """The buffer itself when it is compact, else a compact copy of it."""
        if self.compact(source):
            return source
        target = self.allocate(source.lengths)
        self.elementwise(codes.COPY, source, target)
        return target


def as_image(shape: Shape) -> tuple[int, int, int]:
    """(channels, lines, positions) of a sample: features are channels of one position."""
    if len(shape) == 1:
        return shape[0], 1, 1
    channels, lines, positions = shape
    return channels, lines, positions
