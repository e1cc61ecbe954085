"""Layers outside the model's tree: the same ones at every step, or made anew inside `forward`?"""

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from unstuck.sources.torch.graph import Entry
from unstuck.trace.structure import Location

LOOKS = 3
"""Measured steps in which it is looked for where such layers are made."""


class Strays:
    """Follows layers that only the graph shows, by their weights."""

    def __init__(self, locations: Mapping[int, Location]) -> None:
        """Nothing seen.

        Args:
            locations: by id of a module, where it was made.
        """
        self.places: dict[int, Location] = {}
        """By id of a weight that was seen in this step, where its module was made."""
        self._locations = locations
        self._earlier: dict[str, weakref.ref[torch.Tensor]] = {}
        self._looks = 0
        self._handle: Any = None

    def remade(self, entries: Iterable[Entry], owned: Mapping[int, Any]) -> dict[str, bool]:
        """Whether the layers of a graph were made anew since the graph before.

        That is so if the weight is another one and the earlier one is gone: of layers in a plain list that
        take turns, all go on living.

        Args:
            entries: operations of the graph.
            owned: ids of the parameters that the model's tree holds.

        Returns:
            By name, for each layer that the tree does not hold.
        """
        found: dict[str, bool] = {}
        for entry in entries:
            weight = entry.parameters.get("weight", (None, False))[0]
            if weight is None or id(weight) in owned:
                continue
            earlier = self._earlier.get(entry.name)
            found[entry.name] = earlier is not None and earlier() is None
            self._earlier[entry.name] = weakref.ref(weight)
        return found

    def attach(self) -> None:
        """Before a measured step: look where such layers are made, if some were seen."""
        self.detach()
        self.places.clear()
        if self._earlier and self._locations and self._looks < LOOKS:
            self._looks += 1
            self._handle = register_module_forward_pre_hook(self._called)

    def detach(self) -> None:
        """After it."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _called(self, module: torch.nn.Module, _args: Any) -> None:
        place = self._locations.get(id(module))
        if place is not None:
            self.places |= {id(one): place for one in module.parameters(recurse=False)}
