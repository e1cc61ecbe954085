# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""Batch normalisation of many members (formulas: `kernels/normalise.py`)."""

from typing import Any

from unstuck.nn.kernels import vectors
from unstuck.nn.layers.normalisation import BatchNorm1d
from unstuck.nn.members.code import UNROLLED, Index
from unstuck.nn.members.lanes import Lanes
from unstuck.nn.members.operation import Operation, Values, added


class BatchNormOperation(Operation):
    """y = (x - mean) / sqrt(var + eps) w + b.

    With n the normalised x and g = w d / sqrt(var + eps):

    dx = g - mean over the batch of g - n mean of g n        dw = sum d n        db = sum d
    """

    layer: BatchNorm1d

    def _vector(self, name: str, u: Index) -> tuple[Any, Index]:
        return self.block, self.code.place(self.parameters[name].offset, (u, 1))

    def _affine(self, u: Index, n: Lanes) -> Lanes:
        if not self.layer.affine:
            return n
        return self.code.fma(
            n, self.code.load(*self._vector("weight", u)), self.code.load(*self._vector("bias", u))
        )

    def _over_root(self, variance: Lanes) -> Lanes:
        root = self.code.formula(vectors.square_root)(variance + self.code.number(self.layer.eps))
        return self.code.number(1.0) / root

    def forward(self, x: Values, y: Values) -> None:
        code = self.code
        count = code.number(float(x.samples))
        self._normalised = Values(code, x.samples, x.units)
        self._scale = Values(code, 1, x.units)
        newest = self._newest()

        def unit(u: Index) -> None:
            values = [x.get(s, u) for s in range(x.samples)]
            mean = added(values) / count
            centred = [value - mean for value in values]
            squares = added([value * value for value in centred])
            scale = self._over_root(squares / count)
            self._scale.set(0, u, scale)
            for s, value in enumerate(centred):
                self._normalised.set(s, u, value * scale)
                y.set(s, u, self._affine(u, value * scale))
            for name, batch in (
                ("running_mean", mean),
                ("running_var", squares / code.number(x.samples - 1.0)),
            ):
                place = self._vector(name, u)
                old = code.load(*place)
                code.store(*place, code.fma(newest, batch - old, old))

        code.each(x.units, unit, unrolled=x.units * x.samples <= UNROLLED // 4)

    def _newest(self) -> Lanes:
        """The newest batch's part in the running statistics; counts the batch."""
        code, place = self.code, self._vector("num_batches_tracked", 0)
        batches = code.load(*place) + code.number(1.0)
        code.store(*place, batches)
        momentum = self.layer.momentum
        return code.number(1.0) / batches if momentum is None else code.number(momentum)

    def evaluate(self, x: Values, y: Values) -> None:
        def one(s: int, u: Index) -> None:
            mean = self.code.load(*self._vector("running_mean", u))
            scale = self._over_root(self.code.load(*self._vector("running_var", u)))
            y.set(s, u, self._affine(u, (x.get(s, u) - mean) * scale))

        y.each(one)

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        code, samples = self.code, range(x.samples)
        count = code.number(float(x.samples))

        def unit(u: Index) -> None:
            scale = self._scale.get(0, u)
            if self.layer.affine:
                scale = scale * code.load(*self._vector("weight", u))
            gs = [dy.get(s, u) * scale for s in samples]
            ns = [self._normalised.get(s, u) for s in samples]
            mean = added(gs) / count
            along = added([g * n for g, n in zip(gs, ns, strict=True)]) / count
            for s, (g, n) in enumerate(zip(gs, ns, strict=True)):
                dx.set(s, u, g - mean - n * along)

        code.each(x.units, unit, unrolled=x.units * x.samples <= UNROLLED // 4)

    def update(self, x: Values, dy: Values) -> None:
        if not self.layer.affine:
            return
        weight, bias = (self.parameters[name].update for name in ("weight", "bias"))

        def unit(u: Index) -> None:
            ds = [dy.get(s, u) for s in range(x.samples)]
            if weight is not None:
                weight(u, ds, [self._normalised.get(s, u) for s in range(x.samples)])
            if bias is not None:
                bias(u, ds, None)

        self.code.each(x.units, unit, unrolled=x.units * x.samples <= UNROLLED // 4)
