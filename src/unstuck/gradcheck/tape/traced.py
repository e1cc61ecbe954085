# ruff: noqa: ARG002  (methods take what NumPy's take)
"""Arrays that write down what is done with them, and are arrays to all code beside that."""

from collections.abc import Callable
from typing import Any

import numpy as np

from unstuck.gradcheck.tape.apart import apart, masked
from unstuck.gradcheck.tape.record import Edge
from unstuck.gradcheck.tape.tape import Tape, matmul_letters, unbroadcast
from unstuck.gradcheck.tree import Array

COMPARING = {"greater", "greater_equal", "less", "less_equal"}


class Traced(np.ndarray):
    """An array whose entries have numbers on a tape.

    Moving entries about moves their numbers alike: slices, transposes, stacks and assignments need no rules.
    """

    ids: Any
    tape: Any

    def __array_finalize__(self, source: Any) -> None:
        self.ids = None
        self.tape = getattr(source, "tape", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from unstuck.gradcheck.tape.functions import called

        return called(self, func, args, kwargs)

    # --- moving entries about ---

    def __getitem__(self, key: Any) -> Any:
        key = _key(key)
        values, ids = plain(self)[key], ids_of(self)[key]
        return wrap(self.tape, values, apart(self.tape, "getitem", values, ids))

    def __setitem__(self, key: Any, value: Any) -> None:
        key = _key(key)
        if self.tape.lost is not None:
            from unstuck.gradcheck.tape.overwriting import with_numbers

            value = with_numbers(self, key, value)
        before = (plain(self).copy(), ids_of(self).copy()) if self.tape.apart else None
        plain(self)[key] = deep(value, plain)
        if self.ids is None:
            self.ids = np.zeros(self.shape, dtype=np.int64)
        self.ids[key] = deep(value, ids_of)
        if before is not None:
            self.ids[...] = masked(self.tape, key, *before, plain(self), self.ids)

    @property
    def T(self) -> Any:  # noqa: N802  (as NumPy calls it)
        """The transpose."""
        return wrap(self.tape, plain(self).T, ids_of(self).T)

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """Floats stay as precise as they are."""
        if np.dtype(dtype).kind != "f":
            return plain(self).astype(dtype, *args, **kwargs)
        return wrap(self.tape, plain(self).copy(), ids_of(self).copy())

    def __deepcopy__(self, memo: Any) -> Any:
        return wrap(self.tape, plain(self).copy(), ids_of(self).copy())

    # --- arithmetic that is no function of NumPy ---

    def sum(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **rest: Any
    ) -> Any:
        """The sum."""
        return _kept(np.add.reduce(self, axis=axis, keepdims=keepdims), out)

    def mean(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False, **rest: Any
    ) -> Any:
        """The mean."""
        self.tape.label = "mean."
        total = np.add.reduce(self, axis=axis, keepdims=keepdims)
        made = total / (self.size / max(1, total.size))
        self.tape.label = ""
        return _kept(made, out)

    def var(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: float = 0,
        keepdims: bool = False,
        **rest: Any,
    ) -> Any:
        """The variance."""
        self.tape.label = "var.mean."
        total = np.add.reduce(self, axis=axis, keepdims=True)
        count = self.size / max(1, total.size)
        mean = total / count
        self.tape.label = "var."
        apart = np.subtract(self, mean)
        made = np.add.reduce(np.square(apart), axis=axis, keepdims=keepdims) / (count - ddof)
        self.tape.label = ""
        return _kept(made, out)

    def std(
        self,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        ddof: float = 0,
        keepdims: bool = False,
        **rest: Any,
    ) -> Any:
        """The standard deviation."""
        return _kept(np.sqrt(self.var(axis=axis, ddof=ddof, keepdims=keepdims)), out)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False, **rest: Any) -> Any:
        """The largest."""
        return _kept(np.maximum.reduce(self, axis=axis, keepdims=keepdims), out)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False, **rest: Any) -> Any:
        """The least."""
        return _kept(np.minimum.reduce(self, axis=axis, keepdims=keepdims), out)

    def argmax(self, axis: Any = None, out: Any = None, **rest: Any) -> Any:
        """Where the largest is."""
        ids = ids_of(self)
        ids = ids.reshape(-1) if axis is None else np.moveaxis(ids, axis, 0)
        self.tape.compare(ids[:-1], ids[1:])
        return plain(self).argmax(axis=axis, **rest)

    def clip(self, min: Any = None, max: Any = None, out: Any = None, **rest: Any) -> Any:  # noqa: A002
        """Between bounds."""
        made = self
        made = np.maximum(made, min) if min is not None else made
        made = np.minimum(made, max) if max is not None else made
        return _kept(made, out)

    def dot(self, b: Any, out: Any = None) -> Any:
        """As np.dot."""
        return _kept(np.dot(self, b), out)

    def tolist(self) -> Any:
        """Nested lists of single traced numbers: code that computes with lists is followed too."""
        return [part.tolist() for part in self] if self.ndim else self

    def item(self, *args: Any) -> Any:
        """One number, which is still followed."""
        if not args:
            return self.reshape(())
        return self.reshape(-1)[args[0]] if len(args) == 1 else self[args]

    def fill(self, value: Any) -> None:
        """All entries alike."""
        self[...] = value


