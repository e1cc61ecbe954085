"""Where each parameter stands in a network's flat array."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unstuck.nn.initialise import ParameterSpec

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector."""


@dataclass(frozen=True)
class BufferSpec:
    """What a layer keeps beside its parameters, such as a running mean."""

    name: str
    shape: tuple[int, ...]
    start: float
    """Value before the first step."""


@dataclass(frozen=True)
class Layout:
    """Parameters one after another, each starting at a vector's boundary, in PyTorch's layout and order.

    Behind the parameters stand the buffers: whoever copies a network's array copies them too. The first `pad`
    numbers are 0 for ever: a layer without bias reads its bias there.
    """

    specs: tuple[ParameterSpec, ...]
    pad: int
    """Numbers in 64 bytes of the parameters' type: 16 for float32, 8 for float64."""
    buffers: tuple[BufferSpec, ...] = ()

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Name of a parameter or buffer to first number."""
        place, offsets = self.pad, dict[str, int]()
        for spec in (*self.specs, *self.buffers):
            offsets[spec.name] = place
            place += self.padded(spec)
        return offsets

    @cached_property
    def size(self) -> int:
        """Numbers in the whole array, a multiple of `pad`; the last `pad` are for vectors that hang over."""
        return self.pad + sum(self.padded(spec) for spec in (*self.specs, *self.buffers)) + self.pad

    def padded(self, spec: ParameterSpec | BufferSpec) -> int:
        """Numbers that a parameter or buffer takes, rounded up to a vector."""
        return -(-int(np.prod(spec.shape)) // self.pad) * self.pad

    def views(self, flat: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """The parameters of one flat array (or of many: leading axes stay) by name; no copies."""
        return self._views(flat, self.specs)

    def buffer_views(self, flat: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """The buffers, likewise."""
        return self._views(flat, self.buffers)

    def all_views(self, flat: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
        """Parameters and buffers: all that makes a network what it is."""
        return self.views(flat) | self.buffer_views(flat)

    def reset_buffers(self, flat: NDArray[np.floating]) -> None:
        """Set the buffers to their values before the first step."""
        for spec, view in zip(self.buffers, self.buffer_views(flat).values(), strict=True):
            view[...] = spec.start

    def _views(
        self, flat: NDArray[np.floating], specs: Sequence[ParameterSpec | BufferSpec]
    ) -> dict[str, NDArray[np.floating]]:
        places = ((spec, self.offsets[spec.name], int(np.prod(spec.shape))) for spec in specs)
        return {
            spec.name: flat[..., start : start + size].reshape(flat.shape[:-1] + spec.shape)
            for spec, start, size in places
        }

    @cached_property
    def all_segments(self) -> NDArray[np.int64]:
        """The segments where everything is trained."""
        return self.segments()

    def segments(self, frozen: frozenset[str] = frozenset()) -> NDArray[np.int64]:
        """(tensors, 3): offset, padded length, and whether it is trained (not in `frozen`)."""
        rows = [
            (
                self.offsets[spec.name],
                self.padded(spec),
                int(spec.name not in frozen and spec.layer not in frozen),
            )
            for spec in self.specs
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)


def aligned(shape: int | tuple[int, ...], dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
    """Zeros that start at a cache line."""
    count = int(np.prod(shape))
    raw = np.zeros(count * dtype.itemsize + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype).reshape(shape)
