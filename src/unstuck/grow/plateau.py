"""When hidden parts grow: the loss stays where it is, far from 0, and gradients still say where to go."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.grow.network import Array, GrowingNetwork
from unstuck.grow.widen import deepen, growable, widen
from unstuck.nn.layers.activations import ReLU
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.linear import Linear

WINDOW = 3
"""Passes whose mean loss is compared with that of as many before."""
FALL = 0.02
"""A fall of the loss by less than this share is a plateau."""
SOLVED = 0.05
"""Below this share of ln(classes), the loss of guessing, there is nothing left to grow for."""
ALIVE = 1e-3
"""Least |w||g| / loss, the loss's change for a change of all weights by their own size."""
SHARE = 4
"""A layer grows by one unit for every so many that it has."""
MOST = 2**22
"""Weights and biases beyond which nothing hidden is added."""
IN_VAIN = 2
"""Widenings in a row whose plateau was no lower than the one before, before a layer is put in."""


class Plateau(msgspec.Struct, frozen=True):
    """What a decision to grow is made on."""

    before: float
    """Mean loss of WINDOW passes."""
    after: float
    """Mean loss of the WINDOW passes that followed."""
    guessing: float
    """ln(classes)."""
    slope: float
    """|w||g| / loss over all weights."""
    layer: str
    """The growable layer with the largest |w||g|."""


def plateau(
    losses: Sequence[float], network: GrowingNetwork, inputs: Array, units: NDArray[np.int64]
) -> Plateau | None:
    """The evidence for a plateau on which growing may help; None where there is none.

    Args:
        losses: of the passes since the last growth, oldest first.
        network: with two classes at least.
        inputs: (N, ...) some samples of the last pass, for the gradient.
        units: (N,) their classes.
    """
    names = growable(network)
    if len(losses) < 2 * WINDOW or network.outputs < 2 or not names or network.size >= MOST:
        return None
    before = float(np.mean(losses[-2 * WINDOW : -WINDOW]))
    after = float(np.mean(losses[-WINDOW:]))
    guessing = float(np.log(network.outputs))
    if before - after >= FALL * before or after < SOLVED * guessing:
        return None
    gradient = network.gradient(inputs, units)
    views = network.net.layout(network.net.dtype).views(gradient)
    weights = network.net.parameters
    pull = {
        name: float(np.linalg.norm(weights[name].ravel()) * np.linalg.norm(views[name].ravel()))
        for name in views
    }
    slope = float(np.sqrt(sum(value**2 for value in pull.values()))) / after
    if slope < ALIVE:
        return None
    layer = max(names, key=lambda name: pull[f"{name}.weight"])
    return Plateau(before, after, guessing, slope, layer)


def grow_at(network: GrowingNetwork, found: Plateau, earlier: Sequence[Plateau]) -> tuple[str, str, int]:
    """Grow where the plateau says: a quarter more units, or a layer when that did not help twice.

    Returns:
        What was added ("units" or "layer"), in or behind which layer, and how many units.
    """
    levels = [one.after for one in earlier[-IN_VAIN:]]
    last = _last_rectifier(network)
    if last and len(levels) == IN_VAIN and all(found.after >= (1 - FALL) * level for level in levels):
        number = 1 + sum(name.startswith("grown") for name in network.layers)
        deepen(network, last, f"grown{number}")
        return "layer", f"grown{number}", _units_of(network, f"grown{number}")
    count = max(1, _units_of(network, found.layer) // SHARE)
    widen(network, found.layer, count, "split")
    return "units", found.layer, count


def _last_rectifier(network: GrowingNetwork) -> str | None:
    return next((name for name, one in reversed(network.layers.items()) if isinstance(one, ReLU)), None)


def _units_of(network: GrowingNetwork, name: str) -> int:
    layer = network.layers[name]
    if isinstance(layer, Conv2d):
        return layer.out_channels
    return layer.out_features if isinstance(layer, Linear) else 0
