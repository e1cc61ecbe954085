# pyright: basic
# Numba ships no types; everything that touches it is unknown to the type checker.
"""Reading a row of the program table (see `table.py`)."""

from unstuck.nn.kernels.jit import inlined
from unstuck.nn.kernels.vectors import at


@inlined
def three(table, place):
    """Three fields one after another: strides of channel, line and position."""
    return at(table, place), at(table, place + 1), at(table, place + 2)
