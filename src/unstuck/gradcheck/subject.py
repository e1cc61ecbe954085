"""A user's forward and backward as functions of named tensors: copied, checked, the same at every call."""

import random
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck.tree import Array, copied, is_leaf, leaves, replaced

MASK_VALUES = 2
Values = dict[str, Array]
Forward = Callable[[Any, Any], Any]
Backward = Callable[[Any, Any, Any], Any]


class Subject:
    """What is checked. Tensors are the floats among the parameters by their names, and the input.

    Every call gets copies, and the same random numbers as the one before: dropout drops the same units.
    """

    def __init__(self, forward: Forward, backward: Backward, params: Any, x: Any) -> None:
        self._forward, self._backward = forward, backward
        if isinstance(x, list) and _whole_numbers(x):
            x = (np.asarray(x) * 1.0).tolist()
        self._params, self._x = copied(params), copied(x)
        self._streams = Streams(forward, backward)
        self.parameters = {
            name: _double(f"params[{name!r}]", value)
            for name, value in leaves(params).items()
            if _is_float(value)
        }
        self._integers = [
            name
            for name, value in leaves(params).items()
            if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.integer)
        ]
        self._input_paths = _input_paths(x, "x" if "x" not in self.parameters else "input")
        found = leaves(x)
        self.inputs = {
            name: _double(name, found[path])
            for name, path in self._input_paths.items()
            if _is_float(found[path])
        }
        self.values: Values = {**self.parameters, **self.inputs}
        self.calls = 0
        self.single = False
        """Whether the output, or an array of the cache, came in single precision or less."""
        self.changed_by_forward: set[str] = set()

    @property
    def functions(self) -> list[Any]:
        """The user's two functions."""
        return [self._forward, self._backward]

    @property
    def random_used(self) -> bool:
        """Whether a forward pass drew random numbers from a source that is known."""
        return self._streams.used_by_forward

    def arguments(self, values: Values) -> tuple[Any, Any]:
        """Fresh copies of params and x with these tensors in them."""
        params = replaced(self._params, {name: values[name].copy() for name in self.parameters})
        x = replaced(self._x, {self._input_paths[name]: values[name].copy() for name in self.inputs})
        return params, x

    def on_these(self, tensors: Mapping[str, Any]) -> Any:
        """What forward gives as y for these very arrays, which may be of a class of their own."""
        params = replaced(self._params, {name: tensors[name] for name in self.parameters})
        x = replaced(self._x, {self._input_paths[name]: tensors[name] for name in self.inputs})
        with self._streams.rewound(forward=True):
            return self._forward(params, x)[0]

    def both_on_these(
        self, tensors: Mapping[str, Any], dy: Any, between: Callable[[], None]
    ) -> tuple[Any, dict[str, Any]]:
        """What forward and backward give for these very arrays: y, and gradients by name.

        Args:
            tensors: arrays, which may be of a class of their own.
            dy: likewise.
            between: called after forward and before backward.
        """
        params = replaced(self._params, {name: tensors[name] for name in self.parameters})
        x = replaced(self._x, {self._input_paths[name]: tensors[name] for name in self.inputs})
        with self._streams.rewound(forward=True):
            y, cache = self._forward(params, x)
        between()
        with self._streams.rewound(forward=False):
            dx, grads = self._backward(params, cache, dy)
        return y, self._named(dx, grads)

    def forward(self, values: Values) -> tuple[Array, Any]:
        """Output and cache.

        Raises:
            UnstuckError: it fails, or what it returns is no pair of numbers and a cache.
        """
        return self.forward_with(values)[:2]

    def forward_with(self, values: Values) -> tuple[Array, Any, Any]:
        """Output, cache, and the very params that it was given: a cache may refer to them."""
        params, x = self.arguments(values)
        self.calls += 1
        with self._streams.rewound(forward=True):
            try:
                result = self._forward(params, x)
            except UnstuckError:
                raise
            except Exception as error:
                raise UnstuckError(f"forward failed{_where(error)}: {_said(error)}") from error
        if not (isinstance(result, tuple) and len(cast("tuple[Any, ...]", result)) == 2):
            raise UnstuckError(f"forward: expected it to return (y, cache), found {_kind(result)}")
        self._compare_after(values, params, x)
        y, cache = cast("tuple[Any, Any]", result)
        if self.calls == 1:
            self.single = _is_single(y) or any(_is_single(part) for part in leaves(cache).values())
        return output_array("forward's y", y), cache, params

    def _compare_after(self, values: Values, params: Any, x: Any) -> None:
        after = leaves(params)
        for name in self.parameters:
            if name not in after or not _same(after[name], values[name]):
                self.changed_by_forward.add(name)
        found = leaves(x)
        for name in self.inputs:
            path = self._input_paths[name]
            if path not in found or not _same(found[path], values[name]):
                self.changed_by_forward.add(name)

    def output(self, values: Values) -> Array:
        """The output alone, in float64."""
        return self.forward(values)[0]

    def backward(self, values: Values, cache: Any, dy: Array, params: Any = None) -> "Answer":
        """One call of backward, with a cache that forward gave.

        Raises:
            UnstuckError: it fails, or what it returns is no pair of an input's gradient and a dict.
        """
        if params is None:
            params, _ = self.arguments(values)
        given = dy.copy()
        with self._streams.rewound(forward=False):
            try:
                result = self._backward(params, cache, given)
            except UnstuckError:
                raise
            except Exception as error:
                raise UnstuckError(f"backward failed{_where(error)}: {_said(error)}") from error
        if not (isinstance(result, tuple) and len(cast("tuple[Any, ...]", result)) == 2):
            raise UnstuckError(
                f"backward: expected it to return (dx, {{name: gradient}}), found {_kind(result)}"
            )
        dx, grads = cast("tuple[Any, Any]", result)
        if not isinstance(grads, Mapping):
            raise UnstuckError(
                f"backward: expected a dict of gradients as its second result, found {_kind(grads)}"
            )
        after = leaves(params)
        changed = tuple(
            name for name in self.parameters if name in after and not _same(after[name], values[name])
        )
        return Answer(self._named(dx, cast("Mapping[Any, Any]", grads)), changed, not _same(given, dy))

    def _named(self, dx: Any, grads: Mapping[Any, Any]) -> dict[str, Any]:
        named: dict[str, Any] = {}
        for name, value in _gradients(grads).items():
            if name not in self.parameters:
                if name in self._integers:
                    raise UnstuckError(
                        f"params[{name!r}] holds integers, expected floats: it cannot be differentiated"
                    )
                known = ", ".join(self.parameters) or "none"
                raise UnstuckError(
                    f"backward: found a gradient for {name!r}, expected names of params: {known}"
                )
            named[name] = value
        if dx is None:
            return named
        if len(self._input_paths) == 1:
            named[next(iter(self._input_paths))] = copied(dx)
        else:
            for path, value in _gradients(dx).items():
                name = next((key for key, place in self._input_paths.items() if place == path), None)
                if name is not None:
                    named[name] = value
        return {name: value for name, value in named.items() if name in self.values}

    def gradients(self, values: Values, dy: Array) -> dict[str, Any]:
        """A forward pass and its backward pass."""
        _, cache, params = self.forward_with(values)
        return self.backward(values, cache, dy, params).gradients

    def shaken(self, by: int = 1) -> None:
        """From now on, other random numbers in every call."""
        self._streams.seed += by

    def arrays_around(self) -> list[Array]:
        """Arrays that are no tensors but that the functions see: integers of x, targets, constants."""
        found = _arrays(self._x) + _arrays(self._params)
        for function in (self._forward, self._backward):
            for value in _surroundings(function):
                found += _arrays(value)
        return found


