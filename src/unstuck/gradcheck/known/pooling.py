"""Maximum and average pooling."""

import numpy as np

from unstuck.gradcheck.known.convolution import windows
from unstuck.gradcheck.known.layout import Layout
from unstuck.gradcheck.known.operation import Operation, Result, Slip
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array


class Pooling(Operation):
    """The largest, or the mean, of every window."""

    def __init__(
        self, layout: Layout, size: tuple[int, int], stride: tuple[int, int], *, largest: bool
    ) -> None:
        self.layout, self.size, self.stride, self.largest = layout, size, stride, largest
        self.word = "max pooling" if largest else "average pooling"

    def forward(self, values: Values, h: Array) -> Array:
        del values
        seen = windows(self.layout.inward(h), self.size, self.stride)
        return self.layout.outward(seen.max(axis=(4, 5)) if self.largest else seen.mean(axis=(4, 5)))

    def _shares(self, seen: Array, slip: str) -> Array:
        """How a window's gradient is shared: (N, C, H', W', kh * kw)."""
        flat = seen.reshape(*seen.shape[:4], -1)
        count = flat.shape[-1]
        if slip in {"all", "undivided"}:
            return np.ones_like(flat)
        if slip == "even":
            return np.full_like(flat, 1 / count)
        if slip in {"first", "last"}:
            place = 0 if slip == "first" else count - 1
            return np.broadcast_to(np.eye(count)[place], flat.shape)
        if slip == "ties":
            return (flat == flat.max(axis=-1, keepdims=True)).astype(np.float64)
        if slip == "smallest":
            return np.eye(count)[flat.argmin(axis=-1)]
        return np.eye(count)[flat.argmax(axis=-1)] if self.largest else np.full_like(flat, 1 / count)

    def backward(self, values: Values, h: Array, y: Array, dy: Array, slip: str = "") -> Result:
        x, signal = self.layout.inward(h), self.layout.inward(dy)
        shares = self._shares(windows(x, self.size, self.stride), slip)
        back = np.zeros_like(x)
        high, wide = self.size
        rows, columns = signal.shape[2:]
        step = (1, 1) if slip == "stride" else self.stride
        if slip == "overwrite":
            for i in range(rows):
                for j in range(columns):
                    at = np.s_[:, :, i * step[0] : i * step[0] + high, j * step[1] : j * step[1] + wide]
                    part = shares[:, :, i, j] * signal[:, :, i, j, None]
                    back[at] = part.reshape(*part.shape[:2], high, wide)
            return self.layout.outward(back), {}
        for i in range(high):
            for j in range(wide):
                at = np.s_[:, :, i : i + rows * step[0] : step[0], j : j + columns * step[1] : step[1]]
                room = back[at]
                room += (shares[..., i * wide + j] * signal)[:, :, : room.shape[2], : room.shape[3]]
        return self.layout.outward(back), {}

    def slips(self, values: Values, h: Array) -> list[Slip]:
        first = Slip("first", "pooling-to-first", f"{self.word} gives its gradient to a window's first place")
        found = [
            first,
            Slip("last", "pooling-to-first", f"{self.word} gives its gradient to a window's last place"),
        ]
        if self.largest:
            text = f"{self.word} gives its gradient to all of a window"
            found += [
                Slip("all", "pooling-to-all", text),
                Slip("even", "pooling-to-all", f"{text}, in equal parts"),
                Slip(
                    "ties",
                    "pooling-ties",
                    f"{self.word} gives the full gradient to each of several equal maxima",
                ),
                Slip(
                    "smallest", "pooling-to-first", f"{self.word} gives its gradient to a window's smallest"
                ),
            ]
        else:
            text = f"{self.word} does not divide its gradient by the window's {self.size[0] * self.size[1]}"
            found.append(Slip("undivided", "pooling-not-divided", text))
        if self.stride[0] < self.size[0] or self.stride[1] < self.size[1]:
            text = "where windows overlap, the last one overwrites the gradient of the others"
            found.append(Slip("overwrite", "overwritten", text))
        if max(self.stride) > 1:
            found.append(Slip("stride", "stride-ignored", f"the stride of {self.word} is ignored"))
        return found
