"""What the interpreter is told: whole numbers, of which every thread has a copy of its own.

The last ones change while it runs; operations read them.
"""

from typing import Final

FORWARD_STAGES: Final = 0
"""Stages of the forward pass."""
STAGES: Final = 1
"""Stages that are run."""
LOSS: Final = 2
"""Address of the loss, or 0."""
RULE: Final = 3
"""Address of the optimiser's rule, or 0."""
OUTPUTS: Final = 4
"""Numbers that the loss takes from one sample."""
SCORES: Final = 5
"""Where in memory they stand."""
DELTAS: Final = 6
"""Where their gradient goes."""
TARGETS: Final = 7
"""Where the targets go."""
DIVISOR: Final = 8
"""By what the loss of one sample is divided for a mean."""
TASK: Final = 9
"""EVALUATE, ACCUMULATE or TRAIN."""
BATCH: Final = 10
"""Samples in a batch."""
FIRST_STEP: Final = 11
LAST_STEP: Final = 12
SHUFFLE: Final = 13
"""1: another order every epoch; 0: the order given."""
SIZE: Final = 14
"""Numbers in the memory of a chunk."""
WHOLE: Final = 15
"""1: all chunks of a batch are in memory together."""
STATISTICS: Final = 16
"""1: batch normalisation by the batch; 0: by the running statistics."""
MASKING: Final = 17
"""1: dropout draws masks; 0: it passes everything."""
PARTS: Final = 18
"""Parts of a batch, each with gradients of its own."""
SEED: Final = 19
"""The member's, as the bits of an unsigned number."""
LOOK: Final = 20
"""Address of what watches the outputs of a chunk (see `watching.py`), or 0 if nothing is watched."""
CLOSE: Final = 21
"""Of what closes the outputs of a batch."""
OPEN: Final = 22
"""Of what keeps parameters before their update."""
WEIGH: Final = 23
"""Of what weighs parameters after it."""
STEP: Final = 24
FIRST: Final = 25
"""The chunk's first sample, as its place in the order."""
VALID: Final = 26
"""Samples in the chunk."""
COUNT: Final = 27
"""Samples of the chunks that are in memory together."""
PART: Final = 28
"""The part of a batch that is run."""
LOOKED_AT: Final = 29
"""Which chunks are looked at: even ones (0), odd ones (1), by their place in the order; or none (-1)."""
FIELDS: Final = 30

EVALUATE: Final = 0
ACCUMULATE: Final = 1
TRAIN: Final = 2