def _moving(name: str) -> Callable[..., Any]:
    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        args = tuple(plain(a) if isinstance(a, Traced) else a for a in args)
        values, ids = (
            getattr(plain(self), name)(*args, **kwargs),
            getattr(ids_of(self), name)(*args, **kwargs),
        )
        if name == "reshape":
            self.tape.shaped(ids)
        return wrap(self.tape, values, apart(self.tape, name, values, ids))

    method.__name__ = name
    return method


for _name in (
    "reshape",
    "transpose",
    "swapaxes",
    "squeeze",
    "ravel",
    "flatten",
    "repeat",
    "take",
    "copy",
    "diagonal",
):
    setattr(Traced, _name, _moving(_name))


def plain(value: Any) -> Any:
    """The same memory as an array of NumPy's own class."""
    return value.view(np.ndarray) if isinstance(value, Traced) else value


def ids_of(value: Any) -> Any:
    """Numbers of the entries; zero for what is no traced array."""
    if isinstance(value, Traced):
        if value.ids is None:
            value.ids = np.zeros(value.shape, dtype=np.int64)
        return value.ids
    return np.zeros(np.shape(value), dtype=np.int64)


def wrap(tape: Tape, values: Any, ids: Any) -> Any:
    """A traced array; what is no float stays what it is."""
    array = np.asarray(values)
    if isinstance(array, Traced):
        array = plain(array)
    if array.dtype.kind != "f":
        return values
    made = array.view(Traced)
    made.tape, made.ids = tape, np.asarray(ids)
    return made


def _key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(plain(part) for part in key)
    return plain(key)


def deep(value: Any, get: Callable[[Any], Any]) -> Any:
    """Of an array, or of nested lists of them."""
    if isinstance(value, (list, tuple)):
        return np.array([deep(part, get) for part in value])
    return get(value)


def _kept(made: Any, out: Any) -> Any:
    if out is None:
        return made
    target = out[0] if isinstance(out, tuple) else out
    target[...] = made
    return target


def _ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tape = next(part.tape for part in (*inputs, *(kwargs.get("out") or ())) if isinstance(part, Traced))
    out = kwargs.pop("out", None)
    kwargs = {key: plain(value) for key, value in kwargs.items()}
    values = [np.asarray(plain(part)) for part in inputs] if method != "at" else []
    values = [np.array(plain(value)) for value in values]  # what is written down must not change later
    ids = [np.array(ids_of(part)) for part in inputs] if method != "at" else []
    if method == "at":
        return _at(ufunc, inputs, tape)
    if method == "__call__" and ufunc is np.matmul:
        made = product(tape, values, ids)
    elif method == "__call__" and ufunc.nout == 1:
        kwargs.pop("dtype", None)
        made = _elementwise(tape, ufunc, values, ids, kwargs)
    elif method == "reduce":
        made = reduced(tape, ufunc, values[0], ids[0], kwargs)
    elif method == "outer":
        first, second = inputs
        left = plain(first).reshape(np.shape(first) + (1,) * np.ndim(second))
        wide = ids[0].reshape(left.shape)
        return ufunc(wrap(tape, left, wide), second)
    else:
        return getattr(ufunc, method)(*values, **kwargs)
    if out is not None:
        target = out[0]
        plain(target)[...] = plain(made)
        if not isinstance(target, Traced):  # a user's own array: the same memory, with numbers
            return wrap(tape, target, np.broadcast_to(ids_of(made), target.shape).copy())
        ids_of(target)[...] = ids_of(made)
        return target
    return made


