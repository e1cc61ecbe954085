"""The network's structure as a small graph: operations in data-flow order, with shapes."""

from collections.abc import Iterator

import msgspec

INPUT = "input"
"""Name of the node that stands for the network's input."""

PIECEWISE = frozenset({"ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus"})
SATURATING = frozenset({"Sigmoid", "Tanh"})
NONLINEAR = PIECEWISE | SATURATING | {"Softmax", "LogSoftmax", "MaxPool2d"}
NORMALISING = frozenset(
    {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "InstanceNorm2d", "RMSNorm"}
)


class Location(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place in the user's code; the file is relative to the working directory."""

    file: str
    line: int


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operation. Names are attribute paths; types are PyTorch's class names."""

    name: str
    type: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...] = ()
    """Shape of the output of one sample (no batch axis); () when unknown."""
    parameters: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict[str, tuple[int, ...]])
    """Short name ("weight", "bias") to shape, in PyTorch's layout: axis 0 counts the units."""
    options: dict[str, int | float | str | bool] = msgspec.field(
        default_factory=dict[str, int | float | str | bool]
    )
    trainable: bool = True
    """Whether its parameters are meant to be trained (requires_grad, in PyTorch)."""
    optimised: bool | None = None
    """Whether an optimiser holds its parameters; None where that is not known."""
    connected: bool = True
    """Whether a gradient can reach it from the loss."""
    location: Location | None = None

    @property
    def units(self) -> int:
        """How many units a weight layer has: axis 0 of its weight; 0 for an operation without weights."""
        shape = self.parameters.get("weight", ())
        return shape[0] if shape else 0

    @property
    def fan_in(self) -> int:
        """Inputs of one unit; 0 for an operation without weights."""
        shape = self.parameters.get("weight", ())
        size = 1
        for extent in shape[1:]:
            size *= extent
        return size if shape else 0


class LossFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the loss was given, where the source saw it."""

    input: str = ""
    """Name of the operation whose output it takes."""
    input_shape: tuple[int, ...] = ()
    """With the batch axis."""
    target_shape: tuple[int, ...] = ()
    target_dtype: str = ""
    """Such as "int64" or "float32"."""
    reduction: str = ""
    """One of mean, sum, none; empty where unknown."""


class Structure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All operations in the order in which data flows through them, and the loss at their end."""

    nodes: tuple[Node, ...] = ()
    loss: str | None = None
    loss_facts: LossFacts | None = None
    input_shape: tuple[int, ...] = ()

    def node(self, name: str) -> Node | None:
        """The operation of that name, or None."""
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def layers(self) -> tuple[Node, ...]:
        """The operations that have a weight, from input to output."""
        return tuple(node for node in self.nodes if "weight" in node.parameters)

    @property
    def output(self) -> Node | None:
        """The weight layer nearest the loss."""
        layers = self.layers
        return layers[-1] if layers else None

    def after(self, name: str) -> Iterator[Node]:
        """What follows an operation, one after another, as long as the path does not fork."""
        current = name
        while True:
            following = [node for node in self.nodes if current in node.inputs]
            if len(following) != 1:
                return
            yield following[0]
            current = following[0].name

    def activation(self, name: str) -> Node | None:
        """The non-linearity that a weight layer's output passes through before the next weight layer."""
        for node in self.after(name):
            if "weight" in node.parameters and node.type not in NORMALISING:
                return None
            if node.type in PIECEWISE | SATURATING | {"Softmax", "LogSoftmax"}:
                return node
        return None
