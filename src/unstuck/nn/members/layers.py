# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""What layers do for many members: forward and backward beside each other, as code for one small batch.

x and y are the input and output of the batch, d the gradient with respect to y, all (samples, units) of
vectors; w and b are vectors too: each lane is a member with weights of its own.

    Linear     y[s,o] = b[o] + sum_i w[o,i] x[s,i]     dx[s,i] = sum_o w[o,i] d[s,o]
               dw[o,i] = sum_s d[s,o] x[s,i]           db[o] = sum_s d[s,o]
    functions  y = f(x)                                dx = f'(.) d       (formulas: `kernels/elementwise.py`)
    softmax    as in `kernels/softmax.py`
    batch norm as in `kernels/normalise.py`
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unstuck.nn.kernels import elementwise, functions, table, vectors
from unstuck.nn.kernels import softmax as softmax_kernel
from unstuck.nn.layers.activations import Elementwise
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.normalisation import BatchNorm1d
from unstuck.nn.layers.softmax import LogSoftmax, Softmax
from unstuck.nn.members.code import UNROLLED, Code, Index
from unstuck.nn.members.lanes import Lanes


class Values:
    """One number for each member, sample of the batch and unit: (samples, units) vectors."""

    def __init__(self, code: Code, samples: int, units: int) -> None:
        self.code, self.samples, self.units = code, samples, units
        self._memory = code.room(samples * units)

    def get(self, sample: Index, unit: Index) -> Lanes:
        """One vector."""
        return self.code.load(self._memory, self.code.place(0, (sample, self.units), (unit, 1)))

    def set(self, sample: Index, unit: Index, value: Lanes) -> None:
        """Write one vector."""
        self.code.store(self._memory, self.code.place(0, (sample, self.units), (unit, 1)), value)

    def each(self, body: Callable[[int, Index], None]) -> None:
        """The body for every sample and unit."""
        few = self.samples * self.units <= UNROLLED // 4

        def unit(u: Index) -> None:
            for s in range(self.samples):
                body(s, u)

        self.code.each(self.units, unit, unrolled=few)


Update = Callable[[Index, list[Lanes], list[Lanes] | None], None]
"""Write the update of one number of a parameter (its place in the tensor), whose gradient is a sum over the
samples: of the first list, or of the products of both."""


@dataclass(frozen=True)
class Parameter:
    """A parameter tensor in a member block: its first vector, and how it is trained."""

    offset: int
    update: Update | None
    """None: it is frozen."""


Parameters = dict[str, Parameter]


class Operation:
    """A layer in the code of one batch."""

    def __init__(self, code: Code, layer: Layer, block: Any, parameters: Parameters) -> None:
        self.code, self.layer, self.block, self.parameters = code, layer, block, parameters

    def forward(self, x: Values, y: Values) -> None:
        """Write y from x, while training."""
        raise NotImplementedError

    def evaluate(self, x: Values, y: Values) -> None:
        """Write y from x, while evaluating."""
        self.forward(x, y)

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        """Write dx from dy."""
        raise NotImplementedError

    def update(self, x: Values, dy: Values) -> None:
        """Write the updates of the parameters."""


class LinearOperation(Operation):
    """y = W x + b."""

    layer: Linear

    def _weight(self, o: Index, i: Index) -> Lanes:
        first = self.parameters["weight"].offset
        return self.code.load(self.block, self.code.place(first, (o, self.layer.in_features), (i, 1)))

    def _bias(self, o: Index) -> Lanes:
        return self.code.load(self.block, self.code.place(self.parameters["bias"].offset, (o, 1)))

    def forward(self, x: Values, y: Values) -> None:
        def result(o: Index, s: int, total: Lanes) -> None:
            y.set(s, o, total)

        sizes = self.layer.out_features, self.layer.in_features, x.samples
        self.code.contract(*sizes, self._weight, x.get, self._bias if self.layer.bias else None, result)

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        def weight(i: Index, o: Index) -> Lanes:
            return self._weight(o, i)

        def result(i: Index, s: int, total: Lanes) -> None:
            dx.set(s, i, total)

        sizes = self.layer.in_features, self.layer.out_features, x.samples
        self.code.contract(*sizes, weight, dy.get, None, result)

    def update(self, x: Values, dy: Values) -> None:
        inputs, samples = self.layer.in_features, range(x.samples)
        few = self.layer.out_features * inputs * len(samples) <= UNROLLED
        update, bias = self.parameters["weight"].update, self.parameters.get("bias")

        def unit(o: Index) -> None:
            ds = [dy.get(s, o) for s in samples]
            if bias is not None and bias.update is not None:
                bias.update(self.code.place(0, (o, 1)), ds, None)
            if update is not None:

                def one(i: Index, update: Update = update) -> None:
                    update(self.code.place(0, (o, inputs), (i, 1)), ds, [x.get(s, i) for s in samples])

                self.code.each(inputs, one, unrolled=few)

        self.code.each(self.layer.out_features, unit, unrolled=few)


