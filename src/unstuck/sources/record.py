"""`unstuck.record`: watches a training in PyTorch or Keras without changing it."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unstuck.errors import UnstuckError
from unstuck.trace.structure import Location

if TYPE_CHECKING:
    from unstuck.sources.keras.recorder import KerasRecorder
    from unstuck.sources.torch.recorder import Recorder


def record(
    model: Any,
    optimizer: Any = None,
    *,
    every: int | None = None,
    probe: bool = False,
    folder: str | os.PathLike[str] | None = None,
    goal: str | None = None,
    locations: Mapping[int, Location] | None = None,
) -> "Recorder | KerasRecorder":
    """Watch a training while a `with` block runs; nothing else in the program changes.

    Weights, gradients, updates and outputs are measured at some steps (many at the start, few later), the
    loss at every step. The numbers of the training stay the same bit for bit, and random states are not
    touched.

    Args:
        model: a `torch.nn.Module`, or several (a list, or a dict of names); or one `keras.Model`.
        optimizer: one or several `torch.optim.Optimizer`; without one, those that hold parameters of the
            model are found when they step. For Keras: by default the one that was given to `compile`.
        every: measure every so many steps instead.
        probe: whether to run what needs extra computations at the end; not for Keras.
        folder: where to store the recording while it runs: a killed program leaves all but its last seconds.
            Keras's is stored at the end.
        goal: what counts as learned, such as "loss<0.1".
        locations: where layers were made, by their id.

    Returns:
        A context manager; `.diagnose()` names what is wrong, `.recording` holds what was measured,
        `.warnings` what was not and why.

    Raises:
        UnstuckError: for a model of neither library, an `every` below 1, or a Keras model whose training is
            compiled as a whole.

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
    if is_keras(model) and not _of_torch(optimizer):
        from unstuck.sources.keras.recorder import record_keras

        return record_keras(
            model, optimizer, every=every, probe=probe, folder=folder, goal=goal, locations=locations
        )
    if "torch" not in sys.modules:
        raise UnstuckError(
            f"record: expected a torch.nn.Module or a keras.Model, found {type(model).__name__}, "
            "and the program has imported neither PyTorch nor Keras"
        )
    from unstuck.sources.torch.record import record as record_torch

    return record_torch(
        model, optimizer, every=every, probe=probe, folder=folder, goal=goal, locations=locations
    )


def is_keras(thing: Any) -> bool:
    """Whether it is a Keras model; Keras is not imported to find out.

    On the backend PyTorch such a model is a `torch.nn.Module` too.

    Example:
        >>> is_keras("a model")
        False
    """
    kind = getattr(sys.modules.get("keras"), "Model", None)
    return isinstance(kind, type) and isinstance(thing, kind)


def _of_torch(optimizer: Any) -> bool:
    """Whether it is PyTorch's: then a Keras model is trained by a loop that is written in PyTorch."""
    given = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    return any(hasattr(one, "param_groups") for one in given)
