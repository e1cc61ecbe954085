"""The structure that a graph and the calls of a step show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from unstuck.sources.torch.graph import Entry, Graph
from unstuck.sources.torch.marks import Call
from unstuck.sources.torch.modules import kind_of, layer_name, lies_turned, plain_path
from unstuck.sources.torch.params import Params
from unstuck.trace.structure import INPUT, Location, Node, Structure

OPTIONS = (
    *("kernel_size", "stride", "padding", "dilation", "groups", "p", "eps", "momentum", "dim"),
    *("negative_slope", "alpha", "beta", "hidden_size", "num_layers", "num_heads", "bidirectional"),
    *("track_running_stats", "batch_first"),
)
"""Settings of PyTorch's modules that a node keeps."""


def structure(
    graph: Graph,
    calls: Sequence[Call],
    params: Params,
    optimised: set[int] | None,
    places: "Places",
    input_shape: tuple[int, ...] = (),
) -> Structure:
    """Nodes in the order of the data, with those that no gradient reaches where they were called.

    Args:
        graph: what the walk found.
        calls: all calls of the forward passes that belong to it, in their order.
        params: the recorded parameters; those that stand alone get the names of the operations here.
        optimised: ids of the tensors that an optimiser holds; None when no optimiser is known.
        places: where modules were made.
        input_shape: of one sample.
    """
    for entry in graph.entries.values():
        for short, (parameter, turned) in entry.parameters.items():
            params.rename(parameter, entry.name, short, turned=turned)
    build = _Build(params, optimised, places)
    nodes = [build.node(entry, connected=True) for entry in graph.entries.values()]
    for place, call in list(_inserted(nodes, calls)):
        nodes.insert(place, build.node(_entry(call), connected=not call.learns))
    nodes = _joined(nodes)
    loss = graph.loss
    source = graph.source if loss is not None else ""
    return Structure(
        nodes=tuple(nodes),
        loss=None if loss is None else loss.type,
        loss_facts=None if loss is None else loss.facts(source),
        input_shape=input_shape,
    )


def chain(params: Params, optimised: set[int] | None, places: "Places") -> Structure:
    """The layers one after another, for a program whose graph is out of sight."""
    build = _Build(params, optimised, places)
    nodes: list[Node] = []
    for layer in dict.fromkeys(one.layer for one in params.held):
        before = nodes[-1].name if nodes else INPUT
        nodes.append(build.node(Entry(layer, "", [before], ()), connected=True))
    return Structure(nodes=tuple(nodes))


def merged(old: Structure, new: Structure) -> Structure:
    """Nodes of both; new ones stand before the known one that follows them (at the end, if none does)."""
    fresh = {node.name: node for node in new.nodes}
    known = {node.name for node in old.nodes}
    nodes = [_newer(node, fresh.get(node.name, node)) for node in old.nodes]
    waiting: list[Node] = []
    for node in new.nodes:
        if node.name in known:
            place = next(i for i, one in enumerate(nodes) if one.name == node.name)
            nodes[place:place] = waiting
            waiting = []
        else:
            waiting.append(node)
    return Structure(
        nodes=(*nodes, *waiting),
        loss=old.loss or new.loss,
        loss_facts=old.loss_facts or new.loss_facts,
        input_shape=old.input_shape or new.input_shape,
    )


def _newer(old: Node, new: Node) -> Node:
    """The one that tells more of an operation."""
    if not old.connected and new.connected:
        return new
    if old.location is None and new.location is not None:
        return msgspec.structs.replace(old, location=new.location)
    return old


@dataclass(frozen=True)
class Places:
    """Where in the user's code modules were made."""

    modules: Mapping[int, Location]
    """By id of a module."""
    weights: Mapping[int, Location] = field(default_factory=dict[int, Location])
    """By id of a weight, for modules that are gone."""

    def of(self, module: Any, tensors: Iterable[Any]) -> Location | None:
        """The place of a module, or of one that held these tensors."""
        if module is not None:
            return self.modules.get(id(module))
        return next((self.weights[id(one)] for one in tensors if id(one) in self.weights), None)


class _Build:
    """Makes nodes."""

    def __init__(self, params: Params, optimised: set[int] | None, places: "Places") -> None:
        self.params, self.optimised, self.places = params, optimised, places
        self.by_layer: dict[str, list[Any]] = {}
        for one in params.held:
            self.by_layer.setdefault(one.layer, []).append(one)

    def node(self, entry: Entry, *, connected: bool) -> Node:
        """A node of one operation."""
        held = self._held(entry)
        tensors = [tensor for tensor, _ in held.values()]
        optimised = None
        if self.optimised is not None and tensors:
            optimised = all(id(tensor) in self.optimised for tensor in tensors)
        module = entry.call.module if entry.call is not None else None
        return Node(
            name=entry.name,
            type=entry.type or _type_of(entry.name, self.params),
            inputs=tuple(entry.inputs),
            shape=tuple(entry.shape[1:]),
            parameters={
                short: tuple(reversed(tensor.shape)) if turned and tensor.dim() == 2 else tuple(tensor.shape)
                for short, (tensor, turned) in held.items()
            },
            options=entry.options or _options(module),
            trainable=all(tensor.requires_grad for tensor in tensors),
            optimised=optimised,
            connected=connected,
            location=self.places.of(module, tensors),
        )

    def _held(self, entry: Entry) -> dict[str, tuple[Any, bool]]:
        if entry.call is not None:
            turned = lies_turned(entry.call.module)
            return {
                name: (tensor, turned and name == "weight")
                for name, tensor in entry.call.module.named_parameters()
            }
        own = {one.short: (one.tensor, one.turned) for one in self.by_layer.get(entry.name, [])}
        return own | entry.parameters


def _entry(call: Call) -> Entry:
    return Entry(call.name, call.type, list(call.sources) or [INPUT], call.shape, call)


def _inserted(nodes: Sequence[Node], calls: Sequence[Call]) -> Iterable[tuple[int, Call]]:
    """Calls without a node, and the places for them: right after the call before, never at the very end."""
    names = [node.name for node in nodes]
    place = 0
    done: set[str] = set()
    weighed = [i for i, node in enumerate(nodes) if "weight" in node.parameters]
    most = weighed[-1] if weighed else len(names)
    for call in calls:
        if call.name in done:
            continue
        done.add(call.name)
        if call.name in names:
            place = names.index(call.name) + 1
            continue
        place = min(place, most)
        names.insert(place, call.name)
        most += 1
        yield place, call
        place += 1


def _joined(nodes: Sequence[Node]) -> list[Node]:
    """Inputs that are no node any more are the network's input."""
    names = {node.name for node in nodes} | {INPUT}
    joined: list[Node] = []
    for node in nodes:
        inputs = tuple(dict.fromkeys(name if name in names else INPUT for name in node.inputs))
        joined.append(node if inputs == node.inputs else msgspec.structs.replace(node, inputs=inputs))
    return joined


def _type_of(layer: str, params: Params) -> str:
    for prefix, model in params.models.items():
        for path, module in model.named_modules():
            if layer_name(prefix, plain_path(path), model) == layer:
                return kind_of(module)
    return "Parameter"


def _options(module: Any) -> dict[str, int | float | str | bool]:
    found: dict[str, int | float | str | bool] = {}
    for name in OPTIONS if module is not None else ():
        value = getattr(module, name, None)
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, (bool, int, float, str)):
            found[name] = value
    return found
