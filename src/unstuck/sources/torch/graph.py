"""One walk over the autograd graph from the loss: the operations in the order of the data, by module."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from unstuck.sources.torch.dropped import dropped
from unstuck.sources.torch.likelihood import Outputs
from unstuck.sources.torch.loss import Loss, find_loss
from unstuck.sources.torch.marks import Call, Marks
from unstuck.sources.torch.ops import LOOKS_UP, dim, kind, module_type, shape
from unstuck.trace.structure import INPUT

LIMIT = 10_000
"""Operations that a walk looks at, at most. Freeing a chain of more than 30,000 operations that Python has
looked at overflows the stack of PyTorch 2.13 (seen with plain PyTorch, too)."""
INSIDE = 5_000
"""... and inside one module's call."""
WEIGHED = ("Linear", "Conv", "Embedding", "BatchNorm", "LayerNorm", "GroupNorm", "PReLU")
"""Operations whose parameters are a layer's."""

Owners = Mapping[int, tuple[str, str]]
"""id of a parameter to the name of its layer and its short name there."""


@dataclass(eq=False)
class Entry:
    """One operation: a module's call, or a function."""

    name: str
    type: str
    inputs: list[str]
    shape: tuple[int, ...]
    """With the batch axis."""
    call: Call | None = None
    fn: Any = None
    """The operation in the graph, for functions; valid until the backward pass."""
    parameters: dict[str, tuple[Any, bool]] = field(default_factory=dict[str, tuple[Any, bool]])
    """Short name to the parameter and whether it lies as (inputs, units); of functions only."""
    options: dict[str, int | float | str | bool] = field(default_factory=dict[str, int | float | str | bool])


@dataclass(eq=False)
class Graph:
    """What a walk found."""

    entries: dict[str, Entry]
    """In the order of the data."""
    reached: set[str]
    """Names that a gradient reaches."""
    loss: Loss | None
    source: str
    """Name of what feeds the loss; without one, of what made the number."""
    whole: bool = True
    """False if the graph was too large to be walked to its end."""
    opaque: tuple[str, ...] = ()
    """Operations that hide others: compiled or checkpointed regions."""


def walk(
    root: Any,
    marks: Marks,
    owners: Owners,
    value: torch.Tensor | None = None,
    outputs: Outputs | None = None,
) -> Graph:
    """Walk from the number that `backward` is called on to the input.

    Args:
        root: its `grad_fn`.
        marks: which module made what.
        owners: layer and short name of each known parameter.
        value: the number itself, and
        outputs: outputs of modules by their marks: a loss that is written out is recognised by them.

    Returns:
        The operations; those of the loss itself are left out.
    """
    return _Walk(root, marks, owners, find_loss(root, marks, value, outputs)).run()


