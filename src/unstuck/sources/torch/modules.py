"""Modules as a recording sees them: which ones are one operation, and what they are called."""

from collections.abc import Iterable, Mapping

import torch
from torch import nn

INSIDE_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module"})
"""Attributes by which wrappers hold what is wrapped."""


def compiled(module: nn.Module) -> bool:
    """Whether a module's inside is out of sight: compiled or scripted."""
    return (
        "_orig_mod" in dict(module.named_children())  # that is how torch.compile wraps
        or getattr(module, "_compiled_call_impl", None) is not None
        or isinstance(module, torch.jit.ScriptModule)
    )


def sealed(model: nn.Module) -> bool:
    """Whether a hook would end up inside compiled code."""
    return getattr(model, "_compiled_call_impl", None) is not None or isinstance(
        model, torch.jit.ScriptModule
    )


def one_operation(module: nn.Module) -> bool:
    """Whether a module counts as one operation: it has no parts, or is PyTorch's own with weights."""
    if type(module).__module__ == "torch.nn.modules.loss":
        return False
    if next(module.children(), None) is None:
        return True
    return next(module.parameters(recurse=False), None) is not None and is_layer(module)


def is_layer(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's own that computes something itself."""
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
    own = type(module) is not nn.Module and type(module).__module__.startswith("torch.nn")
    return own and not isinstance(module, containers)


def operations(models: Mapping[str, nn.Module]) -> Iterable[tuple[str, nn.Module, int]]:
    """Name, module and model number of every module that is one operation."""
    seen = set[int]()
    for number, (prefix, model) in enumerate(models.items()):
        waiting: list[tuple[str, nn.Module]] = [("", model)]
        while waiting:
            name, module = waiting.pop()
            if id(module) in seen or compiled(module):
                continue
            seen.add(id(module))
            bare = module is model and not is_layer(module)
            if one_operation(module) and not bare:
                yield layer_name(prefix, name, model), module, number
                continue
            children = [(f"{name}.{key}" if name else key, child) for key, child in module.named_children()]
            waiting.extend(reversed(children))


def kind_of(module: nn.Module) -> str:
    """Class of a module, whatever was registered to compute its weights, compiled or not."""
    inner = getattr(module, "_orig_mod", module)
    return "Linear" if lies_turned(inner) else type(inner).__name__.removeprefix("Parametrized")


def lies_turned(module: nn.Module) -> bool:
    """Whether its weight lies as (inputs, units): GPT-2's layers do, a linear layer by another name.

    Known by name: the library they come from is not imported for it.
    """
    return any(
        one.__name__ == "Conv1D" and one.__module__.split(".", 1)[0] == "transformers"
        for one in type(module).__mro__
    )


def plain_path(path: str) -> str:
    """A module's attribute path without the wrappers of torch.compile and of sharding."""
    return ".".join(part for part in path.split(".") if part not in INSIDE_WRAPPERS)


def layer_name(prefix: str, path: str, model: nn.Module) -> str:
    """Name of a layer: its attribute path, behind its model's name if there are several models."""
    named = path or ("" if prefix else type(model).__name__)
    return ".".join(part for part in (prefix, named) if part)
