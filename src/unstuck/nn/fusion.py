"""Which ReLUs are done by their neighbours, so that no pass through memory is spent on them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from unstuck.nn.layers.activations import ReLU
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Layer


@dataclass(frozen=True)
class Fusion:
    """What is left out of a chain of layers."""

    inside: tuple[bool, ...]
    """By layer: it writes its output rectified, and the ReLU after it does nothing going forward."""
    gated: tuple[bool, ...]
    """By layer: a ReLU with whose slope the next layer multiplies, and that does nothing going back."""

    @classmethod
    def none(cls, chain: Sequence[Layer]) -> Self:
        """Every layer does its own work."""
        return cls((False,) * len(chain), (False,) * len(chain))

    @classmethod
    def of(cls, chain: Sequence[Layer], kept: Collection[int]) -> Self:
        """All that can be left out, where other layers, too, read the outputs of the layers in `kept`."""
        return cls(
            inside=tuple(
                layer.rectifies and i not in kept and isinstance(after, ReLU)
                for i, (layer, after) in enumerate(zip(chain, [*chain[1:], None], strict=True))
            ),
            gated=tuple(
                isinstance(layer, ReLU) and _next_gates(chain, i, kept) for i, layer in enumerate(chain)
            ),
        )


def _next_gates(chain: Sequence[Layer], index: int, kept: Collection[int]) -> bool:
    """Whether the layer that reads this one's output can multiply with its slope, and is the only reader."""
    while index not in kept and index + 1 < len(chain):
        index += 1
        if not isinstance(chain[index], Flatten):
            return chain[index].gates
    return False