def _elementwise(
    tape: Tape, ufunc: Any, values: list[Array], ids: list[Array], kwargs: dict[str, Any]
) -> Any:
    result = np.asarray(ufunc(*values, **kwargs), order="C")
    if result.dtype.kind != "f":
        if ufunc.__name__ in COMPARING:
            tape.compare(*ids)
        return result if result.ndim else result[()]
    made: Array | None = None
    if any(own.any() for own in ids) and not kwargs:
        made = tape.elementwise(ufunc.__name__, values, ids, result)
    return wrap(tape, result, np.zeros(result.shape, dtype=np.int64) if made is None else made)


def product(tape: Tape, values: list[Array], ids: list[Array]) -> Any:
    """A matrix product."""
    a, b = values
    left, right, out = matmul_letters(a, b)
    if a.ndim > 2 and b.ndim > 2 and a.shape[:-2] != b.shape[:-2]:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        values = [np.broadcast_to(v, (*lead, *v.shape[-2:])) for v in values]
        ids = [np.broadcast_to(v, (*lead, *v.shape[-2:])) for v in ids]
        left, right, out = matmul_letters(*values)
    if not any(own.any() for own in ids):
        result = np.matmul(a, b)
        return wrap(tape, result, np.zeros(np.shape(result), dtype=np.int64))
    return wrap(tape, *tape.contract(left, right, out, values, ids))


def reduced(tape: Tape, ufunc: Any, value: Array, ids: Array, kwargs: dict[str, Any]) -> Any:
    """A sum, or a largest, over axes."""
    axis, keep = kwargs.get("axis", 0), bool(kwargs.get("keepdims", False))
    result = np.asarray(ufunc.reduce(value, axis=axis, keepdims=keep), order="C")
    axes = (
        tuple(range(value.ndim))
        if axis is None
        else tuple(a % max(1, value.ndim) for a in np.atleast_1d(axis))
    )
    if not ids.any() or result.dtype.kind != "f" or ufunc not in {np.add, np.maximum, np.minimum}:
        if result.dtype.kind != "f":
            return result
        return wrap(tape, result, np.zeros(result.shape, dtype=np.int64))
    wide = tuple(1 if axis in axes else size for axis, size in enumerate(value.shape))
    share = plain(np.ones(1))  # arrays that are made meanwhile are traced
    if ufunc is not np.add:
        hit = (value == result.reshape(wide)).astype(np.float64)
        share = hit / hit.sum(axis=axes, keepdims=True)

    def pull(dy: Array, instead: Array | None) -> Array:
        return np.broadcast_to(dy.reshape(wide), value.shape) * (share if instead is None else instead)

    name = {np.add: "sum", np.maximum: "max", np.minimum: "min"}[ufunc]

    def again(others: dict[int, Array]) -> Array:
        return np.asarray(ufunc.reduce(others.get(0, value), axis=axis, keepdims=keep))

    return wrap(tape, result, tape.write(name, result, [Edge(ids, value, pull)], again))


def _at(ufunc: Any, inputs: tuple[Any, ...], tape: Tape) -> None:
    """Adding at places that may repeat: one step, whose operands are what was there and what is added."""
    target, key, *rest = inputs
    key = _key(key)
    if ufunc is not np.add or not isinstance(target, Traced):
        ufunc.at(plain(target), key, *(plain(part) for part in rest))
        return
    value, added = plain(target).copy(), np.asarray(plain(rest[0]))
    result = value.copy()
    np.add.at(result, key, added)
    edges = [
        Edge(ids_of(target).copy(), value, lambda dy, _: dy),
        Edge(ids_of(rest[0]), added, lambda dy, _: unbroadcast(dy[key], added.shape), slot=1),
    ]

    def again(others: dict[int, Array]) -> Array:
        made = np.array(others.get(0, value))
        np.add.at(made, key, others.get(1, added))
        return made

    plain(target)[...] = result
    target.ids[...] = tape.write("add", result, [edge for edge in edges if edge.known], again)
