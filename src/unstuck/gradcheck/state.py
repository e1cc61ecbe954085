"""What two calls tell: gradients that add up, caches that are not used, weights that change on the way."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck.kept import places
from unstuck.gradcheck.mistakes import Mistake
from unstuck.gradcheck.subject import Subject, Values
from unstuck.gradcheck.tree import Array, leaves, opened


@dataclass
class State:
    """What was found."""

    mistakes: list[Mistake] = field(default_factory=list[Mistake])
    notes: list[str] = field(default_factory=list[str])
    adding: set[str] = field(default_factory=set[str])
    """Tensors whose gradients add up from call to call."""
    spoils: set[str] = field(default_factory=set[str])
    """Tensors whose gradients cannot be compared, since something here changes them."""


def look(subject: Subject, values: Values, other: Values, dy: Array) -> State:
    """Call forward and backward several times and compare.

    Args:
        subject: what is checked.
        values: the point.
        other: another point, with another input.
        dy: of the shape of y.
    """
    found = State()
    _, cache, params = subject.forward_with(values)
    first = subject.backward(values, cache, dy, params)
    for name in first.changed:
        text = (
            f"backward changes {name}: gradients that pass through it afterwards are those of other weights"
        )
        found.mistakes.append(Mistake(name, "weights-updated-early", text))
        found.spoils |= set(subject.values)
    if first.changed_dy:
        found.notes.append("backward changes the array dy that it is given: whoever gave it may need it")
    second, third = (subject.gradients(values, dy) for _ in range(2))
    _repeated(first.gradients, second, third, found)
    if not found.adding and not found.mistakes:
        _same_cache(subject, values, dy, first.gradients, found)
    if not found.adding and not found.mistakes:
        _stale(subject, values, other, dy, first.gradients, found)
    return found


def _array(value: Any) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)


def _different(a: Any, b: Any) -> bool:
    left, right = _array(a), _array(b)
    if left.shape != right.shape:
        return True
    scale = float(np.abs(right[np.isfinite(right)]).max(initial=0.0))
    gap = np.abs(left - right)
    return bool((gap[np.isfinite(gap)] > 1e-4 * scale).any())


def _adds(first: Any, second: Any, third: Any) -> bool:
    a, b, c = _array(first), _array(second), _array(third)
    if not a.shape == b.shape == c.shape or not (b - a).any():
        return False
    return bool(np.allclose(c - b, b - a, rtol=1e-4, atol=1e-6 * float(np.abs(b - a).max())))


def _repeated(first: dict[str, Any], second: dict[str, Any], third: dict[str, Any], found: State) -> None:
    unstable: list[str] = []
    for name, value in first.items():
        if name not in second or name not in third or not _different(value, second[name]):
            continue
        if _adds(value, second[name], third[name]):
            found.adding.add(name)
            text = (
                f"the gradient of {name} grows with every call of backward: calls are added up, not assigned"
            )
            found.mistakes.append(Mistake(name, "accumulated", text))
        else:
            unstable.append(name)
    if unstable:
        found.spoils |= set(first)
        text = f"the same call gives another gradient of {', '.join(unstable)}"
        found.mistakes.append(Mistake(unstable[0], "unstable-backward", text))


def _same_cache(subject: Subject, values: Values, dy: Array, reference: dict[str, Any], found: State) -> None:
    """The same cache twice: what is kept inside it is worth a note."""
    _, cache, params = subject.forward_with(values)
    try:
        answers = [subject.backward(values, cache, dy, params).gradients for _ in range(3)]
    except UnstuckError:
        found.notes.append("backward works only once with a cache")
        return
    sums: list[str] = []
    others: list[str] = []
    for name in reference:
        parts = [answer.get(name) for answer in answers]
        if any(part is None for part in parts) or not _different(parts[0], parts[1]):
            continue
        (sums if _adds(*parts) else others).append(name)
    # No mistake: forward makes a new cache for every call, as a graph that gradients are added up in.
    if sums:
        found.notes.append(
            f"the cache holds sums: backward again with one cache adds to the gradients of {', '.join(sums)}"
        )
    if others:
        text = "backward changes its cache: a second call with it gives other gradients of "
        found.notes.append(text + ", ".join(others))


def _held(cache: Any) -> dict[str, Array]:
    """Copies of the arrays in a cache."""
    found = leaves(opened(cache)).items()
    return {name: np.array(value) for name, value in found if isinstance(value, np.ndarray)}


def _alike(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _is_whole(subject: Subject, values: Values, other: Values, dy: Array, stale: dict[str, Any]) -> bool:
    """Whether the cache has all that is needed: then nothing but the cache is meant to be used.

    A network may keep a part of it in itself. Put back there after another forward pass, that part changes
    what backward gives, though it is not in the cache: such a network is meant to be called in pairs.
    """
    roots = subject.functions
    _, cache, params = subject.forward_with(values)
    kept = {path: np.array(place.value) for path, place in places(roots).items()}
    inside = [*(np.array(place.value) for place in places([cache]).values()), *_held(cache).values()]
    try:
        subject.forward(other)
        for path, place in places(roots).items():
            before = kept.get(path)
            if before is None or _alike(before, np.array(place.value)):
                continue
            if not any(_alike(before, array) for array in inside):
                place.put(before if isinstance(place.value, np.ndarray) else before.tolist())
        answer = subject.backward(values, cache, dy, params).gradients
    except UnstuckError:
        return True
    return not any(name in answer and _different(answer[name], value) for name, value in stale.items())


def _stale(
    subject: Subject, values: Values, other: Values, dy: Array, reference: dict[str, Any], found: State
) -> None:
    """Two forward passes, then the backward pass of the first."""
    _, cache, params = subject.forward_with(values)
    held = _held(cache)
    try:
        subject.forward(other)
        # A network that gives itself as its cache holds what its last forward pass left: so it was meant.
        holds = bool(held) and all(_alike(held[key], now) for key, now in _held(cache).items() if key in held)
        answer = subject.backward(values, cache, dy, params).gradients
    except UnstuckError:
        return
    stale = [name for name in reference if name in answer and _different(answer[name], reference[name])]
    if stale and not (holds and _is_whole(subject, values, other, dy, answer)):
        found.notes.append(
            "backward takes what it needs from the last forward pass, not from its cache: call them in pairs"
        )
        stale = []
    if not stale:
        subject.forward(other)
        again = subject.gradients(values, dy)
        stale = [name for name in reference if name in again and _different(again[name], reference[name])]
    if stale:
        text = "the backward pass of the first of two forward passes uses what the second one left"
        found.mistakes.append(
            Mistake(stale[0], "stale-cache", f"{text} (seen in the gradient of {', '.join(stale)})")
        )
        found.spoils |= set(subject.values)
