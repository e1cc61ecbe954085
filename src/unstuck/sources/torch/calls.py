"""Forward hooks: which module made what, in which order, and statistics of what came out."""

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from unstuck.sources.torch.latest import Latest, look_after
from unstuck.sources.torch.looks import PASSING, Look
from unstuck.sources.torch.marks import MAX_CALLS, Call, Marks
from unstuck.sources.torch.modes import Modes
from unstuck.sources.torch.modules import kind_of, operations, sealed
from unstuck.sources.torch.origin import Origin
from unstuck.sources.torch.tape import Tape, named
from unstuck.trace.structure import INPUT

MOST_GROUPS = 16
"""Forward passes without a backward that are kept in mind."""
LAST_AXIS = ("Linear", "LayerNorm", "Embedding", "LSTM", "GRU", "RNN", "MultiheadAttention", "RMSNorm")
SECOND_AXIS = ("Conv", "BatchNorm", "GroupNorm", "InstanceNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool")
STATES = frozenset({"LSTM", "GRU", "RNN"})
"""Layers that give out the states in which they end, too."""


@dataclass(eq=False)
class Group:
    """One forward pass of a whole model."""

    number: int
    model: int
    """Which of the recorded models."""
    batch: torch.Tensor | None = None
    """Its first input."""
    others: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    """The next few of them."""
    calls: list[Call] = field(default_factory=list[Call])
    names: list[str] = field(default_factory=list[str])
    """Of all calls, in their order."""
    looks: list[tuple[str, Look]] = field(default_factory=list[tuple[str, Look]])
    axes: dict[int, int] = field(default_factory=dict[int, int])
    """Where the last output with so many axes had its units."""
    latest: Latest | None = None
    """The output that was looked at last."""
    times: dict[nn.Module, int] = field(default_factory=dict[nn.Module, int])
    """How often each module was called."""

    @property
    def alone(self) -> bool:
        """Whether the first input is all that the model was given."""
        return not self.others

    def release(self) -> None:
        """Let go of the inputs."""
        self.batch = None
        self.others.clear()


