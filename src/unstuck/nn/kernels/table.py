"""The program table: one row of int64 for each operation on one chunk of samples.

A network is not compiled; it is written down as rows that say which kernel runs on which buffers, with all
lengths and strides as numbers. One compiled interpreter (`machine.py`) runs the rows of any network, each by
calling the row's operation, which is compiled once, when a network first needs it: a new shape costs nothing.
Offsets count numbers (not bytes) in three flat arrays: `params` (one member's parameters), `gradients` (same
layout) and `memory` (activations and their gradients for one chunk, each number being a vector of W lanes =
samples). A row whose code stands in `JOINS` needs the whole batch: it runs once, when all chunks have come
that far, each in a memory of its own.

Every row starts with its operation's code. `constants[row]` are two floats that an operation may need.
"""

from typing import Final

WIDTH: Final = 32
"""Numbers in a row."""

# codes of operations
CONTRACT: Final = 1
CORRELATE: Final = 2
BIAS: Final = 3
FORWARD: Final = 4
BACKWARD: Final = 5
POOL: Final = 6
POOL_BACK: Final = 7
SOFTMAX: Final = 8
SOFTMAX_BACK: Final = 9
CLEAR: Final = 10
TRANSPOSE: Final = 11
OUTER: Final = 12
MOMENTS: Final = 13
JOIN_MOMENTS: Final = 14
NORMALISE: Final = 15
SLOPE_SUMS: Final = 16
JOIN_SLOPES: Final = 17
NORMALISE_BACK: Final = 18
DROP: Final = 19

JOINS: Final = (JOIN_MOMENTS, JOIN_SLOPES)
"""Operations on all chunks of a batch together."""

# kinds of element-wise functions (fields 1 of FORWARD and BACKWARD)
COPY: Final = 0
SIGMOID: Final = 1
TANH: Final = 2
RELU: Final = 3
LEAKY: Final = 4
ELU: Final = 5
GELU: Final = 6
GELU_TANH: Final = 7
SILU: Final = 8
SOFTPLUS: Final = 9
PRODUCT: Final = 10
SUM: Final = 11
"""Only as BACKWARD rows: result = output * delta, and output + delta."""

# what a CONTRACT row does besides
RECTIFY: Final = 1
"""Results below 0 become 0."""
GATE: Final = 2
"""Each result is multiplied with the slope of a ReLU."""

# kinds of pooling
MAXIMUM: Final = 0
AVERAGE: Final = 1
QUARTERS: Final = 2
"""The maximum of windows of 2 x 2 side by side."""

# kinds of softmax
PLAIN: Final = 0
LOGARITHM: Final = 1

# kinds of losses
SQUARED: Final = 0
CROSS_ENTROPY: Final = 1
BINARY: Final = 2
BINARY_LOGITS: Final = 3
LIKELIHOOD: Final = 4

# kinds of optimisers
DESCENT: Final = 0
ADAM: Final = 1
RMSPROP: Final = 2
GROWING_ADAM: Final = 3
