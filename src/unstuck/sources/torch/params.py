"""The parameters that are recorded: their names, layers and who optimises them."""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unstuck.errors import UnstuckError
from unstuck.sources.torch.modules import is_layer, layer_name, lies_turned, plain_path
from unstuck.trace.grouping import row_name

WRAPPERS = {"DistributedDataParallel": "module", "DataParallel": "module"}


@dataclass(eq=False)
class Held:
    """One parameter of a layer."""

    layer: str
    short: str
    tensor: torch.Tensor
    row: str
    """Layer name of its rows in the trace."""
    turned: bool = False
    """Whether it lies as (inputs, units)."""

    @property
    def is_weight(self) -> bool:
        """Whether its row is the layer's own."""
        return self.row == self.layer


def local(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers that lie on this machine."""
    here = getattr(tensor, "to_local", None)
    return here() if here is not None else tensor.detach()


def models_by_name(given: Any) -> dict[str, nn.Module]:
    """Models by the prefix of their layers' names: none for a single model.

    Raises:
        UnstuckError: for what is no PyTorch module.
    """
    if isinstance(given, Mapping):
        named = {str(name): _unwrapped(model) for name, model in given.items()}
    else:
        models = [_unwrapped(model) for model in (given if isinstance(given, Sequence) else [given])]
        names = [type(model).__name__ for model in models]
        alone = len(models) == 1
        named = {
            "" if alone else name if names.count(name) == 1 else str(i): model
            for i, (name, model) in enumerate(zip(names, models, strict=True))
        }
    if not named:
        raise UnstuckError("record: no model was given, expected a torch.nn.Module")
    return named


def _unwrapped(model: Any) -> nn.Module:
    while (attribute := WRAPPERS.get(type(model).__name__)) is not None:
        model = getattr(model, attribute)
    if not isinstance(model, nn.Module):
        raise UnstuckError(f"record: expected a torch.nn.Module as model, found {type(model).__name__}")
    return model


class Params:
    """All parameters of the models, each once, in the order of their modules."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        """Read them.

        Args:
            models: by prefix.
        """
        self.models = models
        self.held: list[Held] = []
        self.owners: dict[int, tuple[str, str]] = {}
        self.remade: set[str] = set()
        """Layers whose parameters were other objects at the last `refresh`."""
        self._earlier: dict[str, weakref.ref[torch.Tensor]] = {}
        self._rows: dict[str, tuple[str, str, bool]] = {}
        self._measurable: list[Held] = []
        self._noted: list[Held] | None = None
        self._known: set[str] = set()
        self._signature: tuple[int, ...] = ()
        self.refresh()

    def signature(self) -> tuple[int, ...]:
        """Ids of all modules and parameters as they are now."""
        found: list[int] = []
        waiting: list[Any] = list(self.models.values())
        for module in waiting:  # it grows on the way
            found.append(id(module))
            own, parts = module._parameters, module._modules  # noqa: SLF001  (named_parameters takes ten times as long)
            if own:  # a lazy parameter becomes another type when its shape is known
                found += [id(one) ^ id(type(one)) for one in own.values()]
            if parts:
                waiting += [child for child in parts.values() if child is not None]
        return tuple(found)

    def refresh(self) -> None:
        """Read them again, if anything changed: layers may be added or replaced at any time."""
        now = self.signature()
        if now == self._signature:
            return
        self._signature = now
        seen = set[int]()
        held: list[Held] = []
        for prefix, model in self.models.items():
            for path, module in model.named_modules():
                for short, tensor in module.named_parameters(recurse=False):
                    if id(tensor) in seen or not isinstance(tensor, torch.Tensor) or _lazy(tensor):
                        continue
                    seen.add(id(tensor))
                    held.append(
                        self._hold(
                            prefix,
                            plain_path(path),
                            short,
                            tensor,
                            model,
                            turned=short == "weight" and lies_turned(module),
                        )
                    )
        self.held = held
        self._measurable = [one for one in held if not one.tensor.is_meta]
        self.owners = {id(one.tensor): (one.layer, one.short) for one in held}

    def _hold(
        self, prefix: str, path: str, short: str, tensor: torch.Tensor, model: nn.Module, *, turned: bool
    ) -> Held:
        own = bool(path) or is_layer(model)
        layer = layer_name(prefix, path, model) if own else prefix
        name = f"{layer}.{short}" if layer else short
        known = self._rows.get(name)
        if known is not None:
            return Held(known[0], known[1], tensor, row_name(f"{known[0]}.{known[1]}"), known[2])
        return Held(layer, short, tensor, row_name(name), turned)

    def rename(self, tensor: torch.Tensor, layer: str, short: str, *, turned: bool) -> None:
        """A parameter that stands alone belongs to the layer that an operation makes of it."""
        for one in self.held:
            if one.tensor is tensor and (one.layer, one.short, one.turned) != (layer, short, turned):
                old = f"{one.layer}.{one.short}" if one.layer else one.short
                self._rows[old] = (layer, short, turned)
                one.layer, one.short, one.turned = layer, short, turned
                one.row = row_name(f"{layer}.{short}")

    def note_remade(self) -> set[str]:
        """Layers whose parameters are other objects than at the last call; all that had some by then."""
        if self.held is self._noted:
            self.remade = set()
            return self._known
        self._noted = self.held
        now = {f"{one.layer}.{one.short}": one for one in self.held}
        known = {name: one for name, one in now.items() if name in self._earlier}
        self.remade = {one.layer for name, one in known.items() if self._earlier[name]() is not one.tensor}
        self._earlier = {name: weakref.ref(one.tensor) for name, one in now.items()}
        self._known = {one.layer for one in now.values()}
        return {one.layer for one in known.values()}

    def measurable(self) -> list[Held]:
        """Those whose numbers can be read."""
        return self._measurable

    def sharded(self) -> bool:
        """Whether this process holds only a part of each (`fully_shard`, FullyShardedDataParallel)."""
        modules = (module for model in self.models.values() for module in model.modules())
        return any(hasattr(one.tensor, "to_local") for one in self.held) or any(
            type(module).__name__ == "FullyShardedDataParallel" for module in modules
        )

    def total(self) -> int:
        """Numbers in all of them."""
        return sum(one.tensor.numel() for one in self.held)


def _lazy(tensor: Any) -> bool:
    return nn.parameter.is_lazy(tensor)


def optimised(optimizers: Iterable[Any]) -> set[int]:
    """Ids of all tensors that the optimisers hold."""
    return {id(tensor) for one in optimizers for group in one.param_groups for tensor in group["params"]}


def options(optimizer: Any) -> dict[str, float]:
    """Numbers among an optimiser's settings, of its first group."""
    found: dict[str, float] = {}
    for name, value in optimizer.param_groups[0].items():
        if isinstance(value, (bool, int, float)) and name != "initial_lr":
            found[name] = float(value)
        elif name == "betas" and isinstance(value, (tuple, list)):
            found |= {f"beta{i + 1}": float(beta) for i, beta in enumerate(value) if isinstance(beta, float)}
    return found
