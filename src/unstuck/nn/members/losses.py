# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""Losses for many members: of one sample, in every lane (formulas: `kernels/losses.py`)."""

from collections.abc import Callable
from typing import Any

from unstuck.nn.kernels import functions, table, vectors
from unstuck.nn.kernels import losses as kernels
from unstuck.nn.members.code import Code
from unstuck.nn.members.lanes import Lanes
from unstuck.nn.members.operation import added, highest

Targets = Callable[[int], Lanes]
"""The o-th target of a sample; for losses of classes there is one, the class."""
CLASSES = frozenset({table.CROSS_ENTROPY, table.LIKELIHOOD})


def slopes(code: Code, kind: int, z: list[Lanes], target: Targets) -> tuple[list[Lanes], float]:
    """Derivatives of one sample's loss with respect to its outputs, and a number to multiply them by."""
    if kind == table.SQUARED:
        return [out - target(o) for o, out in enumerate(z)], 2.0
    if kind not in CLASSES:
        slope = code.formula(kernels.SLOPES[kind])
        return [slope(out, target(o)) for o, out in enumerate(z)], 1.0
    hits = _hits(code, z, target(0))
    one, zero, select = code.number(1.0), code.number(0.0), code.formula(vectors.select)
    if kind == table.LIKELIHOOD:
        return [select(hit, zero - one, zero) for hit in hits], 1.0
    shares, total, _ = _shares(code, z)
    chances = [share / total for share in shares]
    return [select(hit, p - one, p) for hit, p in zip(hits, chances, strict=True)], 1.0


def value(code: Code, kind: int, z: list[Lanes], target: Targets) -> Lanes:
    """One sample's loss, summed over its outputs."""
    if kind in CLASSES:
        own = _own(code, z, target(0))
        if kind == table.LIKELIHOOD:
            return code.number(0.0) - own
        _, total, top = _shares(code, z)
        return code.formula(functions.log)(total) + top - own
    terms = [_term(code, kind, out, target(o)) for o, out in enumerate(z)]
    return added(terms)


def _term(code: Code, kind: int, z: Lanes, t: Lanes) -> Lanes:
    if kind == table.SQUARED:
        d = z - t
        return d * d
    if kind == table.BINARY_LOGITS:
        return code.formula(functions.log1p_exp)(z) - z * t
    one = code.number(1.0)
    yes, no = (_bounded_log(code, part) for part in (z, one - z))
    return code.number(0.0) - (t * yes + (one - t) * no)


def _bounded_log(code: Code, x: Lanes) -> Lanes:
    """Logarithm, at least -100 as in torch; NaN stays NaN."""
    select, less = code.formula(vectors.select), code.formula(vectors.less)
    tiny = code.number(4e-38)
    logarithm = code.formula(functions.log)(select(less(x, tiny), tiny, x))
    same = code.formula(vectors.equal)(x, x)
    return select(same, select(less(x, tiny), code.number(-100.0), logarithm), x)


def right(code: Code, kind: int, z: list[Lanes], label: Lanes) -> Any:
    """A mask: where the sample is classified right; a tie counts as wrong (see `trace.baseline.accuracy`)."""
    greater, less, equal = (code.formula(f) for f in (vectors.greater, vectors.less, vectors.equal))
    if len(z) == 1:
        middle = code.number(0.0 if kind == table.BINARY_LOGITS else 0.5)
        one, zero = code.number(1.0), code.number(0.0)
        select = code.formula(vectors.select)
        above = select(greater(z[0], middle), one, zero)
        below = select(less(z[0], middle), one, zero)
        answer = select(equal(label, one), above, select(equal(label, zero), below, zero))
        return equal(answer, one)
    own = _own(code, z, label)
    select, low = code.formula(vectors.select), code.number(float("-inf"))
    others = [select(hit, low, out) for hit, out in zip(_hits(code, z, label), z, strict=True)]
    return greater(own, highest(code, others))


def squared_error(code: Code, kind: int, z: list[Lanes], target: Targets) -> Lanes:
    """Sum over outputs of (z - t)**2, a class being one-hot."""
    if kind not in CLASSES:
        return value(code, table.SQUARED, z, target)
    select = code.formula(vectors.select)
    one, zero = code.number(1.0), code.number(0.0)
    hot = [select(hit, one, zero) for hit in _hits(code, z, target(0))]
    return value(code, table.SQUARED, z, lambda o: hot[o])


def _hits(code: Code, z: list[Lanes], label: Lanes) -> list[Any]:
    equal = code.formula(vectors.equal)
    return [equal(label, code.number(float(o))) for o in range(len(z))]


def _own(code: Code, z: list[Lanes], label: Lanes) -> Lanes:
    """The output of the sample's class."""
    select = code.formula(vectors.select)
    own = z[0]
    for hit, out in list(zip(_hits(code, z, label), z, strict=True))[1:]:
        own = select(hit, out, own)
    return own


def _shares(code: Code, z: list[Lanes]) -> tuple[list[Lanes], Lanes, Lanes]:
    """e**(z - top), their sum, and the top."""
    exp, top = code.formula(functions.exp), highest(code, z)
    shares = [exp(out - top) for out in z]
    return shares, added(shares), top