class Answer:
    """What one call of backward gave: gradients by name, and what of its arguments it changed."""

    def __init__(self, gradients: dict[str, Any], changed: tuple[str, ...], changed_dy: bool) -> None:
        self.gradients, self.changed, self.changed_dy = gradients, changed, changed_dy


class Streams:
    """Every source of random numbers that the functions may use, set to the same state before each call."""

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self.seed = 0
        self.used_by_forward = False
        self._generators: list[np.random.Generator] = []
        for function in functions:
            for value in _surroundings(function):
                parts: list[Any] = [value, *vars(value).values()] if hasattr(value, "__dict__") else [value]
                self._generators += [part for part in parts if isinstance(part, np.random.Generator)]
        self._states = [generator.bit_generator.state for generator in self._generators]

    def rewound(self, *, forward: bool) -> "_Rewound":
        """A context in which every source starts at the same place; another one for backward."""
        return _Rewound(self, forward)

    def start(self, offset: int) -> None:
        """Set every source to its start."""
        random.seed(self.seed * 2 + offset)
        np.random.seed((self.seed * 2 + offset) % 2**32)  # noqa: NPY002  (users' code draws from it)
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.bit_generator.state = state
            if self.seed or offset:
                generator.bit_generator.random_raw(7 * self.seed + 3 * offset)

    def state(self) -> tuple[Any, ...]:
        """Where all sources are now."""
        numpy_state = np.random.get_state(legacy=True)  # noqa: NPY002
        return (
            random.getstate(),
            (numpy_state[1].tobytes(), numpy_state[2]),  # pyright: ignore[reportArgumentType]  (legacy: a tuple)
            *(str(generator.bit_generator.state) for generator in self._generators),
        )


class _Rewound:
    def __init__(self, streams: Streams, forward: bool) -> None:
        self._streams, self._forward = streams, forward

    def __enter__(self) -> None:
        self._kept = (random.getstate(), np.random.get_state())  # noqa: NPY002
        self._streams.start(0 if self._forward else 1)
        self._before = self._streams.state() if self._forward and not self._streams.used_by_forward else None

    def __exit__(self, *_: object) -> None:
        if self._before is not None and self._streams.state() != self._before:
            self._streams.used_by_forward = True
        random.setstate(self._kept[0])
        np.random.set_state(self._kept[1])  # noqa: NPY002


