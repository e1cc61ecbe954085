"""The members of an ensemble: what each starts from, and which numbers are its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.initialise import Initialisation, plan
from unstuck.nn.layout import aligned
from unstuck.nn.lsuv import needs_data, scale_layers
from unstuck.nn.optimisers import Optimizer
from unstuck.nn.training import Training

VARIED = ("lr", "momentum", "weight_decay", "init")
"""What may differ between members besides the seed."""


@dataclass(frozen=True)
class Members:
    """The members of an ensemble: what each starts from and which numbers are its own."""

    training: Training
    seeds: NDArray[np.uint64]
    vary: Mapping[str, Sequence[Any]]

    def __post_init__(self) -> None:
        for key, values in self.vary.items():
            if key not in VARIED:
                msg = f"vary: unknown key {key!r}, expected some of {', '.join(VARIED)}"
                raise UnstuckError(msg)
            if key != "init" and not hasattr(self.training.optimizer, key):
                msg = f"vary: {self.training.optimizer.type} has no {key}"
                raise UnstuckError(msg)
            if len(values) != len(self.seeds):
                msg = f"vary: {key} needs a value for each of {len(self.seeds)} seeds, found {len(values)}"
                raise UnstuckError(msg)
        for index in range(len(self.seeds) if {*self.vary} - {"init"} else 0):
            self.optimizer(index)  # checks the numbers

    def optimizer(self, index: int) -> Optimizer:
        """One member's optimiser."""
        own = {key: float(values[index]) for key, values in self.vary.items() if key != "init"}
        return replace(self.training.optimizer, **own) if own else self.training.optimizer

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """(members, names): numbers of the optimisers, 0 where they have none of this name."""
        columns = [
            np.asarray(self.vary[name], dtype=np.float64)
            if name in self.vary
            else np.full(len(self.seeds), float(getattr(self.training.optimizer, name, 0.0)))
            for name in names
        ]
        return np.stack(columns, axis=1)

    def draw(self, first: int, last: int) -> NDArray[np.floating]:
        """Parameters of some members at the start: (members, numbers)."""
        training = self.training
        rows = aligned((last - first, training.layout.size), training.dtype)
        training.layout.reset_buffers(rows)
        views = training.layout.views(rows)
        for init, chosen in self._by_init(first, last):
            drawn = plan(training.network.specs, init).draw_many(self.seeds[first:last][chosen])
            for name, view in views.items():
                view[chosen] = drawn[name]
            if needs_data(init, training.layout):
                some = rows[chosen]
                scale_layers(training.observable, training.layout, init, some, training.samples)
                rows[chosen] = some
        return rows

    def _by_init(self, first: int, last: int) -> list[tuple[Initialisation, Any]]:
        if "init" not in self.vary:
            return [(self.training.initialisation, slice(None))]
        groups = dict[Any, tuple[Initialisation, list[int]]]()
        for i, value in enumerate(self.vary["init"][first:last]):
            init = Initialisation.of(value)
            groups.setdefault(repr(init), (init, []))[1].append(i)
        return [(init, np.array(chosen)) for init, chosen in groups.values()]