class _Walk:
    """The state of a walk."""

    def __init__(self, root: Any, marks: Marks, owners: Owners, loss: Loss | None) -> None:
        self.root, self.marks, self.owners, self.loss = root, marks, owners, loss
        self.entries: dict[str, Entry] = {}
        self.names: dict[Any, str] = {}
        self.below: dict[Any, tuple[list[Any], list[tuple[Any, bool]]]] = {}
        self.counts: dict[str, int] = {}
        self.sides: dict[Any, Any] = {}
        self.opaque: list[str] = []
        self.whole = True
        self.touched = 0

    def run(self) -> Graph:
        """Walk side terms of the loss first, so that its main input comes last."""
        source = INPUT
        if self.loss is None:
            self._visit(self.root)
            source = self.names.get(self.root, INPUT)
        else:
            for fn in self.loss.hidden:
                for child, _ in fn.next_functions:
                    if child is not None and child not in self.loss.hidden and child is not self.loss.source:
                        self._visit_side(child)
            if self.loss.source is not None:
                self._visit(self.loss.source)
                source = self.names.get(self.loss.source, INPUT)
        reached = set(self.entries)
        return Graph(self.entries, reached, self.loss, source, self.whole, tuple(self.opaque))

    def _visit_side(self, start: Any) -> None:
        """A further term of the loss; one that reads only parameters, or what the loss does, is left out."""
        if self.loss is None:
            return
        waiting, seen = [start], {start}
        while waiting and len(seen) < INSIDE:
            fn = waiting.pop()
            if fn is self.loss.source or self.marks.known(fn):
                self._visit(start)
                return
            for child, _ in fn.next_functions:
                if child is not None and child not in seen and child not in self.loss.hidden:
                    seen.add(child)
                    waiting.append(child)
        self.touched += len(seen)

    def _visit(self, start: Any) -> None:
        """Depth first without recursion; an operation is put down after all that it reads."""
        if self._parameter_side(start) is not None:
            return
        stack: list[tuple[Any, bool]] = [(start, False)]
        while stack:
            fn, done = stack.pop()
            if done:
                self._put(fn)
            elif fn not in self.below:
                if self.touched >= LIMIT:
                    self.whole = False
                    return
                self.below[fn] = self._look_below(fn)
                stack.append((fn, True))
                stack.extend((child, False) for child in reversed(self.below[fn][0]))

    # ---- what an operation reads

    def _look_below(self, fn: Any) -> tuple[list[Any], list[tuple[Any, bool]]]:
        """The operations before it (before the whole call, for a module's), and its parameters."""
        mark = self.marks.get(fn)
        call = mark.calls[0] if mark is not None and mark.calls else None
        children: list[Any] = []
        parameters: list[tuple[Any, bool]] = []
        inside = call is not None and call.boundary is not None
        waiting, seen = [fn], {fn}
        while waiting:
            for child, _ in waiting.pop().next_functions:
                if child is None or child in seen:
                    continue
                seen.add(child)
                held = self._parameter_side(child)
                if held is not None:
                    parameters.append(held)
                elif hasattr(child, "variable"):
                    continue  # a tensor of the user's that wants a gradient: an input
                elif inside and not self._outside(child, call) and len(seen) < INSIDE:
                    waiting.append(child)
                else:
                    children.append(child)
        self.touched += len(seen)
        return children, parameters

    def _outside(self, fn: Any, call: Call | None) -> bool:
        mark = self.marks.get(fn)
        if mark is None or call is None:
            return False
        return mark.number in (call.boundary or ()) or bool(mark.calls)

    def _parameter_side(self, fn: Any) -> tuple[Any, bool] | None:
        """The parameter behind an operation that reads nothing else, and whether it is transposed there."""
        chain: list[Any] = []
        found: tuple[Any, bool] | None = None
        while fn is not None and len(chain) < 32:
            if fn in self.sides:
                found = self.sides[fn]
                break
            chain.append(fn)
            variable = getattr(fn, "variable", None)
            if variable is not None:
                own = id(variable) in self.owners or type(variable).__name__ == "Parameter"
                found = (variable, False) if own else None
                break
            if len(fn.next_functions) != 1 or kind(fn) in LOOKS_UP or self.marks.known(fn):
                break
            fn = fn.next_functions[0][0]
        for one in reversed(chain):
            if found is not None and kind(one) in {"T", "Transpose"}:
                found = (found[0], not found[1])
            self.sides[one] = found
        return found

    # ---- names

    def _put(self, fn: Any) -> None:
        children, parameters = self.below[fn]
        inputs = list(dict.fromkeys(self.names[child] for child in children if child in self.names))
        mark = self.marks.get(fn)
        if mark is None or not mark.calls:
            self.names[fn] = self._function(fn, inputs, parameters)
            return
        for call in mark.calls:
            known = self.entries.get(call.name)
            if known is None:
                before = inputs + [name for name in call.sources if name not in inputs]
                entry = Entry(call.name, call.type, before or [INPUT], call.shape, call)
                self.entries[call.name] = entry
            elif known.call is not call:  # a layer that is used again: what came before it then, too
                order = list(self.entries)
                place = order.index(call.name)
                known.inputs += [n for n in inputs if n not in known.inputs and order.index(n) < place]
            inputs = [call.name]
        self.names[fn] = inputs[0]

    def _function(self, fn: Any, inputs: list[str], parameters: list[tuple[Any, bool]]) -> str:
        name = kind(fn)
        if name == "ToCopy" and len(inputs) == 1 and not parameters:
            return inputs[0]  # another precision: not an operation of the network
        hides = name in {"CompiledFunction", "CheckpointFunction", "DifferentiableGraph"}
        if hides:
            self.opaque.append(name)
        if (hides and parameters) or len({self._owner(parameter)[0] for parameter, _ in parameters}) > 1:
            return self._several(fn, inputs, parameters)
        if name == "Add" and len(inputs) == 1 and len(parameters) == 1:
            layer = self.entries[inputs[0]]
            if layer.call is None and "weight" in layer.parameters and "bias" not in layer.parameters:
                layer.parameters["bias"] = (parameters[0][0], False)
                return layer.name
        return self._entry(fn, inputs, parameters)

    def _entry(self, fn: Any, inputs: list[str], parameters: list[tuple[Any, bool]]) -> str:
        """A node for one function; with weights, it is a layer that bears their name."""
        share = None if parameters else dropped(fn)
        name = module_type(fn) if share is None else "Dropout"
        weighed = name.startswith(WEIGHED) and bool(parameters)
        named = self._layer_name(parameters) if weighed else ""
        entry = Entry(named or self._numbered(name), name, inputs or [INPUT], shape(fn), fn=fn)
        if entry.name in self.entries:
            if self._is_again(entry, parameters):
                known = self.entries[entry.name]
                order = list(self.entries)
                known.inputs += [
                    n for n in inputs if n not in known.inputs and n in order[: order.index(entry.name)]
                ]
                return entry.name
            entry.name = self._numbered(entry.name)
        axis = dim(fn) if name in {"Softmax", "LogSoftmax"} else None
        entry.options = {} if axis is None else {"dim": axis}
        if share is not None:
            entry.options["p"] = share
        # a product of matrices reads (inputs, units); PyTorch's own layers turn their weights for it
        product = kind(fn) in {"Addmm", "Mm"}
        if weighed:
            ordered = sorted(parameters, key=lambda held: -held[0].dim())
            for short, (parameter, flipped) in zip(("weight", "bias"), ordered, strict=False):
                entry.parameters[short] = (parameter, product and short == "weight" and not flipped)
        else:
            for parameter, _ in parameters:
                entry.parameters[self._owner(parameter)[1]] = (parameter, False)
        self.entries[entry.name] = entry
        return entry.name

    def _is_again(self, entry: Entry, parameters: list[tuple[Any, bool]]) -> bool:
        """Whether it is a layer's next step in time: the same weight, and an output of the same shape."""
        known = self.entries[entry.name]
        weight = max((parameter for parameter, _ in parameters), key=lambda one: one.dim())
        held = known.parameters.get("weight")
        return (
            held is not None and held[0] is weight and known.shape == entry.shape and known.type == entry.type
        )

    def _several(self, fn: Any, inputs: list[str], parameters: list[tuple[Any, bool]]) -> str:
        """One operation that holds many layers (a compiled model): the layers one after another."""
        before = inputs or [INPUT]
        for parameter, _ in parameters:
            layer, short = self._owner(parameter)
            entry = self.entries.get(layer)
            if entry is None:
                entry = self.entries[layer] = Entry(layer, "", before, ())
                before = [layer]
            entry.parameters[short] = (parameter, False)
        name = self._numbered(module_type(fn))
        self.entries[name] = Entry(name, module_type(fn), before, shape(fn), fn=fn)
        return name

    def _owner(self, parameter: Any) -> tuple[str, str]:
        return self.owners.get(id(parameter), ("", f"parameter{id(parameter)}"))

    def _layer_name(self, parameters: list[tuple[Any, bool]]) -> str:
        weight = max((parameter for parameter, _ in parameters), key=lambda one: one.dim())
        if id(weight) not in self.owners:
            return ""
        layer, short = self._owner(weight)
        return layer if short == "weight" and layer else f"{layer}.{short}" if layer else short

    def _numbered(self, name: str) -> str:
        self.counts[name] = self.counts.get(name, 0) + 1
        return f"{name}_{self.counts[name]}"
