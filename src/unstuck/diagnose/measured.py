"""What several rules ask of a trace: which layers count, what was zero at the start, a typical value."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from unstuck.diagnose.finding import Evidence
from unstuck.trace.recording import Recording, Series
from unstuck.trace.structure import INPUT, NORMALISING, Node

LOOKS_UP: Final = frozenset({"Embedding", "EmbeddingBag"})
"""Layers whose weight is a table of rows, chosen by whole numbers."""
RECURRENT: Final = frozenset({"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"})
"""Layers whose weights are several matrices, used at each step of a sequence."""
USUAL_WEIGHTS: Final = 0.2
"""|W| / sqrt(units) from which on a layer's weights are of usual size."""

ANY_TRAINING: Final = (
    "OUT",
    "LRN",
    "GRD",
    "ACT",
    "INI",
    "NRM",
    "ARC",
    "DAT003",
    "DAT005",
    "DAT006",
    "DAT007",
)
"""Beginnings of the codes of all causes that leave a program's inputs as they are."""
BUT_REMADE: Final = ("INI", "GRD", "ACT", "OUT", "LRN", "DAT", "NRM", "ARC001", "ARC002")
"""All causes but a layer that is made anew in each pass: that one's parameters no optimiser can hold."""
AFTER_THE_START: Final = (
    "LRN",
    "GRD005",
    "GRD006",
    "GRD007",
    "OUT002",
    "OUT003",
    "OUT004",
    "OUT006",
    "OUT007",
    "OUT008",
    "OUT009",
    "DAT006",
    "DAT007",
    "NRM001",
)
"""... of all that cannot change what the layers pass on before the first update."""


def weight_layers(trace: Recording) -> list[Node]:
    """Layers that multiply their input by a matrix or kernel, from input to output.

    Scales of normalisations are left out: their weight is a vector, for which neither units nor a signal's
    spread mean anything. So are tables that are looked up: the rows that a batch does not use get no gradient
    and stay as they are. And so is what no gradient can reach, which is no part of the chain (GRD003 knows).
    """
    return [node for node in multiplying(trace) if node.connected]


def multiplying(trace: Recording) -> list[Node]:
    """The same with layers that no gradient can reach."""
    return [
        node
        for node in trace.structure.layers
        if node.type not in NORMALISING | LOOKS_UP and len(node.parameters["weight"]) >= 2
    ]


def first_layers(trace: Recording) -> list[Node]:
    """Weight layers that the input reaches without passing another operation that has parameters."""
    reached, found = {INPUT}, list[Node]()
    for node in trace.structure.nodes:
        if not reached.intersection(node.inputs):
            continue
        if node.parameters:
            found.append(node)
        else:
            reached.add(node.name)
    return found


def tables(trace: Recording) -> list[Node]:
    """What is looked up, and parameters that stand alone: all of a model that multiplies nothing by a matrix.

    A parameter in a function's hands has a row of its own; here it is a layer of that name, with a weight.
    """
    found: list[Node] = []
    for node in trace.structure.nodes:
        if not node.connected or not node.parameters:
            continue
        if node.type in LOOKS_UP and "weight" in node.parameters:
            found.append(node)
        elif "weight" not in node.parameters:
            found += [
                msgspec.structs.replace(node, name=f"{node.name}.{short}", parameters={"weight": shape})
                for short, shape in node.parameters.items()
                if len(shape) >= 2
            ]
    return found


def cells(trace: Recording) -> list[Node]:
    """The matrices inside recurrent layers, each as a layer of its own: so they are measured."""
    return [
        msgspec.structs.replace(node, name=f"{node.name}.{name}", parameters={"weight": shape})
        for node in trace.structure.nodes
        if node.type in RECURRENT and node.connected
        for name, shape in node.parameters.items()
        if name.startswith("weight") and trace.has("weight_norm", f"{node.name}.{name}")
    ]


def moving(trace: Recording) -> list[Node]:
    """Layers by which it is judged how far a training got: all that multiply, tables where none does."""
    return [*weight_layers(trace), *cells(trace)] or tables(trace)


def used(trace: Recording, node: Node) -> float:
    """Share of a layer's rows that a batch reaches: 1 but for tables, whose other rows may stand still."""
    if node.type in RECURRENT or (node.type not in LOOKS_UP and trace.structure.node(node.name) is not None):
        return 1.0
    idle = typical(trace, "zero_grad", node.name)
    return max(1 - idle, 1e-6) if math.isfinite(idle) else 1.0


