# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""Bias gradients of linear and convolution layers: db[o] = sum over samples and positions p of d[o, p].

A tile adds up some units over all positions of all lines, each in four sums taken in turn, so that no
addition waits for the one before; then the lanes (samples) are added up.
"""

from collections.abc import Iterator, Sequence

from unstuck.nn.kernels import tiles
from unstuck.nn.kernels.vectors import INT, lane_sums, spread

TURNS = 4
"""Sums of a unit."""
SIZES = (4, 2, 1) if tiles.REGISTERS == 32 else (2, 1)
"""Units of all tiles."""

# fields of a BIAS row
DELTA, GRADIENT, UNITS, LINES, POSITIONS, UNIT_STEP, LINE_STEP, STEP = range(1, 9)

# a record
_DELTA, _GRADIENT, _LINES, _FOURS, _REST, _UNIT_STEP, _LINE_STEP, _STEP = range(8)
_RECORD = 8


def _emitter(units):
    def emit(builder, kind, params, gradients, memory, record):
        field = tiles.fields(builder, record, _RECORD)
        deltas, target = tiles.places(builder, kind, [(memory, field[_DELTA]), (gradients, field[_GRADIENT])])
        unit, line_step, step = tiles.in_bytes(builder, kind, field[_UNIT_STEP:])
        rows, turns = tiles.multiples(builder, unit, units), tiles.multiples(builder, step, TURNS)
        zero = spread(builder, kind, kind.element(0.0))
        sums = [[builder.alloca(kind) for _ in range(TURNS)] for _ in range(units)]
        for cell in (cell for row in sums for cell in row):
            builder.store(zero, cell)

        def add(delta, turn, place):
            for row, cells in zip(rows, sums, strict=True):
                d = tiles.numbers(builder, kind, tiles.moved(builder, delta, builder.add(row, place)))
                builder.store(builder.fadd(builder.load(cells[turn]), d), cells[turn])

        def some(count, delta, turns_here):
            """All turns for so many positions; the pointer behind them."""
            moves = [[builder.mul(step, INT(turns_here))]]

            def body(place):
                for turn in range(turns_here):
                    add(place, turn, turns[turn])

            with builder.if_then(builder.icmp_signed(">", count, INT(0))):
                tiles.walk(builder, [count], [delta], moves, body)

        def line(delta):
            some(field[_FOURS], delta, TURNS)
            past = builder.mul(builder.mul(field[_FOURS], INT(TURNS)), step)
            some(field[_REST], tiles.moved(builder, delta, past), 1)

        tiles.walk(builder, [field[_LINES]], [deltas], [[line_step]], line)
        totals = []
        for cells in sums:
            first, second, third, fourth = (builder.load(cell) for cell in cells)
            totals.append(builder.fadd(builder.fadd(first, second), builder.fadd(third, fourth)))
        total = lane_sums(builder, totals)
        for i in range(units):
            place = tiles.moved(builder, target, INT(i * tiles.size_of(kind)))
            place = builder.bitcast(place, kind.element.as_pointer())
            more = builder.extract_element(total, INT(i))
            builder.store(builder.fadd(builder.load(place), more), place)

    return emit


TILES = {units: tiles.Tile(f"biases_{units}", _emitter(units)) for units in SIZES}


def plan(row: Sequence[int], itemsize: int) -> Iterator[list[int]]:
    """The records of a BIAS row: add a chunk's bias gradients."""
    fours, rest = divmod(row[POSITIONS], TURNS)
    first = 0
    while first < row[UNITS]:
        units = next(size for size in SIZES if size <= row[UNITS] - first)
        numbers = [
            *(row[DELTA] + first * row[UNIT_STEP], row[GRADIENT] + first, row[LINES], fours, rest),
            *(row[UNIT_STEP], row[LINE_STEP], row[STEP]),
        ]
        yield tiles.record(TILES[units], itemsize, numbers)
        first += units
