"""Convolutions in one or two dimensions, whatever the order of their axes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unstuck.gradcheck.known.layout import Layout
from unstuck.gradcheck.known.operation import Operation, Result, Slip, Variant
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


@dataclass(frozen=True)
class Geometry:
    """How a window walks."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    flipped: bool = False
    """Whether the forward pass flips its kernel: a convolution in the sense of mathematics."""


@dataclass(frozen=True)
class Form:
    """How a kernel is stored."""

    order: tuple[int, ...]
    """Axes that are (out, in, height, width); missing ones are -1."""
    view: tuple[int, ...] = ()
    """The shape with these axes where the kernel is a matrix, as beside im2col; empty: its own."""
    depthwise: bool = False
    """Whether every channel has its own kernel and sees no other channel."""

    def canonical(self, kernel: Array) -> Array:
        """(O, C, kh, kw)."""
        seen = _ordered(kernel.reshape(self.view) if self.view else kernel, self.order)
        if not self.depthwise:
            return seen
        channels = np.arange(len(seen))
        full = np.zeros((len(seen), *seen.shape[:1], *seen.shape[2:]))
        full[channels, channels] = seen[:, 0]
        return full

    def stored(self, gradient: Array, shape: tuple[int, ...]) -> Array:
        """From (O, C, kh, kw) back."""
        if self.depthwise:
            channels = np.arange(len(gradient))
            gradient = gradient[channels, channels][:, None]
        present = [axis for axis in self.order if axis >= 0]
        squeezed = gradient.reshape(
            [size for size, axis in zip(gradient.shape, self.order, strict=True) if axis >= 0]
        )
        return squeezed.transpose(np.argsort(present)).reshape(shape)


def pad(x: Array, padding: tuple[int, int]) -> Array:
    """Zeros around the two last axes. x: (N, C, H, W)."""
    return np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))


def windows(x: Array, size: tuple[int, int], stride: tuple[int, int]) -> Array:
    """All windows: (N, C, H', W', kh, kw) of x: (N, C, H, W)."""
    seen = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    return seen[:, :, :: stride[0], :: stride[1]]


