# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""What layers do for many members: forward and backward beside each other, as code for one small batch.

x and y are the input and output of the batch, d the gradient with respect to y, all (samples, units) of
vectors; w and b are vectors too: each lane is a member with weights of its own.

    Linear     y[s,o] = b[o] + sum_i w[o,i] x[s,i]     dx[s,i] = sum_o w[o,i] d[s,o]
               dw[o,i] = sum_s d[s,o] x[s,i]           db[o] = sum_s d[s,o]
    functions  y = f(x)                                dx = f'(.) d       (formulas: `kernels/elementwise.py`)
    softmax    as in `kernels/softmax.py`
    batch norm in `normalisation.py`
"""

from unstuck.nn.kernels import elementwise, functions, table
from unstuck.nn.layers.activations import Elementwise
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.normalisation import BatchNorm1d
from unstuck.nn.layers.softmax import LogSoftmax, Softmax
from unstuck.nn.members.code import UNROLLED, Index
from unstuck.nn.members.lanes import Lanes
from unstuck.nn.members.normalisation import BatchNormOperation
from unstuck.nn.members.operation import Operation, Update, Values, added, highest


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
        f = self.code.formula(elementwise.VALUES[self.layer.kind])
        y.each(lambda s, u: y.set(s, u, f(x.get(s, u), *self.layer.constants)))

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        slope = self.code.formula(elementwise.SLOPES[self.layer.kind])
        source = x if self.layer.slope_from_input else y
        constants = self.layer.constants
        dx.each(lambda s, u: dx.set(s, u, slope(source.get(s, u), dy.get(s, u), *constants)))


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


class FlattenOperation(Operation):
    """Samples here are rows of features already: nothing moves."""

    def forward(self, x: Values, y: Values) -> None:
        y.each(lambda s, u: y.set(s, u, x.get(s, u)))

    def backward(self, x: Values, y: Values, dy: Values, dx: Values) -> None:
        dx.each(lambda s, u: dx.set(s, u, dy.get(s, u)))


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
