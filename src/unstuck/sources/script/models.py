"""Which models train: from an optimiser's parameters to the modules that own them."""

import gc
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module", "OptimizedModule": "_orig_mod"}
"""Modules that only wrap another one, and the attribute that holds it: a layer is named without them."""


def parameters(optimizer: Any) -> list[Any]:
    """All tensors that an optimiser holds."""
    return [tensor for group in optimizer.param_groups for tensor in group["params"]]


def complete(known: Sequence[Any], optimizers: Sequence[Any]) -> Sequence[Any]:
    """The known modules, or all of the process if some parameter of an optimiser has no owner among them.

    Args:
        known: modules that were seen when they were made. Copies and loaded ones were not.
        optimizers: whose parameters need an owner.
    """
    owned = {id(tensor) for module in known for tensor in _own(module)}
    wanted = {id(tensor) for optimizer in optimizers for tensor in parameters(optimizer)}
    return known if wanted <= owned else _unique([*known, *_all_modules()])


def owners(optimizers: Sequence[Any], known: Sequence[Any]) -> list[Any]:
    """Modules among the known ones that directly own a parameter of an optimiser."""
    wanted = {id(tensor) for optimizer in optimizers for tensor in parameters(optimizer)}
    return [module for module in known if any(id(tensor) in wanted for tensor in _own(module))]


def roots(modules: Sequence[Any], known: Sequence[Any]) -> list[Any]:
    """The outermost modules that contain the given ones, each once, without wrappers.

    Args:
        modules: where to begin.
        known: modules that may contain them.
    """
    parents: dict[int, list[Any]] = {}
    for module in _unique([*known, *modules]):
        for child in module._modules.values():  # noqa: SLF001  (children() leaves out what is registered twice)
            parents.setdefault(id(child), []).append(module)
    tops: list[Any] = []
    for module in modules:
        top, passed = module, {id(module)}
        while above := [one for one in parents.get(id(top), ()) if id(one) not in passed]:
            top = above[0]
            passed.add(id(top))
        tops.append(_unwrapped(top))
    return _unique(tops)


def strays(known: Sequence[Any], held: Iterable[Any]) -> list[Any]:
    """Known modules with own parameters that have a gradient, apart from those held by a recorder."""
    outside = _Set(held)
    return [
        module
        for module in known
        if module not in outside
        and any(tensor.requires_grad and tensor.grad is not None for tensor in _own(module))
    ]


def loose(optimizers: Sequence[Any]) -> Any:
    """A module whose parameters are tensors that no module owns: a network written as plain functions."""
    import torch

    holder = torch.nn.Module()
    tensors = _unique([tensor for optimizer in optimizers for tensor in parameters(optimizer)])
    # register_parameter refuses plain tensors
    vars(holder)["_parameters"].update({f"parameter_{n}": tensor for n, tensor in enumerate(tensors)})
    return holder


def holds(models: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Whether every one of some models is one of the others, or a part of one."""
    inside = _Set(part for model in models for part in parts(model))
    return all(model in inside for model in wanted)


def parts(model: Any) -> list[Any]:
    """A model and all modules in it; a Keras model on another backend than PyTorch has none but itself."""
    return list(model.modules()) if hasattr(model, "modules") else [model]


def related(some: Sequence[Any], others: Sequence[Any]) -> bool:
    """Whether a model of the one list contains one of the other."""
    return any(holds([model], [other]) or holds([other], [model]) for model in some for other in others)


class _Set:
    """Membership by identity: modules may define equality as they like."""

    def __init__(self, things: Iterable[Any]) -> None:
        self._ids = {id(thing): thing for thing in things}

    def __contains__(self, thing: object) -> bool:
        return id(thing) in self._ids


def _own(module: Any) -> Iterator[Any]:
    return (tensor for tensor in module._parameters.values() if tensor is not None)  # noqa: SLF001  (parameters(recurse=False), without its cost)


def _all_modules() -> list[Any]:
    import torch

    # type() and not isinstance(): the latter asks the object, and lazy objects load what they stand for
    return [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), torch.nn.Module) and "_parameters" in vars(thing)
    ]


def _unwrapped(module: Any) -> Any:
    while (attribute := WRAPPERS.get(type(module).__name__)) is not None:
        module = getattr(module, attribute)
    return module


def _unique(things: Iterable[Any]) -> list[Any]:
    return list({id(thing): thing for thing in things}.values())