def output_array(what: str, y: Any) -> Array:
    """An output in float64.

    Raises:
        UnstuckError: it is no array of floats, or not finite.
    """
    try:
        array = np.asarray(y)
    except (TypeError, ValueError) as error:
        raise UnstuckError(f"{what}: expected one array of floats, found {_kind(y)} ({error})") from None
    if array.dtype.kind in "iub":
        raise UnstuckError(f"{what}: expected floats, found {array.dtype}: integers have no gradient")
    if array.dtype.kind != "f":
        raise UnstuckError(f"{what}: expected one array of floats, found {_kind(y)} of {array.dtype}")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise UnstuckError(f"{what}: expected finite numbers, found {bad} of {array.size} NaN or infinite")
    return array.astype(np.float64)


def _is_single(value: Any) -> bool:
    """Whether an array was computed in less than double precision; a mask is the same in any."""
    dtype = getattr(value, "dtype", None)
    if dtype not in {np.dtype(np.float32), np.dtype(np.float16)}:
        return False
    return np.unique(np.asarray(value)).size > MASK_VALUES or np.ndim(value) == 0


def _arrays(value: Any) -> list[Array]:
    """Arrays in a value, lists of numbers among them."""
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (int, float)):
        try:
            return [np.asarray(value)]
        except ValueError:
            return []
    return [np.asarray(part) for part in leaves(value).values() if not isinstance(part, (float, np.floating))]


def _gradients(value: Any) -> dict[str, Any]:
    """Gradients by the places of their tensors; integers and None are kept, they are told of later."""
    found: dict[str, Any] = {}

    def walk(part: Any, path: str) -> None:
        if isinstance(part, Mapping):
            for key, inner in cast("Mapping[Any, Any]", part).items():
                walk(inner, f"{path}.{key}" if path else str(key))
        elif isinstance(part, (list, tuple)) and not is_leaf(part) and any(_holds(p) for p in part):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            for number, inner in enumerate(cast("list[Any]", part)):
                walk(inner, f"{path}.{number}" if path else str(number))
        elif part is not None and not (isinstance(part, (list, tuple)) and not part):
            found[path] = copied(part)

    walk(value, "")
    return found


def _holds(value: Any) -> bool:
    return isinstance(value, (np.ndarray, Mapping)) or is_leaf(value)


def _surroundings(function: Any) -> list[Any]:
    """What a function sees beside its arguments: globals it names, its closure, defaults, and object."""
    seen: list[Any] = []
    known: set[int] = set()

    def visit(thing: Any, depth: int) -> None:
        if id(thing) in known or depth > 4:
            return
        known.add(id(thing))
        owner = getattr(thing, "__self__", None)
        if owner is not None and not isinstance(owner, type(np)):
            seen.append(owner)
            seen.extend(vars(owner).values() if hasattr(owner, "__dict__") else [])
        code = getattr(thing, "__code__", None)
        if code is None:
            return
        parts = list(getattr(thing, "__defaults__", None) or ())
        for cell in getattr(thing, "__closure__", None) or ():
            try:
                parts.append(cell.cell_contents)
            except ValueError:  # an empty cell
                continue
        around = getattr(thing, "__globals__", {})
        parts += [around[name] for name in _names(code) if name in around]
        for part in parts:
            seen.append(part)
            visit(part, depth + 1)
            if callable(part) and hasattr(part, "__dict__") and not hasattr(part, "__code__"):
                for method in ("__call__", "forward", "backward"):
                    visit(getattr(part, method, None), depth + 1)

    visit(function, 0)
    return [part for part in seen if not isinstance(part, type(np)) and not isinstance(part, type)]


def _names(code: Any) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            names |= _names(constant)
    return names


def _input_paths(x: Any, name: str) -> dict[str, str]:
    found = list(leaves(x))
    if not found:
        raise UnstuckError(f"x: expected an array of floats, found {_kind(x)}")
    if found == [""]:
        return {name: ""}
    return {f"{name}.{path}": path for path in found}


def _whole_numbers(x: Any) -> bool:
    """Whether it is a nested list of integers: who writes lists writes 1 for 1.0."""
    try:
        return bool(np.asarray(x).dtype.kind == "i")
    except ValueError:
        return False


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or np.asarray(value).dtype.kind == "f"


def _double(what: str, value: Any) -> Array:
    array = np.array(value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UnstuckError(f"{what}: expected finite numbers, found NaN or infinite ones")
    return array


def _same(a: Any, b: Array) -> bool:
    left = np.asarray(a)
    return left.shape == b.shape and bool(np.array_equal(left, b))


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(cast('tuple[Any, ...]', value))}"
    return "None" if value is None else f"{type(value).__name__}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().replace("\n", " ")


def _where(error: BaseException) -> str:
    """File and line of the innermost frame that is the user's own: not of a library, nor of this package."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "site-packages" not in file and "unstuck/gradcheck" not in file and not file.startswith("<"):
            place = f" at {file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
