"""Layers whose weights are still as PyTorch draws them: nobody trained them before."""

import math
from collections.abc import Sequence
from typing import Final

from unstuck.trace.recording import Recording
from unstuck.trace.structure import NORMALISING, Node

_EXACT: Final = 1e-5
"""Relative difference of a norm that rounding explains."""
_ERRORS: Final = 3
"""Standard errors by which a drawn norm may differ from what it is on average."""
_SCATTER: Final = 0.447
"""Of the norm of n even numbers: deviation / mean, times the root of n."""
_FEWEST: Final = 200
"""Weights of a layer from which on its norm tells anything: 10 % of scatter and less."""


def fresh(trace: Recording, nodes: Sequence[Node]) -> bool:
    """Whether all of them start as PyTorch draws them by default, as far as the norms of their weights tell.

    Training moves scales away from exactly 1 and shifts from exactly 0, and the norm of a drawn matrix is
    known: each weight is even between -1 and 1 over the root of the inputs, so the norm is the root of a
    third of the units (of an orthogonal one: of its smaller extent). Of trained layers now and then one has
    such a norm, but not all.

    Args:
        trace: what was measured.
        nodes: layers.
    """
    told = [known for known in (_as_drawn(trace, node) for node in nodes) if known is not None]
    return len(told) >= 2 and all(told)


def _as_drawn(trace: Recording, node: Node) -> bool | None:
    """The same of one layer; None where its norm does not tell."""
    norm, shift = trace.first("weight_norm", node.name), trace.first("weight_norm", f"{node.name}.bias")
    if norm is None or "weight" not in node.parameters:
        return None
    if node.type in NORMALISING:
        ones = math.isclose(norm, math.sqrt(math.prod(node.parameters["weight"])), rel_tol=_EXACT)
        return ones and not shift
    count = node.units * node.fan_in
    if not node.type.startswith(("Linear", "Conv")) or "Transpose" in node.type or count < _FEWEST:
        return None
    orthogonal = math.isclose(norm, math.sqrt(min(node.units, node.fan_in)), rel_tol=_EXACT)
    return orthogonal or abs(norm / math.sqrt(node.units / 3) - 1) <= _ERRORS * _SCATTER / math.sqrt(count)
