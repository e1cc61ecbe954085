"""NumPy's functions for traced arrays: those that move entries about, and those that are sums of products."""

from collections.abc import Callable
from typing import Any

import numpy as np

from unstuck.gradcheck.tape.apart import apart
from unstuck.gradcheck.tape.planes import labelled
from unstuck.gradcheck.tape.record import Edge
from unstuck.gradcheck.tape.tape import fresh, unbroadcast
from unstuck.gradcheck.tape.traced import Traced, ids_of, plain, wrap

MOVING = {
    "reshape", "transpose", "permute_dims", "matrix_transpose", "swapaxes", "moveaxis", "rollaxis",
    "concatenate", "stack", "vstack", "hstack", "column_stack", "dstack", "split", "array_split", "hsplit",
    "vsplit", "dsplit", "expand_dims", "squeeze", "ravel",
    "repeat", "tile", "flip", "fliplr", "flipud", "rot90", "roll", "take", "take_along_axis", "broadcast_to",
    "atleast_1d", "atleast_2d", "atleast_3d", "diag", "diagonal", "append", "insert", "delete", "pad", "copy",
    "sliding_window_view", "as_strided", "compress", "extract", "resize", "broadcast_arrays", "block",
}  # fmt: skip


def called(array: Traced, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One call of a function of NumPy that has a traced array among its arguments."""
    tape, name = array.tape, func.__name__
    if name in MOVING:
        values = func(*_mapped(args, plain), **_mapped(kwargs, plain))
        ids = func(*_mapped(args, _numbers), **_mapped(kwargs, _numbers))
        if name == "reshape":
            tape.shaped(ids)
        if isinstance(values, (list, tuple)):
            return type(values)(wrap(tape, v, i) for v, i in zip(values, ids, strict=True))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return wrap(tape, plain(values), apart(tape, name, plain(values), plain(ids)))
    if name in SPECIAL:
        return SPECIAL[name](tape, *args, **kwargs)
    if name in COMPOSED:
        return COMPOSED[name](*args, **kwargs)
    if name in {"zeros_like", "ones_like", "empty_like", "full_like"}:
        made = func(*_mapped(args, plain), **_mapped(kwargs, plain))
        return wrap(tape, plain(made), np.zeros(np.shape(made), dtype=np.int64))
    return np.ndarray.__array_function__(array, func, (Traced,), args, kwargs)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_mapped(part, change) for part in value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return change(value)


def _numbers(value: Any) -> Any:
    """The numbers in place of the entries; indices and sizes stay."""
    if isinstance(value, Traced):
        return ids_of(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.zeros(value.shape, dtype=np.int64)
    return 0 if isinstance(value, (float, np.floating)) else value


def _where(tape: Any, condition: Any, *chosen: Any) -> Any:
    condition = plain(condition)
    if not chosen:
        return np.where(condition)
    values = [np.asarray(plain(part)) for part in chosen]
    values = [plain(value) for value in values]
    result = np.where(condition, *values)
    if result.dtype.kind != "f":
        return result
    yes = np.broadcast_to(condition, result.shape).astype(np.float64)
    edges: list[Edge] = []
    for slot, (part, value, kept) in enumerate(zip(chosen, values, (yes, 1 - yes), strict=True)):
        ids = np.array(ids_of(part))
        if ids.any():

            def pull(dy: Any, _: Any, k: Any = kept, s: Any = value.shape) -> Any:
                return unbroadcast(dy * k, s)

            edges.append(Edge(ids, value, pull, slot=slot))
    if not edges:
        return wrap(tape, result, np.zeros(result.shape, dtype=np.int64))

    def again(others: dict[int, Any]) -> Any:
        return np.where(condition, *(others.get(slot, value) for slot, value in enumerate(values)))

    return wrap(tape, result, tape.write("where", result, edges, again))


def _einsum(tape: Any, subscripts: Any, *operands: Any, **__: Any) -> Any:
    if not isinstance(subscripts, str):
        raise NotImplementedError
    text = subscripts.replace(" ", "")
    values = [plain(np.array(plain(part))) for part in operands]
    ins, _, out = text.partition("->")
    if "->" not in text:
        letters = ins.replace(",", "")
        out = "".join(
            sorted(letter for letter in set(letters) if letters.count(letter) == 1 and letter != ".")
        )
        out = ("..." if "." in ins else "") + out
    parts = ins.split(",")
    if "..." in text:
        parts, out = _spelled(parts, out, values)
    repeated = any(len(set(part)) < len(part) for part in parts)
    if repeated:
        result = np.asarray(np.einsum(text, *values))
        return wrap(tape, result, np.zeros(result.shape, dtype=np.int64))
    ids = [np.array(ids_of(part)) for part in operands]
    if len(parts) == 1:
        return _alone(tape, parts[0], out, values[0], ids[0])
    left, value, own = parts[0], values[0], ids[0]
    for number in range(1, len(parts)):
        rest = "".join(parts[number + 1 :]) + out
        kept = (
            out
            if number == len(parts) - 1
            else "".join(dict.fromkeys(c for c in left + parts[number] if c in rest))
        )
        pair, both = [value, values[number]], [own, ids[number]]
        if any(one.any() for one in both):
            value, own = tape.contract(left, parts[number], kept, pair, both)
        else:
            value = np.asarray(np.einsum(f"{left},{parts[number]}->{kept}", *pair))
            own = np.zeros(value.shape, dtype=np.int64)
        left = kept
    return wrap(tape, value, own)


def _spelled(parts: list[str], out: str, values: list[Any]) -> tuple[list[str], str]:
    """With letters in place of dots."""
    used = "".join(parts) + out
    most = max(
        value.ndim - len(part.replace("...", ""))
        for part, value in zip(parts, values, strict=True)
        if "..." in part
    )
    letters = ""
    for _ in range(most):
        letters += fresh(used + letters)
    spelled = [
        part.replace("...", letters[most - (value.ndim - len(part.replace("...", ""))) :])
        if "..." in part
        else part
        for part, value in zip(parts, values, strict=True)
    ]
    return spelled, out.replace("...", letters)


def _alone(tape: Any, inward: str, out: str, value: Any, ids: Any) -> Any:
    """Einsum of one operand: a sum over the letters that are left out, and the others in another order."""
    summed = tuple(axis for axis, letter in enumerate(inward) if letter not in out)
    array = wrap(tape, value, ids)
    if summed:
        array = array.sum(axis=summed)
    left = [letter for letter in inward if letter in out]
    return array.transpose([left.index(letter) for letter in out])


def _dot(tape: Any, a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if np.ndim(b) <= 2:
        return np.matmul(a, b)
    return _tensordot(tape, a, b, axes=((np.ndim(a) - 1,), (np.ndim(b) - 2,)))


def _tensordot(tape: Any, a: Any, b: Any, axes: Any = 2) -> Any:
    ndim = (np.ndim(a), np.ndim(b))
    if isinstance(axes, (int, np.integer)):
        count = int(axes)
        ours, theirs = tuple(range(ndim[0] - count, ndim[0])), tuple(range(count))
    else:
        ours, theirs = ((part,) if np.ndim(part) == 0 else tuple(part) for part in axes)
    ours = tuple(axis % ndim[0] for axis in ours)
    theirs = tuple(axis % ndim[1] for axis in theirs)
    letters = "abcdefghijklmnopqrstuvwxyz"
    left = letters[: ndim[0]]
    right = list(letters[ndim[0] : ndim[0] + ndim[1]])
    for mine, its in zip(ours, theirs, strict=True):
        right[its] = left[mine]
    out = "".join(c for k, c in enumerate(left) if k not in ours)
    out += "".join(c for k, c in enumerate(right) if k not in theirs)
    return _einsum(tape, f"{left},{''.join(right)}->{out}", a, b)


def _outer(a: Any, b: Any) -> Any:
    return np.multiply(np.ravel(a)[:, None], np.ravel(b)[None, :])


def _inner(tape: Any, a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    return _tensordot(tape, a, b, axes=((-1,), (-1,)))


def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002
    if ord not in {None, 2} or (ord == 2 and axis is None and np.ndim(x) > 1):
        raise NotImplementedError
    return np.sqrt(np.add.reduce(np.square(x), axis=axis, keepdims=keepdims))


def _tril(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(*np.shape(m)[-2:], k=k, dtype=bool), m, 0.0)


def _triu(m: Any, k: int = 0) -> Any:
    return np.where(np.tri(*np.shape(m)[-2:], k=k - 1, dtype=bool), 0.0, m)


def _convolve(a: Any, v: Any, mode: str = "full", *, turned: bool = True) -> Any:
    """One product and sum for each place, as it is defined."""
    if np.ndim(a) != 1 or np.ndim(v) != 1:
        raise NotImplementedError
    turned_v = v[::-1] if turned else v
    size, count = np.shape(v)[0], np.shape(a)[0]
    if count < size:
        raise NotImplementedError
    pad = {"full": size - 1, "same": (size - 1) // 2, "valid": 0}[mode]
    after = {"full": size - 1, "same": size - 1 - (size - 1) // 2, "valid": 0}[mode]
    if mode == "same" and turned:
        pad, after = after, pad
    wide = np.pad(a, (pad, after))
    windows = np.lib.stride_tricks.sliding_window_view(wide, size)
    return labelled(a, v, lambda: np.matmul(windows, turned_v))


def _correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    return _convolve(a, v, mode, turned=False)


def _square_sum(a: Any, b: Any) -> Any:
    return np.add.reduce(np.multiply(np.ravel(a), np.ravel(b)))


SPECIAL: dict[str, Callable[..., Any]] = {
    "where": _where,
    "einsum": _einsum,
    "dot": _dot,
    "tensordot": _tensordot,
    "inner": _inner,
}
COMPOSED: dict[str, Callable[..., Any]] = {
    "tril": _tril,
    "triu": _triu,
    "outer": _outer,
    "vdot": _square_sum,
    "norm": _norm,
    "convolve": _convolve,
    "correlate": _correlate,
}
