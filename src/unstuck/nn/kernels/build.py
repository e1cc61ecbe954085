"""From a program's table to what the interpreter runs: operations, their addresses, and tiles' records."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.kernels import biases, contract, correlate, operations, outer, table
from unstuck.nn.kernels.operation import Operation

_PLANS = {
    table.CONTRACT: contract.plan,
    table.CORRELATE: correlate.plan,
    table.BIAS: biases.plan,
    table.OUTER: outer.plan,
}
"""Rows that are made of tiles."""


@dataclass(frozen=True)
class Code:
    """What the interpreter runs for each row."""

    addresses: NDArray[np.int64]
    """Of the row's operation."""
    places: NDArray[np.int64]
    """Where the row begins in `numbers`."""
    numbers: NDArray[np.int64]
    """The rows, and behind them the records of those that are made of tiles."""


def code(rows: NDArray[np.int64], itemsize: int) -> Code:
    """Make the code of some rows (flat) ready; what is not compiled yet is compiled first."""
    told = [row.tolist() for row in rows.reshape(-1, table.WIDTH)]
    places, numbers = list[int](), rows.tolist()
    for i, row in enumerate(told):
        plan = _PLANS.get(row[0])
        places.append(i * table.WIDTH if plan is None else len(numbers))
        if plan is not None:
            records = list(plan(row, itemsize))
            numbers.append(len(records))
            for record in records:
                numbers += record
    needed = [
        operations.tiles_row if row[0] in _PLANS else operations.row_operation(row[0], row[1]) for row in told
    ]
    return Code(
        addresses(needed, itemsize), *(np.array(found, dtype=np.int64) for found in (places, numbers))
    )


def addresses(needed: Iterable[Operation], itemsize: int) -> NDArray[np.int64]:
    """Where the machine code of operations stands; what is not compiled yet is compiled first."""
    return np.array([operation.address(itemsize) for operation in needed], dtype=np.int64)
