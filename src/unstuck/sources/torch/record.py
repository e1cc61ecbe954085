"""`unstuck.record` for PyTorch: watches a training without changing it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from unstuck.errors import UnstuckError
from unstuck.sources.torch.recorder import Recorder
from unstuck.trace.structure import Location

__all__ = ["Recorder", "record"]


def record(
    model: Any,
    optimizer: Any = None,
    *,
    every: int | None = None,
    probe: bool = False,
    folder: str | os.PathLike[str] | None = None,
    goal: str | None = None,
    locations: Mapping[int, Location] | None = None,
) -> Recorder:
    """Watch a training in PyTorch while a `with` block runs: what `unstuck.record` does for such a model.

    Args:
        model: a `torch.nn.Module`, or several (a list, or a dict of names).
        optimizer: one or several `torch.optim.Optimizer`; without one, those that hold parameters of the
            model are found when they step.
        every: measure every so many steps instead of at the first four and then at about five for every
            factor of ten.
        probe: whether to run what needs extra computations: all probes at the first step, those of the
            learning rate again at the steps 40, 251, 1585 and so on.
        folder: where to store the recording while it runs: a killed program leaves all but its last seconds.
        goal: what counts as learned, such as "loss<0.1".
        locations: where modules were made, by their id.

    Returns:
        A context manager; see `unstuck.record`.

    Raises:
        UnstuckError: for a model that is no module, or an `every` below 1.
    """
    if every is not None and every < 1:
        raise UnstuckError(f"record: every={every}, expected at least 1")
    given = [] if optimizer is None else list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    return Recorder(model, given, every=every, probe=probe, folder=folder, goal=goal, locations=locations)
