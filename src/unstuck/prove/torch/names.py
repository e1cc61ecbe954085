# pyright: basic
# Models are the user's own.
"""The modules of a program by the names that its recording gives them."""

from collections.abc import Iterator, Sequence
from typing import Any

PUT_IN = "_unstuck_put_in"
"""Marks a module that a treatment has put in: it is no model of the program, though it is called like one."""


def named(models: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """All modules of all models, each once, with the name that a finding or a plan calls it by.

    It is the attribute path, behind its model's name where there are several models, without the wrappers of
    `torch.compile` and of several processes.

    Args:
        models: as a training begins with them; what is no module is left out.

    Example:
        >>> from torch import nn
        >>> [name for name, _ in named([nn.Sequential(nn.Linear(2, 2)), nn.Tanh()])]
        ['Sequential', 'Sequential.0', 'Tanh']
    """
    from torch import nn

    from unstuck.sources.torch.modules import layer_name, plain_path
    from unstuck.sources.torch.params import models_by_name

    given = [model for model in models if isinstance(model, nn.Module) and not vars(model).get(PUT_IN)]
    if not given:
        return
    seen: set[int] = set()
    for prefix, model in models_by_name(given).items():
        for path, module in list(model.named_modules()):
            if id(module) not in seen:
                seen.add(id(module))
                plain = plain_path(path)
                yield (layer_name(prefix, plain, model) if plain or not prefix else prefix), module


def children(models: Sequence[Any]) -> Iterator[tuple[str, Any, str, Any]]:
    """All modules that another one holds: name, who holds it, as what, the module."""
    names = {id(module): name for name, module in named(models)}
    for _, holder in list(named(models)):
        for child, module in list(holder.named_children()):
            yield names.get(id(module)) or child, holder, child, module
