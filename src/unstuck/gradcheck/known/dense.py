"""Dense layers, with samples as rows or as columns and the matrix either way round."""

from collections.abc import Iterator

from unstuck.gradcheck.known.operation import Operation, Result, Slip, Variant
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


class Dense(Operation):
    """y = h W + b over the last axis, or y = W h + b with samples as columns."""

    word = "dense layer"

    def __init__(self, weight: str, bias: str, *, transposed: bool, columns: bool) -> None:
        self.weight, self.bias = weight, bias
        self.transposed, self.columns = transposed, columns
        self.tensors = (weight, bias) if bias else (weight,)

    def _matrix(self, values: Values) -> Array:
        matrix = values[self.weight]
        return matrix.T if self.transposed else matrix

    def forward(self, values: Values, h: Array) -> Array:
        rows = (h.T if self.columns else h) @ self._matrix(values)
        if self.bias:
            rows = rows + values[self.bias].reshape(-1)
        return rows.T if self.columns else rows

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        matrix = self._matrix(values)
        rows, signal = (h.T, dy.T) if self.columns else (h, dy)
        flat, down = rows.reshape(-1, rows.shape[-1]), signal.reshape(-1, signal.shape[-1])
        weight = flat.T @ down
        grads = {self.weight: weight.T if self.transposed else weight}
        if self.bias:
            grads[self.bias] = down.sum(axis=0).reshape(values[self.bias].shape)
        used = matrix if slip == "transposed" else matrix.T
        if slip == "updated":
            used = -weight.T
        back = signal @ used
        return (back.T if self.columns else back), grads

    def slips(self, values: Values, h: Array) -> list[Slip]:
        matrix = values[self.weight]
        if matrix.shape[0] != matrix.shape[1]:
            return []
        text = f"{self.weight} is transposed where the gradient is passed on through it"
        return [Slip("transposed", "transposed", text)]

    def variants(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Iterator[Variant]:
        if name == self.weight and h.shape == dy.shape:
            gradient = self.backward(values, y, y, dy)[1][name]
            yield Variant(
                "input-mistaken", f"{name}'s gradient uses the layer's output for its input", gradient
            )

    def share(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Array | None:
        rows, signal = (h.T, dy.T) if self.columns else (h, dy)
        if name == self.bias:
            return signal
        if name == self.weight and rows.ndim > 1:
            flat, down = rows.reshape(-1, rows.shape[-1]), signal.reshape(-1, signal.shape[-1])
            if flat.shape[0] * values[name].size > 2_000_000:
                return None
            outer = flat[:, :, None] * down[:, None, :]
            outer = outer.transpose(0, 2, 1) if self.transposed else outer
            return outer.reshape(*rows.shape[:-1], -1)
        return None
