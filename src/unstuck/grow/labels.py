"""Classes by name: which unit of the head stands for which label, in the order in which they came."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import DataError

Name = str | int | float | bool
KINDS = {"b": "truth values", "i": "numbers", "u": "numbers", "f": "numbers", "U": "text", "S": "bytes"}


def checked(y: Any, known: NDArray[Any] | None = None) -> NDArray[Any]:
    """Labels of one kind: text, or numbers, or truth values.

    Args:
        y: (N,) labels.
        known: the classes seen so far, whose kind they must have.

    Raises:
        DataError: missing labels, labels of several kinds, or of another kind than those before.
    """
    if y is None:
        return cast("Any", y)  # scikit-learn has its own words for missing labels and complex numbers
    labels = _one_kind(np.array(y, dtype=object) if _flat(y) else np.asarray(y))
    if labels.dtype.kind == "c":
        return labels
    if labels.dtype.kind not in "biufU":
        raise DataError(f"y: found labels of type {labels.dtype}, expected text, numbers or truth values")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError("y: found a label that is NaN or infinite, expected one for every sample")
    if known is not None and known.size and labels.size and _kind(known) != _kind(labels):
        raise DataError(
            f"y: found {_kind(labels)} such as {labels[0]!s}, expected {_kind(known)} such as {known[0]!s}: "
            f"labels that came before were {_kind(known)}"
        )
    return labels


def _flat(y: Any) -> bool:
    """Whether labels come as a plain list, from which NumPy would make text of "one" and 1."""
    return isinstance(y, list | tuple) and not any(
        isinstance(label, list | tuple | np.ndarray) for label in y
    )


def _one_kind(labels: NDArray[Any]) -> NDArray[Any]:
    if labels.dtype.kind != "O" or labels.size == 0:
        return labels
    kinds = {_kind_of(label) for label in labels.ravel().tolist()}
    if len(kinds) > 1:
        raise DataError(f"y: found labels of several kinds ({', '.join(sorted(kinds))}), expected one kind")
    return labels.astype(str) if kinds == {"text"} else np.array(labels.tolist())


def _kind_of(label: object) -> str:
    if isinstance(label, str):
        return "text"
    if isinstance(label, bool | np.bool_):
        return "truth values"
    return "numbers" if isinstance(label, int | float | np.number) else type(label).__name__


def _kind(labels: NDArray[Any]) -> str:
    return KINDS[labels.dtype.kind]


class Classes:
    """The classes in the order in which they came; the head's unit k is the k-th.

    Example:
        >>> classes = Classes()
        >>> classes.learn(np.array(["dog", "cat"]))
        2
        >>> classes.learn(np.array(["ant", "dog"]))
        1
        >>> classes.names.tolist(), classes.sorted.tolist(), classes.units(np.array(["ant", "cat"])).tolist()
        (['cat', 'dog', 'ant'], ['ant', 'cat', 'dog'], [2, 0])
    """

    def __init__(self, names: NDArray[Any] | None = None) -> None:
        self.names = np.zeros(0, np.int64) if names is None else names
        """(classes,): by unit of the head."""

    def __len__(self) -> int:
        """How many classes came."""
        return len(self.names)

    @property
    def sorted(self) -> NDArray[Any]:
        """The classes in scikit-learn's order: sorted."""
        return np.sort(self.names)

    @property
    def by_name(self) -> NDArray[np.intp]:
        """The head's units in the order of `sorted`."""
        return np.argsort(self.names, kind="stable")

    def learn(self, labels: NDArray[Any]) -> int:
        """Add the classes that are new, those of one call in sorted order; how many there were."""
        new = np.setdiff1d(labels, self.names) if len(self) else np.unique(labels)
        self.names = np.concatenate([self.names, new]) if len(self) else new
        return len(new)

    def units(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """The head's units of known labels."""
        order = self.by_name
        return order[np.searchsorted(self.names, labels, sorter=order)].astype(np.int64)
