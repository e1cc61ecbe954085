"""`unstuck.record`: watches a training in PyTorch without changing it."""

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
    """Watch a training in PyTorch while a `with` block runs; nothing else in the program changes.

    Weights, gradients, updates and outputs are measured at the first four steps and then at about five for
    every factor of ten (or at every `every`-th step); the loss at every step. The numbers of the training
    stay the same bit for bit, and random states are not touched.

    Args:
        model: a `torch.nn.Module`, or several (a list, or a dict of names).
        optimizer: one or several `torch.optim.Optimizer`; without one, those that hold parameters of the
            model are found when they step.
        every: measure every so many steps instead.
        probe: whether to run what needs extra computations: all probes at the first step, those of the
            learning rate again at the steps 40, 251, 1585 and so on.
        folder: where to store the recording while it runs: a killed program leaves all but its last seconds.
        goal: what counts as learned, such as "loss<0.1".
        locations: where modules were made, by their id.

    Returns:
        A context manager; `.diagnose()` names what is wrong, `.recording` holds what was measured,
        `.warnings` what was not and why.

    Raises:
        UnstuckError: for a model that is no module, or an `every` below 1.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with record(model, optimizer) as run:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         torch.nn.functional.mse_loss(model(torch.ones(4, 2)), torch.ones(4, 1)).backward()
        ...         optimizer.step()
        >>> run.recording.steps, run.recording.series("loss").steps.tolist()
        (3, [0, 1, 2])
    """
    if every is not None and every < 1:
        raise UnstuckError(f"record: every={every}, expected at least 1")
    given = [] if optimizer is None else list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    return Recorder(model, given, every=every, probe=probe, folder=folder, goal=goal, locations=locations)