def on_one_way(trace: Recording, layers: Sequence[Node]) -> list[Node]:
    """Those of some layers that the last of them reads, directly or by way of others, and itself.

    An actor and a critic beside each other are two ways, and nothing of the one comes by the other's layers.
    """
    if not layers:
        return []
    reached = {layers[-1].name}
    for node in reversed(trace.structure.nodes):
        if node.name in reached:
            reached.update(node.inputs)
    return [node for node in layers if node.name in reached]


def output_layer(trace: Recording) -> Node | None:
    """The weight layer nearest the loss among those that a gradient can reach."""
    layers = [node for node in trace.structure.layers if node.connected]
    return layers[-1] if layers else trace.structure.output


def activation_place(trace: Recording, node: Node) -> str:
    """Where to measure what a layer passes on: its activation's output, else its own.

    Arrays logged by somebody's own code have operations of unknown type; the first of them after a layer
    counts as its activation.
    """
    activation = trace.structure.activation(node.name)
    if activation is None:
        after = next(trace.structure.after(node.name), None)
        activation = after if after is not None and after.type == "Output" else None
    return activation.name if activation is not None and trace.has("act_std", activation.name) else node.name


def position(trace: Recording, layer: str | None) -> int:
    """Place of an operation (or of its bias) on the way from input to output; -1 for the whole network."""
    if layer is None:
        return -1
    names = [node.name for node in trace.structure.nodes]
    owner = layer if layer in names else layer.rsplit(".", 1)[0]
    return names.index(owner) if owner in names else len(names)


def is_zero(trace: Recording, node: Node) -> bool:
    """Whether all weights of a layer were exactly 0 at the first measurement."""
    return trace.first("weight_norm", node.name) == 0


def typical(trace: Recording, quantity: str, layer: str = "") -> float:
    """Median over the measured steps of what is finite; NaN when nothing is."""
    values = trace.series(quantity, layer).values
    return middle(values[np.isfinite(values)])


def middle(values: npt.NDArray[np.float64]) -> float:
    """Median of finite values; NaN of none. As `np.median` has it, in a third of the time."""
    half, odd = divmod(values.size, 2)
    if not values.size:
        return math.nan
    parted = np.partition(values, half if odd else (half - 1, half))
    return float(parted[half]) if odd else float(parted[half - 1] + parted[half]) / 2


def first_step(trace: Recording, quantity: str, layer: str, holds: Callable[[float], bool]) -> int | None:
    """The first measured step at which a quantity has a property; None when it never has."""
    series = trace.series(quantity, layer)
    return next(
        (int(step) for step, value in zip(series.steps, series.values, strict=True) if holds(float(value))),
        None,
    )


def per_layer(first: float, last: float, layers: int) -> float:
    """Geometric mean of the factor from one of `layers` layers to the next; NaN for nothing to compare."""
    if layers < 2 or not (first > 0 and last > 0 and math.isfinite(first) and math.isfinite(last)):
        return math.nan
    return (last / first) ** (1 / (layers - 1))


def saw(trace: Recording, quantity: str, layer: str = "") -> Evidence:
    """The last measured value as evidence without a bound."""
    return Evidence(quantity, trace.last(quantity, layer), layer=layer or None)


def names(nodes: list[Node]) -> str:
    """Names of layers in a sentence: "a", "a and b", "a, b and c"."""
    words = [f"layer {node.name}" if node.name.isdigit() else node.name for node in nodes]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def straight_way(trace: Recording, name: str, least: float) -> bool:
    """Whether a layer got nearly as far as its steps together are long: none took back what another did.

    Args:
        trace: what was measured.
        name: of the layer.
        least: drift / sum of all steps from which on the way is straight. Of n random steps it is 1/sqrt(n).
    """
    ratio, drift = typical(trace, "update_ratio", name), trace.last("drift", name) or 0.0
    return drift >= least * ratio * trace.steps > 0


def by_step(
    series: Sequence[Series], missing: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Several series beside each other: the steps of all, and a table (series, steps).

    Args:
        series: one at least.
        missing: what stands where a series has no value at a step.
    """
    steps = series[0].steps
    if all(np.array_equal(steps, one.steps) for one in series[1:]):
        return steps, np.array([one.values for one in series])
    steps = np.unique(np.concatenate([one.steps for one in series]))
    table = np.full((len(series), steps.size), missing)
    for row, one in zip(table, series, strict=True):
        row[np.searchsorted(steps, one.steps)] = one.values
    return steps, table


def line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope of the straight line through points, and its standard error."""
    centred = x - x.mean()
    spread = float((centred**2).sum())
    slope = float((centred * y).sum()) / spread
    rest = y - y.mean() - slope * centred
    return slope, math.sqrt(float((rest**2).sum()) / max(x.size - 2, 1) / spread)