class Calls:
    """Keeps what the forward passes of a measured step show, until `clear`."""

    def __init__(self, marks: Marks, failed: Any, note: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            marks: where operations of the graph are marked.
            failed: called with an exception of ours; it must not raise.
            note: called with a sentence on what is not measured.
        """
        self.marks = marks
        self.groups: list[Group] = []
        self.modes = Modes()
        """In which mode the layers were called, and how often."""
        self.outputs: dict[int, tuple[torch.Tensor, int]] = {}
        """By mark: outputs of whole models and of the module called last, with their version."""
        self.active = False
        """Whether calls are looked at now: off during a backward pass, which may repeat calls."""
        self.tape = Tape()
        """What is done with the answers."""
        self.taping = True
        """Whether that is wanted."""
        self.origin = Origin()
        """Where the batch comes from, if that is asked for."""
        self.share: float | None = None
        """Part of the samples that a program holds, which the batch is, if that is known."""
        self.deep = False
        """Whether what happens inside the models is noted, too."""
        self.light = False
        """Whether only outputs are measured: the order of the operations is known."""
        self._failed, self._note = failed, note
        self._handles: list[Any] = []
        self._hooked: tuple[int, ...] | None = None
        self._own: dict[nn.Module, tuple[list[torch.Tensor], str]] = {}
        """Parameters and type of each hooked module."""
        self.names: set[str] = set()
        """Of the hooked modules."""
        self._group: Group | None = None
        self._depth = 0
        self._numbers = 0
        self._made: dict[int, tuple[str, bool]] = {}
        self._thread = threading.get_ident()

    # ---- hooks

    def attach(self, models: Mapping[str, nn.Module], modules: tuple[int, ...]) -> None:
        """Hook all modules that are one operation each.

        Args:
            models: by prefix.
            modules: ids of all their modules and parameters; while they are the same, nothing is to be done.
        """
        if modules == self._hooked:
            return
        self.detach()
        self._hooked = modules
        for number, model in enumerate(models.values()):
            if not sealed(model):
                self._handles.append(model.register_forward_pre_hook(self._enter(number), with_kwargs=True))
        for name, module, number in operations(models):
            self._own[module] = (list(module.parameters()), kind_of(module))
            self.names.add(name)
            self._handles.append(module.register_forward_hook(self._leave(name, number), with_kwargs=True))
        for model in models.values():  # after its own hook as a layer, when it is one
            if not sealed(model):
                self._handles.append(model.register_forward_hook(self._exit, always_call=True))

    def detach(self) -> None:
        """Take all hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._hooked = None
        self._own.clear()
        self.names.clear()
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self.groups.clear()
        self.modes.clear()
        self.outputs.clear()
        self.tape.forget()
        self.origin.stop()
        self.share = None
        self._made.clear()
        self._group, self._depth = None, 0

    def release(self) -> None:
        """Let go of the tensors: from here on only names and statistics are needed."""
        self.outputs.clear()
        self.tape.forget()
        for group in self.groups:
            group.release()

    def _enter(self, number: int) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            if self._off():
                return
            self._depth += 1
            if self._depth > 1 or not torch.is_grad_enabled():
                return
            try:
                self.tape.pause()
                self.origin.stop()
                self.modes.entered(module)
                self._begin(number, (args, kwargs))
                if self.deep and not self.light:
                    self.tape.entered(named(module, args, kwargs))
            except Exception as error:  # noqa: BLE001  (nothing of ours may stop a training)
                self._failed("a model's input", error)

        return enter

    def _off(self) -> bool:
        return not self.active or torch.compiler.is_compiling() or threading.get_ident() != self._thread

    def _begin(self, number: int, given: Any) -> None:
        batches = [one for one in itertools.islice(_tensors(given), 3) if one.dim() > 0]
        batch = batches[0] if batches else None
        self._group = Group(
            self._numbers,
            number,
            None if batch is None else batch.detach(),
            [one.detach() for one in batches[1:]],
        )
        self._numbers += 1
        self.groups = [*self.groups[1 - MOST_GROUPS :], self._group]
        if batch is not None and self.share is None:
            self.share = self.origin.share(batch)
        if batch is not None and batch.grad_fn is None:
            self._made[batch.data_ptr()] = (INPUT, False)

    def _exit(self, _module: nn.Module, _args: Any, output: Any) -> None:
        if self._off():
            return
        try:
            self._end(output)
        except Exception as error:  # noqa: BLE001  (nothing of ours may stop a training)
            self._failed("a model's output", error)

    def _end(self, output: Any) -> None:
        self._depth = max(self._depth - 1, 0)
        if self._depth == 0 and self._group is not None:
            number, self._group = self._group.model, None
            found = next(_tensors(output), None)
            if found is not None and found.grad_fn is not None and not self.light:
                mark = self.marks.put(found.grad_fn)
                mark.outermost = True
                self.outputs[mark.number] = (found.detach(), found._version)  # noqa: SLF001  (changed in place since?)
                self._keep(number, output)

    def _keep(self, place: Any, output: Any) -> None:
        """Note what is done with an answer from here on."""
        if (self.taping or self.deep) and not self.light and torch.is_grad_enabled() and self.tape.may_listen:
            self.tape.answered(place, list(_tensors(output)))

    def _leave(self, name: str, number: int) -> Any:
        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if self._off():
                return
            try:
                with self.tape.aside():
                    self._called(name, number, module, (args, kwargs), output)
            except Exception as error:  # noqa: BLE001  (nothing of ours may stop a training)
                self._failed(f"the output of {name}", error)

        return leave

    # ---- one call

    def _called(self, name: str, number: int, module: nn.Module, given: Any, output: Any) -> None:
        group, loose = self._group, self._group is None
        result = output if isinstance(output, torch.Tensor) else next(_tensors(output), None)
        if result is None:
            return
        self.modes.times[name] = self.modes.times.get(name, 0) + 1
        if group is None:
            if self._depth or result.grad_fn is None:
                return  # inside a pass without gradients: evaluation, not training
            group = self._loose_group(number)
        before = group.times.get(module, 0)
        group.times[module] = before + 1
        self.modes.called(name, module, result)
        own, kind = self._own[module]
        full = name if own or not before else f"{name}_{min(before + 1, MAX_CALLS)}"
        group.names.append(full)
        if not self.light:
            self._mark(full, module, own, given, result, group)
            if kind in STATES:
                self._mark_states(output, group.calls[-1])
            if loose:
                self._keep(name, output)
        if (not before or (not own and before < MAX_CALLS)) and not (self.light and kind.startswith(PASSING)):
            axis = 1 if result.dim() < 3 else _unit_axis(kind, result, group)
            group.axes[result.dim()] = axis
            seen = look_after(module, kind, given, result, axis, group.latest, weighted=bool(own))
            group.latest = None
            if seen is not None:
                group.looks.append((full, seen))
                group.latest = Latest(weakref.ref(result), result._version, axis, seen)  # noqa: SLF001
            elif result.is_complex():
                self._note("outputs that are complex numbers were not measured")

    def _mark(
        self,
        name: str,
        module: nn.Module,
        own: list[torch.Tensor],
        given: Any,
        result: torch.Tensor,
        group: Group,
    ) -> None:
        """Leave a mark in the graph, by which the walk knows the module."""
        call = self._call(name, module, own, given, result, group)
        group.calls.append(call)
        self._made[result.data_ptr()] = (call.name, call.learns)
        if result.grad_fn is not None:
            mark = self.marks.put(result.grad_fn)
            mark.calls.append(call)
            self.outputs[mark.number] = (result.detach(), result._version)  # noqa: SLF001
            while len(self.outputs) > MAX_CALLS:
                del self.outputs[next(iter(self.outputs))]

    def _mark_states(self, output: Any, call: Call) -> None:
        """The same of the states that a recurrent layer ends in: often they alone are used."""
        for one in _tensors(output[1:] if isinstance(output, tuple) else ()):
            if one.grad_fn is not None and not (mark := self.marks.put(one.grad_fn)).calls:
                mark.calls.append(call)

    def _loose_group(self, number: int) -> Group:
        """Modules that are called on their own, not through the model that holds them."""
        if not self.groups or self.groups[-1].batch is not None or self.groups[-1].model != number:
            self.groups = [*self.groups[1 - MOST_GROUPS :], Group(self._numbers, number)]
            self._numbers += 1
        return self.groups[-1]

    def _call(
        self,
        name: str,
        module: nn.Module,
        own: list[torch.Tensor],
        given: Any,
        result: torch.Tensor,
        group: Group,
    ) -> Call:
        boundary, sources = set[int](), list[str]()
        learns = any(parameter.requires_grad for parameter in own)
        inputs = list(_tensors(given))
        in_place = any(one is result for one in inputs) and bool(getattr(module, "inplace", False))
        for one in inputs:
            if one.grad_fn is not None and not in_place:
                mark = self.marks.put(one.grad_fn)
                boundary.add(mark.number)
                sources += [mark.calls[-1].name] if mark.calls else []
            elif one.grad_fn is None:
                source, learned = self._made.get(one.data_ptr(), (INPUT, False))
                sources.append(source)
                learns = learns or learned
        return Call(
            name,
            module,
            kind_of(module),
            group.number,
            None if in_place else frozenset(boundary),
            tuple(dict.fromkeys(sources)),
            tuple(result.shape),
            result.grad_fn is not None,
            learns or result.grad_fn is not None,
        )


def _tensors(thing: Any, depth: int = 4) -> Iterator[torch.Tensor]:
    """Tensors in nested tuples, lists and dicts; what models name their scores first."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, Mapping) and depth:
        if isinstance(thing.get("logits"), torch.Tensor):
            yield thing["logits"]
        for one in thing.values():
            yield from _tensors(one, depth - 1)
    elif isinstance(thing, (tuple, list)) and depth:
        for one in thing:
            yield from _tensors(one, depth - 1)


def _unit_axis(kind: str, result: torch.Tensor, group: Group) -> int:
    """Where the units of an output are counted: axis 1, or the last one for sequences of vectors."""
    if kind.startswith(LAST_AXIS):
        return result.dim() - 1
    if kind.startswith(SECOND_AXIS):
        return 1
    return group.axes.get(result.dim(), 1 if result.dim() == 4 else result.dim() - 1)
