"""What a Keras model's loss was given: the batch, the targets, the outputs."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from unstuck.sources.keras.structure import Array, as_array
from unstuck.trace.structure import LossFacts

_MUCH = 0.05
"""A penalty on weights below this part of the loss does not matter to it."""
Given = Mapping[str, Any]
"""Arguments of `compute_loss` by their names."""


def loss_facts(given: Given, source: str, loss: Any) -> LossFacts:
    """Shapes and types of what is compared.

    Args:
        given: what the loss was given.
        source: name of the operation that made the outputs.
        loss: the model's own, as it was compiled with it.
    """
    target, output = given.get("y"), given.get("y_pred")
    shapes = tuple(tuple(getattr(value, "shape", ())) for value in (output, target))
    of_output, of_target = _same_rank(*shapes) if _aligns(loss) else shapes
    return LossFacts(
        input=source,
        input_shape=of_output,
        target_shape=of_target,
        target_dtype=str(getattr(target, "dtype", "")).removeprefix("torch."),
        reduction="mean",
    )


def has_further_terms(model: Any, loss: Any) -> bool:
    """Whether much of the loss is terms that the model or its layers add, or that keep weights small.

    Args:
        model: the model, after a forward pass.
        loss: the step's loss with all terms, if it was seen.
    """
    terms = [float(as_array(term).mean()) for term in model.losses]
    held = [one for one in model.trainable_weights if getattr(one, "regularizer", None) is not None]
    if len(terms) > len(held):
        return True  # somebody called `add_loss`
    total = 0.0 if loss is None else abs(float(as_array(loss)))
    return sum(abs(term) for term in terms) > _MUCH * total


def _aligns(loss: Any) -> bool:
    """Whether Keras brings predictions and targets to one rank; only a class with its own `call` may not."""
    return loss is None or isinstance(loss, str) or not hasattr(loss, "reduction") or hasattr(loss, "fn")


def _same_rank(output: tuple[int, ...], target: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes as Keras compares them: a last axis of length one goes, or comes, where only one side has it."""
    if len(output) == len(target) + 1 and output[-1] == 1:
        return (output, (*target, 1)) if len(target) == 1 else (output[:-1], target)
    if len(target) == len(output) + 1 and target[-1] == 1:
        return ((*output, 1), target) if len(output) == 1 else (output, target[:-1])
    return output, target


def batch(given: Given, loss: str | None) -> dict[str, Array | None]:
    """Inputs, targets and outputs as arrays; none of them where they are of different lengths.

    Args:
        given: what the loss was given.
        loss: its class name in PyTorch.
    """
    found = {
        "inputs": _single(given.get("x")),
        "targets": _labels(_single(given.get("y")), loss),
        "outputs": _single(given.get("y_pred")),
    }
    lengths = {len(array) for array in found.values() if array is not None and array.ndim}
    return found if len(lengths) == 1 else {}


def ranges(given: Given, loss: str | None) -> dict[str, float | None]:
    """Smallest and largest output and target.

    Args:
        given: what the loss was given.
        loss: its class name in PyTorch. What enters a cross entropy there is not known here.
    """
    found: dict[str, float | None] = {}
    target, output = _single(given.get("y")), _single(given.get("y_pred"))
    if output is not None and output.size and loss != "CrossEntropyLoss":
        found |= {"output.min": float(output.min()), "output.max": float(output.max())}
    if target is not None and target.size and np.issubdtype(target.dtype, np.number):
        found |= {"target.min": float(target.min()), "target.max": float(target.max())}
        found |= {"target.mean": float(target.mean()), "target.std": float(target.std())}
    return found


def _single(value: Any) -> Array | None:
    """One tensor's numbers; None for several, or for none."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    return as_array(value) if hasattr(value, "shape") else None


def _labels(target: Array | None, loss: str | None) -> Array | None:
    """Class numbers come as floating-point ones from some data sets."""
    if target is None or loss != "CrossEntropyLoss" or not np.issubdtype(target.dtype, np.floating):
        return target
    flat = target.ndim == 1 or (target.ndim == 2 and target.shape[1] == 1)
    return target.astype(np.int64) if flat and bool(np.all(target == np.rint(target))) else target
