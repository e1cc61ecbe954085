"""Activations, softmax, dropout and changes of shape."""

import numpy as np

from unstuck.gradcheck.known.functions import Activation, derivative_slips
from unstuck.gradcheck.known.operation import Operation, Result, Slip
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


class Elementwise(Operation):
    """y = f(h)."""

    def __init__(self, f: Activation) -> None:
        self.f, self.word = f, f.name

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return self.f.value(h)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        if slip == "on-gradient":
            return dy * (dy > 0), {}
        if slip:
            return dy * derivative_slips(self.f, h, y)[slip][2], {}
        return dy * self.f.slope(h), {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        found = [
            Slip(name, kind, text)
            for name, (kind, text, _) in derivative_slips(self.f, h, self.f.value(h)).items()
        ]
        text = f"the mask of {self.f.name} is made from the gradient instead of the input"
        return [*found, Slip("on-gradient", "activation-derivative-wrong", text)]


class PRelu(Operation):
    """y = h where h > 0, and slope * h elsewhere, with a learned slope for all or for each channel."""

    word = "PReLU"

    def __init__(self, slope: str, axis: int) -> None:
        self.slope, self.axis = slope, axis
        self.tensors = (slope,)

    def _slopes(self, values: Values, h: Array) -> Array:
        shape = [1] * h.ndim
        if values[self.slope].size > 1:
            shape[self.axis] = -1
        return values[self.slope].reshape(shape)

    def forward(self, values: Values, h: Array) -> Array:
        return np.where(h > 0, h, self._slopes(values, h) * h)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        share = self.share(values, h, y, dy, self.slope)
        gradient = share.reshape(-1, share.shape[-1]).sum(axis=0).reshape(values[self.slope].shape)
        negative = {"missing": 1.0, "relu": 0.0}.get(slip, self._slopes(values, h))
        if slip == "slope":
            return dy * self._slopes(values, h), {self.slope: gradient}
        return dy * np.where(h > 0, 1.0, negative), {self.slope: gradient}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        wrong = "activation-derivative-wrong"
        return [
            Slip("missing", "activation-derivative-missing", "the derivative of PReLU is missing"),
            Slip("relu", wrong, "the negative side's slope of PReLU is forgotten"),
            Slip("slope", wrong, "the derivative of PReLU is its slope on both sides"),
        ]

    def share(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Array:
        parts = dy * np.minimum(h, 0.0)
        if values[name].size == 1:
            return parts[..., None]
        return np.moveaxis(parts, self.axis, -1)


class Softmax(Operation):
    """p = exp(h) / sum(exp(h)) along an axis; or its logarithm."""

    def __init__(self, axis: int, *, log: bool = False) -> None:
        self.axis, self.log = axis, log
        self.word = "log-softmax" if log else "softmax"

    def forward(self, values: Values, h: Array) -> Array:
        del values
        shifted = h - h.max(axis=self.axis, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        return logs if self.log else np.exp(logs)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        p = np.exp(y) if self.log else y
        if slip == "missing":
            return dy, {}
        if slip == "diagonal":
            return (dy * (1 - p) if self.log else dy * p * (1 - p)), {}
        if slip == "product":
            return dy * p, {}
        if self.log:
            once = dy - p * dy.sum(axis=self.axis, keepdims=True)
        else:
            once = p * (dy - (dy * p).sum(axis=self.axis, keepdims=True))
        if slip == "twice":
            once = p * (once - (once * p).sum(axis=self.axis, keepdims=True))
        return once, {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        off = "the softmax's derivative has only its diagonal: its off-diagonal terms are missing"
        return [
            Slip("diagonal", "softmax-diagonal-only", off),
            Slip("product", "softmax-diagonal-only", f"{off}, and so is the minus in p (1 - p)"),
            Slip("missing", "activation-derivative-missing", "the derivative of the softmax is missing"),
            Slip("twice", "softmax-twice", "the softmax is differentiated twice"),
        ]


class Dropout(Operation):
    """y = h * mask; the mask holds the factor that makes up for what is dropped."""

    word = "dropout"

    def __init__(self, mask: Array) -> None:
        self.mask = mask

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return h * self.mask

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        if slip == "mask":
            return dy, {}
        if slip == "scale":
            return dy * (self.mask != 0), {}
        if slip == "scale-only":
            return dy * self.mask.max(), {}
        if slip == "scale-twice":
            return dy * self.mask * self.mask.max(), {}
        return dy * self.mask, {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        mask = "the units that dropout has dropped get a gradient: its mask is not used"
        keep = 1 / float(self.mask.max())
        scale = f"dropout scales by 1 / {keep:.3g} in the forward pass, and not so in the backward pass"
        return [
            Slip("mask", "dropout-mask-not-reused", mask),
            Slip("scale-only", "dropout-mask-not-reused", mask),
            Slip("scale", "dropout-not-scaled", scale),
            Slip("scale-twice", "dropout-not-scaled", scale),
        ]


class Reshape(Operation):
    """The same numbers in another shape, and the axes in another order before it."""

    word = "reshape"

    def __init__(self, shape: tuple[int, ...], axes: tuple[int, ...] | None = None) -> None:
        self.shape, self.axes = shape, axes

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return (h if self.axes is None else h.transpose(self.axes)).reshape(self.shape)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        axes = tuple(range(h.ndim)) if self.axes is None else self.axes
        moved = tuple(h.shape[axis] for axis in axes)
        if slip == "column-order":
            return dy.reshape(h.shape, order="F"), {}
        if slip == "not-moved":
            return dy.reshape(h.shape), {}
        return dy.reshape(moved).transpose(np.argsort(axes)), {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        text = "flattened numbers are put back into their shape in another order"
        found = [Slip("column-order", "shifted", text)]
        return found if self.axes is None else [*found, Slip("not-moved", "shifted", text)]


class Last(Operation):
    """The last step of a sequence."""

    word = "last step"

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return np.take(h, -1, axis=self.axis)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        back = np.zeros_like(h)
        np.moveaxis(back, self.axis, 0)[-1] = dy
        return back, {}


class Mean(Operation):
    """The mean, or the sum, over some axes."""

    def __init__(self, axes: tuple[int, ...], *, total: bool = False) -> None:
        self.axes, self.total = axes, total
        self.word = "sum" if total else "mean"

    def forward(self, values: Values, h: Array) -> Array:
        del values
        return h.sum(axis=self.axes) if self.total else h.mean(axis=self.axes)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        count = 1 if self.total or slip else h.size / max(1, y.size)
        return np.broadcast_to(np.expand_dims(dy, self.axes) / count, h.shape).copy(), {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        if self.total:
            return []
        return [Slip("divide", "pooling-not-divided", "the gradient of a mean is not divided by its size")]