class ElementwiseOperation(Operation):
    """y = f(x)."""

    layer: Elementwise

    def forward(self, x: Values, y: Values) -> None:
        f = self.code.formula(elementwise.activate)
        y.each(lambda s, u: y.set(s, u, f(self.layer.kind, x.get(s, u), *self.layer.constants)))

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        slope = self.code.formula(elementwise.slope_times)
        source = x if self.layer.slope_from_input else y
        kind, constants = self.layer.kind, self.layer.constants
        dx.each(lambda s, u: dx.set(s, u, slope(kind, source.get(s, u), dy.get(s, u), *constants)))


class SoftmaxOperation(Operation):
    """y = softmax x, or its logarithm."""

    layer: Softmax | LogSoftmax

    def forward(self, x: Values, y: Values) -> None:
        exp, log = (self.code.formula(f) for f in (functions.exp, functions.log))
        for s in range(x.samples):
            top = highest(self.code, [x.get(s, u) for u in range(x.units)])
            shares = [exp(x.get(s, u) - top) for u in range(x.units)]
            total = added(shares)
            rest = log(total)
            for u, share in enumerate(shares):
                logarithm = x.get(s, u) - top - rest
                y.set(s, u, logarithm if self.layer.kind == table.LOGARITHM else share / total)

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        exp = self.code.formula(functions.exp)
        for s in range(x.samples):
            pairs = [(y.get(s, u), dy.get(s, u)) for u in range(x.units)]
            if self.layer.kind == table.LOGARITHM:
                inner = added([d for _, d in pairs])
                results = [d - exp(y_) * inner for y_, d in pairs]
            else:
                inner = self.code.number(0.0)
                for y_, d in pairs:
                    inner = self.code.fma(y_, d, inner)
                results = [y_ * (d - inner) for y_, d in pairs]
            for u, result in enumerate(results):
                dx.set(s, u, result)


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


class FlattenOperation(Operation):
    """Samples here are rows of features already: nothing moves."""

    def forward(self, x: Values, y: Values) -> None:
        y.each(lambda s, u: y.set(s, u, x.get(s, u)))

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        dx.each(lambda s, u: dx.set(s, u, dy.get(s, u)))


def added(values: list[Lanes]) -> Lanes:
    """Sum of some vectors, from the first on."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def highest(code: Code, values: list[Lanes]) -> Lanes:
    """Largest of some vectors, lane by lane; NaN wins."""
    larger = code.formula(softmax_kernel.larger)
    top = values[0]
    for value in values[1:]:
        top = larger(value, top)
    return top


OPERATIONS: dict[type[Layer], type[Operation]] = {
    Linear: LinearOperation,
    Flatten: FlattenOperation,
    Softmax: SoftmaxOperation,
    LogSoftmax: SoftmaxOperation,
}


def operation_of(layer: Layer) -> type[Operation] | None:
    """How a layer is written for many members; None where only lanes of samples can run it."""
    if isinstance(layer, Elementwise):
        return ElementwiseOperation
    if isinstance(layer, BatchNorm1d):  # without running statistics an evaluation needs all samples at once
        return BatchNormOperation if layer.track_running_stats else None
    return OPERATIONS.get(type(layer))
