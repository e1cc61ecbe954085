"""Layers whose weights are still as they were drawn: nobody trained them before."""

import math
from collections.abc import Sequence
from typing import Final

from unstuck.diagnose.measured import RECURRENT
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
_GAINS: Final = (1.0, math.sqrt(2), 5 / 3, 0.1, 0.01)
"""Of orthogonal and Glorot's weights: those of activations; and what gives a last layer a small beginning."""


def fresh(trace: Recording, nodes: Sequence[Node]) -> bool:
    """Whether all of them start as usual recipes draw them, as far as the norms of their weights tell.

    Training moves scales away from exactly 1 and shifts from exactly 0, and the norm of a drawn matrix is
    known: PyTorch's default draws each weight evenly between -1 and 1 over the root of the inputs, so that
    the norm is the root of a third of the units; He et al. (2015, arXiv:1502.01852) and Glorot and Bengio
    (2010) give other deviations, and an orthogonal matrix has exactly the root of its smaller extent, times a
    gain. Of trained layers now and then one has such a norm, but not all.

    Args:
        trace: what was measured.
        nodes: layers.
    """
    told = [known for node in nodes for known in _as_drawn(trace, node) if known is not None]
    return len(told) >= 2 and all(told)


def _as_drawn(trace: Recording, node: Node) -> list[bool | None]:
    """The same of each matrix of a layer; None where its norm does not tell."""
    if node.type == "Embedding":
        return [_normal_rows(trace, node)]
    if node.type in RECURRENT:
        found = [name for name in node.parameters if name.startswith("weight")]
        return [_recurrent(trace, node, name) for name in found]
    return [_matrix(trace, node)]


def _normal_rows(trace: Recording, node: Node) -> bool | None:
    """Of a table: numbers from a normal distribution, one row (of padding) possibly 0.

    Tables are often drawn smaller: another norm says nothing.
    """
    norm, shape = trace.first("weight_norm", node.name), node.parameters.get("weight", ())
    count = math.prod(shape)
    if norm is None or count < _FEWEST:
        return None
    return abs(norm / math.sqrt(count) - 1) <= _ERRORS / math.sqrt(2 * count) + 0.5 / shape[0] or None


def _recurrent(trace: Recording, node: Node, name: str) -> bool | None:
    """Of the cell of a recurrent layer: numbers that are even between -1 and 1 over the root of its size."""
    norm, shape = trace.first("weight_norm", f"{node.name}.{name}"), node.parameters[name]
    hidden = node.parameters.get("weight_hh_l0", node.parameters.get("weight_hh", ()))
    count = math.prod(shape)
    if norm is None or count < _FEWEST or not hidden:
        return None
    return abs(norm / math.sqrt(count / (3 * hidden[-1])) - 1) <= _ERRORS * _SCATTER / math.sqrt(count)


def _matrix(trace: Recording, node: Node) -> bool | None:
    """Of a layer that multiplies, and of normalisations."""
    norm, shift = trace.first("weight_norm", node.name), trace.first("weight_norm", f"{node.name}.bias")
    if norm is None or "weight" not in node.parameters:
        return None
    if node.type in NORMALISING:
        ones = math.isclose(norm, math.sqrt(math.prod(node.parameters["weight"])), rel_tol=_EXACT)
        return ones and not shift
    count = node.units * node.fan_in
    if not node.type.startswith(("Linear", "Conv")) or "Transpose" in node.type or count < _FEWEST:
        return None
    smaller = math.sqrt(min(node.units, node.fan_in))
    if any(math.isclose(norm, gain * smaller, rel_tol=_EXACT) for gain in _GAINS):
        return True
    # of a convolution each output goes to as many places as its kernel has
    fan_out = node.units * math.prod(node.parameters["weight"][2:])
    variances = (
        1 / (3 * node.fan_in),
        1 / node.fan_in,
        2 / node.fan_in,
        2 / fan_out,
        *(gain**2 * 2 / (node.fan_in + fan_out) for gain in _GAINS[:3]),
    )
    error = _ERRORS * _SCATTER / math.sqrt(count)
    return any(abs(norm / math.sqrt(count * one) - 1) <= error for one in variances)