class Convolution(Operation):
    """y[n, o] = b[o] + sum over c of the correlation of h[n, c] with K[o, c]."""

    word = "convolution"

    def __init__(self, weight: str, bias: str, layout: Layout, form: Form, geometry: Geometry) -> None:
        """As recognised.

        Args:
            weight: the kernel's name.
            bias: the bias's name; empty: none.
            layout: of inputs and outputs.
            form: how the kernel is stored.
            geometry: strides and padding.
        """
        self.weight, self.bias, self.layout, self.form, self.geometry = weight, bias, layout, form, geometry
        self.order = form.order
        self.tensors = (weight, bias) if bias else (weight,)

    def kernel(self, values: Values) -> Array:
        """(O, C, kh, kw), not flipped."""
        kernel = self.form.canonical(values[self.weight])
        return kernel[:, :, ::-1, ::-1] if self.geometry.flipped else kernel

    def _back_to_order(self, gradient: Array, shape: tuple[int, ...]) -> Array:
        return self.form.stored(gradient[:, :, ::-1, ::-1] if self.geometry.flipped else gradient, shape)

    def forward(self, values: Values, h: Array) -> Array:
        x, kernel = self.layout.inward(h), self.kernel(values)
        seen = windows(pad(x, self.geometry.padding), kernel.shape[2:], self.geometry.stride)  # pyright: ignore[reportArgumentType]
        y = np.einsum("nchwij,ocij->nohw", seen, kernel, optimize=True)
        if self.bias:
            y = y + values[self.bias].reshape(1, -1, 1, 1)
        return self.layout.outward(y)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        x, signal, kernel = self.layout.inward(h), self.layout.inward(dy), self.kernel(values)
        padded = pad(x, self.geometry.padding)
        grads = {self.weight: self._weight(values, padded, signal, self.geometry.stride)}
        if self.bias:
            grads[self.bias] = signal.sum(axis=(0, 2, 3)).reshape(values[self.bias].shape)
        return self.layout.outward(self._back(x, padded.shape, signal, kernel, slip)), grads

    def _weight(self, values: Values, padded: Array, signal: Array, stride: tuple[int, int]) -> Array:
        shape = self.form.canonical(values[self.weight]).shape
        rows, columns = signal.shape[2:]
        seen = windows(padded, (shape[2], shape[3]), stride)[:, :, :rows, :columns]
        gradient = np.einsum("nchwij,nohw->ocij", seen, signal, optimize=True)
        return self._back_to_order(gradient, values[self.weight].shape)

    def _back(self, x: Array, shape: tuple[int, ...], signal: Array, kernel: Array, slip: str) -> Array:
        stride, (top, left) = self.geometry.stride, self.geometry.padding
        if "flip" in slip:
            kernel = kernel[:, :, ::-1, ::-1]
        if "turn" in slip:
            kernel = kernel.swapaxes(2, 3)
        if "channels" in slip:
            kernel = kernel.swapaxes(0, 1)
        if slip == "order":
            kernel = kernel[:, ::-1]
        if slip == "last-output":
            signal = signal * (np.arange(signal.shape[1]) == signal.shape[1] - 1)[:, None, None]
        step = (1, 1) if slip == "stride" else stride
        if slip == "padding":
            top, left = 0, 0
        if slip == "padding-twice":
            top, left = 2 * top, 2 * left
        back = scatter(signal, kernel, shape, step, overwrite=slip == "overwrite")
        back = np.pad(back, ((0, 0), (0, 0), (0, top), (0, left)))
        return back[:, :, top : top + x.shape[2], left : left + x.shape[3]]

    def slips(self, values: Values, h: Array) -> list[Slip]:
        kernel = self.kernel(values)
        name = self.weight
        found = [Slip("last-output", "overwritten", "only the last output channel passes its gradient on")]
        if max(kernel.shape[2:]) > 1:
            flip = (
                f"the kernel {name} is the wrong way round (flipped, or not) where the gradient is passed on"
            )
            found.append(Slip("flip", "kernel-not-flipped", flip))
            overwrite = "where windows overlap, the last one overwrites the gradient of the others"
            found.append(Slip("overwrite", "overwritten", overwrite))
        if kernel.shape[2] == kernel.shape[3] > 1:
            found.append(Slip("turn", "transposed", f"the kernel {name} has height and width exchanged"))
        if max(self.geometry.padding) > 0:
            text = (
                f"the padding of {max(self.geometry.padding)} is not taken off: the gradient is shifted by it"
            )
            found += [
                Slip("padding", "padding-ignored", text),
                Slip("padding-twice", "padding-ignored", text),
            ]
        if max(self.geometry.stride) > 1:
            text = f"the stride of {max(self.geometry.stride)} is ignored where the gradient is passed on"
            found.append(Slip("stride", "stride-ignored", text))
        if kernel.shape[0] == kernel.shape[1] > 1 and not self.form.depthwise:
            text = f"input and output channels of {name} are exchanged where the gradient is passed on"
            found += [
                Slip("channels", "channels-swapped", text),
                Slip("channels-flip", "channels-swapped", text),
            ]
        if kernel.shape[1] > 1:
            found.append(Slip("order", "channels-swapped", f"the input channels of {name} stand in reverse"))
        return found

    def variants(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Iterator[Variant]:
        if name != self.weight:
            return
        x, signal = self.layout.inward(h), self.layout.inward(dy)
        top, left = self.geometry.padding
        if max(top, left) > 0:
            moved = np.pad(x, ((0, 0), (0, 0), (0, 2 * top), (0, 2 * left)))
            text = f"{name}'s gradient uses the input without its padding"
            yield Variant("padding-ignored", text, self._weight(values, moved, signal, self.geometry.stride))
        padded = pad(x, self.geometry.padding)
        if max(self.geometry.stride) > 1:
            text = f"{name}'s gradient ignores the stride of {max(self.geometry.stride)}"
            yield Variant("stride-ignored", text, self._weight(values, padded, signal, (1, 1)))
        kernel = self.kernel(values)
        if kernel.shape[0] == kernel.shape[1] > 1 and not self.form.depthwise:
            canonical = self.form.canonical(self._weight(values, padded, signal, self.geometry.stride))
            gradient = self._back_to_order(canonical.swapaxes(0, 1), values[name].shape)
            if self.geometry.flipped:
                gradient = self._back_to_order(canonical[:, :, ::-1, ::-1].swapaxes(0, 1), values[name].shape)
            text = f"input and output channels are exchanged in {name}'s gradient"
            yield Variant("channels-swapped", text, gradient)
        if kernel.shape[2] * kernel.shape[3] > 1:
            canonical = self.form.canonical(self._weight(values, padded, signal, self.geometry.stride))
            gradient = self.form.stored(canonical[:, :, ::-1, ::-1], values[name].shape)
            text = f"the gradient of the kernel {name} is the wrong way round: flipped"
            yield Variant("kernel-not-flipped", text, gradient)
        last = np.zeros_like(signal)
        last[:, :, -1, -1] = signal[:, :, -1, -1]
        text = f"{name}'s gradient is that of the last position: it is overwritten, not added up"
        yield Variant("overwritten", text, self._weight(values, padded, last, self.geometry.stride))

    def share(self, values: Values, h: Array, y: Array, dy: Array, name: str) -> Array | None:
        signal = self.layout.inward(dy)
        if name == self.bias:
            return signal.transpose(0, 2, 3, 1)
        padded = pad(self.layout.inward(h), self.geometry.padding)
        if signal.shape[0] * values[name].size > 2_000_000:
            return None
        parts = [
            self._weight(values, padded[n : n + 1], signal[n : n + 1], self.geometry.stride).reshape(-1)
            for n in range(signal.shape[0])
        ]
        return np.stack(parts)


def scatter(
    signal: Array, kernel: Array, shape: tuple[int, ...], stride: tuple[int, int], *, overwrite: bool = False
) -> Array:
    """The gradient by a padded input: every window gets the kernel times its output's gradient."""
    back = np.zeros((*shape[:1], kernel.shape[1], *shape[2:]))
    high, wide = kernel.shape[2:]
    rows, columns = signal.shape[2:]
    if overwrite:
        for i in range(rows):
            for j in range(columns):
                at = np.s_[:, :, i * stride[0] : i * stride[0] + high, j * stride[1] : j * stride[1] + wide]
                back[at] = np.einsum("no,ocij->ncij", signal[:, :, i, j], kernel)
        return back
    for i in range(high):
        for j in range(wide):
            part = np.einsum("nohw,oc->nchw", signal, kernel[:, :, i, j], optimize=True)
            at = np.s_[:, :, i : i + rows * stride[0] : stride[0], j : j + columns * stride[1] : stride[1]]
            room = back[at]
            room += part[:, :, : room.shape[2], : room.shape[3]]
    return back


def _ordered(kernel: Array, order: tuple[int, ...]) -> Array:
    present = [axis for axis in order if axis >= 0]
    moved = kernel.transpose(present)
    shape = [kernel.shape[axis] if axis >= 0 else 1 for axis in order]
    return moved.reshape(shape)
