"""Which Keras trainings can be watched: those whose steps are computed one by one, where one can look."""

import importlib
from typing import Any

from unstuck.errors import UnstuckError


def check(model: Any, optimizer: Any) -> None:
    """Refuse what cannot be watched.

    Args:
        model: perhaps a `keras.Model`.
        optimizer: its optimiser, or None.

    Raises:
        UnstuckError: for what is no Keras model, a model without optimiser, or a step that is compiled as a
            whole: nothing inside it can be seen.
    """
    names = {base.__module__.split(".")[0] for base in type(model).__mro__}
    if "keras" not in names or not hasattr(model, "compute_loss"):
        raise UnstuckError(f"record: expected a keras.Model, found {type(model).__name__}")
    if optimizer is None:
        raise UnstuckError(
            f"record: {type(model).__name__} has no optimiser: compile it first, or pass `optimizer`"
        )
    backend = importlib.import_module("keras").backend.backend()
    if backend not in {"torch", "tensorflow"}:
        raise UnstuckError(
            f"on Keras's backend {backend} the whole step is compiled, nothing in it can be seen; "
            "the same program runs on PyTorch with KERAS_BACKEND=torch"
        )
    if backend == "tensorflow" and not getattr(model, "run_eagerly", False):
        raise UnstuckError(
            "on TensorFlow the step is compiled, nothing in it can be seen: compile(..., run_eagerly=True)"
        )
    # not the property: it decides, and keeps its decision, when it is asked before `compile`
    if backend == "torch" and vars(model).get("_jit_compile") is True:
        raise UnstuckError(
            "with jit_compile=True the step is compiled, nothing in it can be seen: compile(..., "
            "jit_compile=False)"
        )
