"""Checks on the arrays that a user's own loop passes in, and their conversion."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from unstuck.errors import ShapeError, UnstuckError
from unstuck.trace.measure import Array
from unstuck.trace.structure import Structure

Arrays = dict[str, Array]
OptionalArrays = dict[str, Array | None]
Shape = tuple[int, ...]


def convert(where: str, value: Any) -> Array:
    """A real array as it is, anything else that is numeric in float64 or integers.

    Raises:
        UnstuckError: for what is no rectangular array of real numbers.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnstuckError(f"{where}: expected an array of numbers, found {_kind(value)} ({error})") from None
    if array.dtype == np.bool_:
        return array.astype(np.int64)
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise UnstuckError(
            f"{where}: expected an array of real numbers, found {_kind(value)} of {array.dtype}"
        )
    return array


def optional(where: str, value: Any) -> Array | None:
    """`convert`, or None for None."""
    return None if value is None else convert(where, value)


def number(where: str, value: Any) -> float | None:
    """A float, or None for None; an array of one entry counts as a number."""
    if value is None:
        return None
    array = convert(where, value)
    if array.size != 1:
        raise UnstuckError(f"{where}: expected one number, found an array of shape {array.shape}")
    return float(array.reshape(()))


def mapping(where: str, values: Mapping[str, Any] | None) -> Arrays:
    """Name to array, in the given order."""
    return {name: convert(f"{where}[{name!r}]", value) for name, value in _items(where, values)}


def optional_mapping(where: str, values: Mapping[str, Any] | None) -> OptionalArrays:
    """Name to array or None, in the given order."""
    return {name: optional(f"{where}[{name!r}]", value) for name, value in _items(where, values)}


def check_grads(params: Arrays, grads: OptionalArrays) -> None:
    """Every gradient has a parameter, of its shape."""
    for name, grad in grads.items():
        if name not in params:
            known = ", ".join(params) or "none were given"
            raise UnstuckError(f"grads[{name!r}]: no parameter of that name (params: {known})")
        if grad is not None and grad.shape != params[name].shape:
            raise ShapeError(
                f"grads[{name!r}]: shape {grad.shape}, but params[{name!r}] has {params[name].shape}"
            )


def check_same(params: Arrays, shapes: Mapping[str, Shape]) -> None:
    """Names and shapes are those of the first step."""
    for name in shapes:
        if name not in params:
            raise UnstuckError(f"params[{name!r}] is missing; the first step had {', '.join(shapes)}")
    for name, array in params.items():
        if name not in shapes:
            raise UnstuckError(f"params[{name!r}] is new; the first step had {', '.join(shapes)}")
        if array.shape != shapes[name]:
            raise ShapeError(f"params[{name!r}]: shape {array.shape}, but the first step had {shapes[name]}")


def check_structure(structure: Structure, shapes: Mapping[str, Shape]) -> None:
    """Every parameter "<layer>.weight" is one of the structure's, of its shape."""
    for name, shape in shapes.items():
        layer, _, short = name.rpartition(".")
        node = structure.node(layer)
        if node is None:
            known = ", ".join(node.name for node in structure.layers) or "none"
            raise UnstuckError(f"params: {name!r} belongs to no layer of the structure (its layers: {known})")
        wanted = node.parameters.get(short)
        if wanted and wanted != shape:
            raise ShapeError(f"params: {name!r} has shape {shape}, the structure says {wanted}")


def check_activations(activations: Arrays, structure: Structure) -> None:
    """Every activation is the output of an operation."""
    for name in activations:
        if structure.node(name) is None:
            known = ", ".join(node.name for node in structure.nodes) or "none"
            raise UnstuckError(f"activations[{name!r}]: no operation of that name (known: {known})")


def check_batches(activations: Arrays, batch: Mapping[str, Any]) -> None:
    """Outputs and data have a sample axis of at least one; targets and outputs have the same number."""
    lengths: dict[str, int] = {}
    given = {f"activations[{name!r}]": array for name, array in activations.items()}
    given |= {name: convert(name, value) for name, value in batch.items() if value is not None}
    for where, array in given.items():
        if array.ndim == 0 or len(array) == 0:
            raise ShapeError(f"{where}: shape {array.shape}, expected at least one sample along axis 0")
        lengths[where] = len(array)
    for one, other in itertools.combinations([name for name in batch if name in lengths], 2):
        if lengths[one] != lengths[other]:
            raise ShapeError(f"{one} has {lengths[one]} samples, {other} has {lengths[other]}")


def _items(where: str, values: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    if values is None:
        return []
    if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass lists too
        raise UnstuckError(f"{where}: expected a dict of name to array, found {_kind(values)}")
    for name in values:
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance] - not checked elsewhere
            raise UnstuckError(f"{where}: expected names, found the key {name!r}")
    return list(values.items())


def _kind(value: Any) -> str:
    return type(value).__name__
