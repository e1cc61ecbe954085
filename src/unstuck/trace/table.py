"""The rows of a trace, one compact column for each (quantity, layer)."""

from array import array
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from unstuck.errors import UnstuckError
from unstuck.trace.quantities import QUANTITIES

Steps = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


class Series(NamedTuple):
    """One quantity over the steps at which it was defined; NaN and Inf are kept."""

    steps: Steps
    values: Doubles


class Rows(NamedTuple):
    """All rows of one quantity of one layer, by step; `null` marks the undefined ones (their value is 0)."""

    quantity: str
    layer: str
    steps: Steps
    values: Doubles
    null: npt.NDArray[np.bool_]


class Column:
    """What was measured of one quantity of one layer, in the order in which it arrived."""

    __slots__ = ("_blocks", "_read", "null", "steps", "values")

    def __init__(self) -> None:
        """An empty column."""
        self.steps = array("q")
        self.values = array("d")
        self.null = bytearray()
        self._blocks: list[tuple[Steps, Doubles, npt.NDArray[np.bool_]]] = []
        """Rows that came last and are not yet taken into the three arrays."""
        self._read: tuple[Steps, Doubles, npt.NDArray[np.bool_], Series] | None = None

    def add(self, step: int, value: float | None) -> None:
        """Appends a row; a second value for the step that came last replaces the first."""
        self._read = None
        if self._blocks:
            self.settle()
        steps = self.steps
        if steps and steps[-1] == step:
            del steps[-1], self.values[-1], self.null[-1]
        steps.append(step)
        self.values.append(0.0 if value is None else value)
        self.null.append(value is None)

    def extend(self, steps: Steps, values: Doubles, null: npt.NDArray[np.bool_]) -> None:
        """Appends many rows; the arrays are kept, and copied only when somebody reads."""
        self._read = None
        self._blocks.append((steps, values, null))

    def settle(self) -> None:
        """Takes all rows into `steps`, `values` and `null`."""
        for steps, values, null in self._blocks:
            numbers = np.where(null, 0.0, values) if null.any() else values
            self.steps.frombytes(np.ascontiguousarray(steps, dtype=np.int64).view(np.uint8).data)
            self.values.frombytes(np.ascontiguousarray(numbers, dtype=np.float64).view(np.uint8).data)
            self.null.extend(np.ascontiguousarray(null).view(np.uint8).data)
        self._blocks.clear()

    def read(self) -> tuple[Steps, Doubles, npt.NDArray[np.bool_], Series]:
        """Rows by step, the last of each step; and those that are not null. Computed once, then kept."""
        if self._read is None:
            self.settle()
            # copies: an array whose memory is shared with NumPy could not grow any more
            steps = np.array(self.steps, dtype=np.int64)
            values = np.array(self.values, dtype=np.float64)
            null = np.frombuffer(bytes(self.null), dtype=np.bool_)
            if np.any(steps[1:] <= steps[:-1]):
                order = np.argsort(steps, kind="stable")
                last = np.append(steps[order][1:] != steps[order][:-1], True)
                order = order[last]
                steps, values, null = steps[order], values[order], null[order]
            series = Series(steps[~null], values[~null])
            for part in (steps, values, *series):
                part.flags.writeable = False
            self._read = (steps, values, null, series)
        return self._read


class Table:
    """Rows (step, layer, quantity, value), indexed by quantity and layer as they arrive."""

    EMPTY: ClassVar = Series(np.empty(0, np.int64), np.empty(0, np.float64))

    def __init__(self) -> None:
        """An empty table."""
        self._columns: dict[str, dict[str, Column]] = {}
        self.layers: dict[str, None] = {}
        """Every layer name in the order of its first row (an ordered set)."""
        self._together: dict[str, tuple[tuple[str, ...], list[Column]]] = {}
        """By layer, the quantities that it was last given at once, and their columns."""

    def __len__(self) -> int:
        """Number of rows."""
        return sum(len(rows.steps) for rows in self.rows())

    def column(self, quantity: str, layer: str) -> Column:
        """The column, made when it is not there yet.

        Raises:
            UnstuckError: for a quantity that is not in `quantities.QUANTITIES`.
        """
        try:
            return self._columns[quantity][layer]
        except KeyError:
            check_quantity(quantity)
        self.layers.setdefault(layer)
        return self._columns.setdefault(quantity, {}).setdefault(layer, Column())

    def add(self, step: int, layer: str, values: Mapping[str, float | None]) -> None:
        """A row for each quantity of a layer.

        Raises:
            UnstuckError: for a quantity that is not in `quantities.QUANTITIES`.
        """
        names = tuple(values)
        known = self._together.get(layer)
        if known is None or known[0] != names:
            known = self._together[layer] = (names, [self.column(name, layer) for name in names])
        for column, value in zip(known[1], values.values(), strict=True):
            column.add(step, value)

    def find(self, quantity: str, layer: str) -> Column | None:
        """The column, or None when nothing was measured."""
        return self._columns.get(quantity, {}).get(layer)

    def layers_of(self, quantity: str) -> tuple[str, ...]:
        """Layers that have this quantity, in the order of their first row."""
        return tuple(self._columns.get(quantity, {}))

    def columns(self) -> Iterator[tuple[str, str, Column]]:
        """(quantity, layer, column) of all columns, as they are."""
        for quantity, layers in self._columns.items():
            for layer, column in layers.items():
                column.settle()
                yield quantity, layer, column

    def rows(self) -> Iterator[Rows]:
        """All columns; in each, one row a step."""
        for quantity, layers in self._columns.items():
            for layer, column in layers.items():
                steps, values, null, _ = column.read()
                yield Rows(quantity, layer, steps, values, null)


def check_quantity(quantity: str) -> None:
    """Raises UnstuckError for a name that is no quantity, with the nearest that is."""
    if quantity not in QUANTITIES:
        import difflib

        near = difflib.get_close_matches(quantity, QUANTITIES, n=1, cutoff=0.0)
        raise UnstuckError(f"unknown quantity {quantity!r}; the nearest known one is {near[0]!r}")
