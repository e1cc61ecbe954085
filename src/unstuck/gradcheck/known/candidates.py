"""Which operation may come next, from the shapes of what is there; the likelier the cheaper."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from unstuck.gradcheck.known.convolution import Convolution, Form, Geometry
from unstuck.gradcheck.known.dense import Dense
from unstuck.gradcheck.known.elementwise import Dropout, Elementwise, Last, Mean, PRelu, Reshape, Softmax
from unstuck.gradcheck.known.functions import ACTIVATIONS
from unstuck.gradcheck.known.layout import Layout, layouts
from unstuck.gradcheck.known.losses import (
    DIFFERENCES,
    BinaryCrossEntropy,
    ByElement,
    CrossEntropy,
    Focal,
    Hinge,
    SquaredError,
)
from unstuck.gradcheck.known.normalisation import Normalisation, Spread
from unstuck.gradcheck.known.operation import Operation
from unstuck.gradcheck.known.pooling import Pooling
from unstuck.gradcheck.known.recurrent import Recurrent, Weights
from unstuck.gradcheck.subject import Values
from unstuck.gradcheck.tree import Array

EPSILONS = (1e-5, 1e-8, 1e-3, 1e-7, 1e-6, 1e-4, 1e-12, 1e-10, 1e-9, 0.0)


_SPREADS = sorted(
    (
        (0.05 * number + 0.3 * ddof + 0.3 * outside, Spread(eps, ddof, outside))
        for number, eps in enumerate(EPSILONS)
        for ddof in (0, 1)
        for outside in (False, True)
    ),
    key=lambda pair: pair[0],
)


class Known(Protocol):
    """What candidates ask of the evidence."""

    y: Array
    around: list[Array]
    tolerance: float

    def same(self, a: Array, b: Array) -> bool:
        """Whether two arrays are equal."""
        ...

    def sizes(self) -> set[int]:
        """Sizes that occur."""
        ...

    def of_size(self, size: int) -> list[Array]:
        """Arrays of the cache with so many entries."""
        ...


@dataclass(frozen=True)
class Candidate:
    """An operation to try, and how unlikely it is."""

    operation: Operation
    cost: float
    others: "Iterator[Candidate]" = field(default_factory=lambda: iter(()), compare=False)
    """Less likely forms of the same operation, tried after it."""


def candidates(
    values: Values, before: list[Operation], h: Array, unused: tuple[str, ...], known: Known
) -> Iterator[Candidate]:
    """All that fit the array h.

    Args:
        values: all tensors.
        before: the operations that made h.
        h: what there is.
        unused: parameters that no operation has used yet.
        known: the evidence.
    """
    if h.ndim == 0:
        return
    last = before[-1] if before else None
    yield from _dense(values, h, unused)
    yield from _convolutions(values, h, unused, known)
    yield from _normalisations(values, h, unused)
    if h.ndim in {2, 3} and not isinstance(last, Recurrent):
        yield from _recurrent(values, h, unused)
    if not isinstance(last, (Elementwise, Reshape)):
        for number, f in enumerate(ACTIVATIONS):
            yield Candidate(Elementwise(f), 1.0 + 0.1 * number)
        yield from _learned(values, h, unused)
    yield from _shapes(last, h, unused, known)
    if h.ndim >= 2 and any(isinstance(operation, Recurrent) for operation in before):
        for axis in range(h.ndim - 1):
            yield Candidate(Last(axis), 1.0)
    if h.ndim >= 2 and not isinstance(last, (Softmax, Reshape)):
        for axis in (-1, 0):
            yield Candidate(Softmax(axis), 1.5)
            yield Candidate(Softmax(axis, log=True), 2.0)
    if not isinstance(last, Dropout):
        yield from _masks(h, known)
    yield from _poolings(h, last)


def _dense(values: Values, h: Array, unused: tuple[str, ...]) -> Iterator[Candidate]:
    for name in unused:
        matrix = values[name]
        if matrix.ndim != 2:
            continue
        for columns in (False, True):
            if columns and (h.ndim != 2 or h.shape[0] == 1 == h.shape[-1]):
                continue
            size = h.shape[0] if columns else h.shape[-1]
            for transposed in (columns, not columns):
                if matrix.shape[1 if transposed else 0] != size:
                    continue
                out = matrix.shape[0 if transposed else 1]
                cost = 1.0 + (1.0 if columns else 0.0) + (0.2 if transposed is not columns else 0.0)
                for bias in _biases(values, unused, name, out):
                    extra = 0.0 if bias else 0.6
                    yield Candidate(Dense(name, bias, transposed=transposed, columns=columns), cost + extra)


def _biases(values: Values, unused: tuple[str, ...], weight: str, size: int) -> list[str]:
    fitting = [
        name
        for name in unused
        if name != weight and values[name].size == size and max(values[name].shape, default=1) == size
    ]
    return [*fitting, ""]


def _convolutions(values: Values, h: Array, unused: tuple[str, ...], known: Known) -> Iterator[Candidate]:
    matrices = any(values[name].ndim > 1 for name in unused)
    for name in unused:
        kernel = values[name]
        if kernel.ndim == 1 and matrices:
            continue  # a bias; a kernel of one axis comes alone
        for layout in layouts(h.ndim):
            x = layout.inward(h)
            for form in _forms(kernel, layout, x.shape[1]):
                shape = form.canonical(kernel).shape
                if x.shape[1] != shape[1] or ("C" not in layout.letters and shape[0] != 1):
                    continue
                yield from _geometries(values, unused, name, layout, form, list(shape), x, known)


def _forms(kernel: Array, layout: Layout, channels: int) -> Iterator[Form]:
    """Ways in which a kernel may be stored."""
    for order in _orders(kernel, layout):
        yield Form(order)
        sizes = [kernel.shape[axis] if axis >= 0 else 1 for axis in order]
        if channels > 1 and sizes[0] == channels and sizes[1] == 1:
            yield Form(order, depthwise=True)
    if kernel.ndim == 2 and "H" in layout.letters and "C" in layout.letters:  # a matrix, beside im2col
        for first in (True, False):
            out, rest = kernel.shape if first else kernel.shape[::-1]
            size = round((rest / channels) ** 0.5)
            if size < 2 or size * size * channels != rest:
                continue
            if first:
                yield Form((0, 1, 2, 3), (out, channels, size, size))
                yield Form((0, 3, 1, 2), (out, size, size, channels))
            else:
                yield Form((3, 0, 1, 2), (channels, size, size, out))
                yield Form((3, 2, 0, 1), (size, size, channels, out))


def _orders(kernel: Array, layout: Layout) -> list[tuple[int, ...]]:
    """Axes of a kernel as (out, in, height, width)."""
    flat = "H" not in layout.letters
    if kernel.ndim == 4 and not flat:
        return [(0, 1, 2, 3), (3, 2, 0, 1), (1, 0, 2, 3), (0, 3, 1, 2), (2, 3, 0, 1), (3, 0, 1, 2)]
    if kernel.ndim == 3:
        if flat:
            return [(0, 1, -1, 2), (2, 1, -1, 0), (1, 0, -1, 2)]
        return [(0, -1, 1, 2), (2, -1, 0, 1)]
    if kernel.ndim == 2 and not flat:
        return [(-1, -1, 0, 1)]
    if kernel.ndim == 1 and flat and kernel.size > 1 and "C" not in layout.letters:
        return [(-1, -1, -1, 0)]
    return []


def _geometries(
    values: Values,
    unused: tuple[str, ...],
    name: str,
    layout: Layout,
    form: Form,
    canonical: list[int],
    x: Array,
    known: Known,
) -> Iterator[Candidate]:
    sizes = known.sizes()
    high, wide = canonical[2:]
    rare = len(layout.letters) < 3  # a matrix is an image less often than rows of features
    found: list[tuple[float, int, Geometry, str]] = []
    biases = _biases(values, unused, name, canonical[0])
    for stride, padding in itertools.product((1, 2, 3, 4), range(max(high, wide))):
        pads = (padding if high > 1 else 0, padding)
        steps = (stride if "H" in layout.letters else 1, stride)
        rows = (x.shape[2] + 2 * pads[0] - high) // steps[0] + 1
        columns = (x.shape[3] + 2 * pads[1] - wide) // steps[1] + 1
        if rows < 1 or columns < 1:
            continue
        likely = x.shape[0] * canonical[0] * rows * columns in sizes
        cost = 1.0 + (0.0 if likely else 1.0) + 0.3 * (stride > 1) + 0.2 * (padding > 1) + 1.5 * rare
        for bias, flipped in itertools.product(biases, (False, True)):
            if not (flipped and high * wide == 1):
                extra = 0.8 * flipped + (0.0 if bias else 1.2)
                found.append((cost + extra, len(found), Geometry(steps, pads, flipped), bias))
    found.sort(key=lambda one: one[:2])
    forms = (
        Candidate(Convolution(name, bias, layout, form, geometry), cost) for cost, _, geometry, bias in found
    )
    first = next(forms, None)
    if first is not None:
        yield replace(first, others=forms)


def _normalisations(values: Values, h: Array, unused: tuple[str, ...]) -> Iterator[Candidate]:
    if h.ndim < 2:
        return
    last, rest = h.ndim - 1, tuple(range(h.ndim - 1))
    forms = [(rest, rest, h.shape[-1]), ((last,), rest, h.shape[-1])]
    if h.ndim == 4:
        forms = [((0, 2, 3), (0, 2, 3), h.shape[1]), *forms, ((1, 2, 3), (0, 2, 3), h.shape[1])]
    if h.ndim == 3:
        forms += [((0, 2), (0, 2), h.shape[1])]
    if h.ndim == 2:
        forms += [((1,), (1,), h.shape[0]), ((0,), (1,), h.shape[0])]
    for axes, shared, size in forms:
        count = int(np.prod([h.shape[axis] for axis in axes]))
        if count < 2:
            continue
        fitting = [name for name in unused if values[name].size == size == max(values[name].shape, default=0)]
        pairs = [(a, b) for a in fitting for b in fitting if a != b]
        pairs += [(a, "") for a in fitting] + [("", "")]
        for gamma, beta in pairs:
            forms_of_one = _spreads(gamma, beta, axes, shared)
            yield replace(next(forms_of_one), others=forms_of_one)


def _spreads(gamma: str, beta: str, axes: tuple[int, ...], shared: tuple[int, ...]) -> Iterator[Candidate]:
    base = 1.5 if beta else 3.0
    forms = (
        Candidate(Normalisation(gamma, beta, axes, shared, spread), base + extra)
        for extra, spread in _SPREADS
    )
    yield from forms


def _recurrent(values: Values, h: Array, unused: tuple[str, ...]) -> Iterator[Candidate]:
    matrices = [name for name in unused if values[name].ndim == 2]
    for carried in matrices:
        hidden = values[carried].shape[0]
        if values[carried].shape[1] != hidden:
            continue
        for inward in matrices:
            if inward == carried or sorted(values[inward].shape) != sorted((h.shape[-1], hidden)):
                continue
            biases: list[tuple[str, ...]] = [
                (name,) for name in unused if values[name].size == hidden and name not in {inward, carried}
            ]
            pairs = [(a[0], b[0]) for a in biases for b in biases if a[0] < b[0]]
            for turned in (False, True):
                if values[inward].shape[1 if turned else 0] != h.shape[-1]:
                    continue
                for turned_carry in (turned, not turned):
                    for bias in (*biases, *pairs, ()):
                        weights = Weights(inward, carried, bias, turned, turned_carry)
                        cost = (
                            0.7
                            + (0.5 if turned_carry is not turned else 0.0)
                            + (0.0 if len(bias) == 1 else 1.0)
                        )
                        yield from _unrolled(weights, h, cost)


def _unrolled(weights: Weights, h: Array, cost: float) -> Iterator[Candidate]:
    for time in (0, 1) if h.ndim == 3 else (0,):
        for number, f in enumerate((ACTIVATIONS[1], ACTIVATIONS[0], ACTIVATIONS[2])):
            for last in (False, True):
                yield Candidate(Recurrent(weights, f, time, last=last), cost + 0.2 * number + 0.1 * time)


def _learned(values: Values, h: Array, unused: tuple[str, ...]) -> Iterator[Candidate]:
    """Leaky ReLUs whose slope is a parameter, one for all or one a channel."""
    for name in unused:
        size = values[name].size
        for axis in range(1, h.ndim):
            if size == 1 or (size == h.shape[axis] and max(values[name].shape, default=0) == size):
                yield Candidate(PRelu(name, axis), 1.8)
            if size == 1:
                break


def _shapes(last: Operation | None, h: Array, unused: tuple[str, ...], known: Known) -> Iterator[Candidate]:
    if isinstance(last, Reshape):
        return
    shapes = {array.shape for array in known.of_size(h.size) if known.same(h.reshape(array.shape), array)}
    if known.y.size == h.size and not unused:
        shapes.add(known.y.shape)
    flat: set[tuple[int, ...]] = (
        {(h.shape[0], h.size // h.shape[0]), (h.size,)} if h.ndim > 2 else {(h.size,)}
    )
    for shape in (shapes | flat) - {h.shape}:
        yield Candidate(Reshape(shape), 0.3 if shape in shapes or len(shape) == 2 else 0.6)
    for shape in flat:
        if h.ndim == 4:
            yield Candidate(Reshape(shape, (0, 2, 3, 1)), 1.5)
            yield Candidate(Reshape(shape, (0, 3, 1, 2)), 1.5)
    if h.ndim == 2:
        yield Candidate(Reshape((h.shape[1], h.shape[0]), (1, 0)), 1.5)
    if h.ndim == 3:
        yield Candidate(Reshape((h.shape[1], h.shape[0], h.shape[2]), (1, 0, 2)), 1.5)
    means: list[tuple[int, ...]] = {4: [(2, 3), (1, 2)], 3: [(0,), (1,), (2,)], 2: [(0,), (1,)]}.get(
        h.ndim, []
    )
    for axes in means:
        yield Candidate(Mean(axes), 2.0)
        yield Candidate(Mean(axes, total=True), 2.5)
    if h.size > 1 and known.y.size == 1:
        everything = tuple(range(h.ndim))
        yield Candidate(Mean(everything), 2.0)
        yield Candidate(Mean(everything, total=True), 2.0)


def _masks(h: Array, known: Known) -> Iterator[Candidate]:
    """Arrays of zeros and one other number: dropout's masks."""
    for array in (*known.of_size(h.size), *(a for a in known.around if a.size == h.size)):
        mask = array.astype(np.float64).reshape(h.shape)
        if float(mask.min()) != 0.0 or float(mask.max()) <= 0.0:
            continue
        if np.unique(mask).size != 2 or np.array_equal(mask != 0, h > 0):
            continue
        yield Candidate(Dropout(mask), 1.0)
        if float(mask.max()) == 1.0:
            for keep in (0.5, 0.8, 0.9, 0.7, 0.75, 0.6, 0.4, 0.3, 0.2, 0.25, 0.95, 0.85, 0.65):
                yield Candidate(Dropout(mask / keep), 1.2)


def _poolings(h: Array, last: Operation | None) -> Iterator[Candidate]:
    if isinstance(last, Pooling):
        return
    for layout in layouts(h.ndim):
        if "H" not in layout.letters and "C" not in layout.letters:
            continue
        flat = "H" not in layout.letters
        x = layout.inward(h)
        for size in (2, 3, 4):
            for stride in sorted({size, 2, 1, 3}, key=lambda s, size=size: s != size):
                if x.shape[3] < size or (not flat and x.shape[2] < size):
                    continue
                cost = 1.2 + 0.3 * (size > 2) + 0.6 * (stride != size) + (1.5 if h.ndim < 3 else 0.0)
                window, steps = ((1, size), (1, stride)) if flat else ((size, size), (stride, stride))
                yield Candidate(Pooling(layout, window, steps, largest=True), cost)
                yield Candidate(Pooling(layout, window, steps, largest=False), cost + 0.2)


def losses(h: Array, known: Known) -> Iterator[Operation]:
    """Losses of h that give y.

    Args:
        h: predictions.
        known: y is one number; targets are looked for among all arrays around.
    """
    y = float(known.y.reshape(-1)[0])
    tolerance = max(10 * known.tolerance, 2e-7) * max(abs(y), 1e-9)

    def fits(operation: Operation) -> bool:
        with np.errstate(all="ignore"):
            made = float(operation.forward({}, h))
        return bool(np.isfinite(made)) and abs(made - y) <= tolerance

    for target in _targets(h, known):
        found = [*_of_target(h, target, y)]
        for operation in found:
            if fits(operation):
                yield _Shaped(operation, known.y.shape)


def _targets(h: Array, known: Known) -> Iterator[Array]:
    arrays = [*known.around, *known.of_size(h.size), *known.of_size(h.shape[0])]
    if h.ndim == 2:
        arrays += known.of_size(h.shape[1])
    yield np.zeros_like(h)
    for array in arrays:
        if array.size == h.size:
            yield array.astype(np.float64).reshape(h.shape)
        whole = array.dtype.kind in "iu" or bool(np.equal(np.mod(array, 1), 0).all()) if array.size else False
        if h.ndim == 2 and array.ndim <= 2 and whole:
            labels = array.reshape(-1).astype(np.int64)
            for axis in (1, 0):
                if labels.size == h.shape[1 - axis] and labels.min() >= 0 and labels.max() < h.shape[axis]:
                    onehot = np.eye(h.shape[axis])[labels]
                    yield onehot if axis == 1 else onehot.T


def _of_target(  # noqa: C901  (a list of losses)
    h: Array, target: Array, y: float
) -> Iterator[Operation]:
    samples = {h.shape[0], h.shape[-1]}
    factors = {1.0, 0.5, 1 / h.size, 0.5 / h.size, *(1 / n for n in samples), *(0.5 / n for n in samples)}
    total = float(((h - target) ** 2).sum())
    if total > 0:
        factor = min(factors, key=lambda c: abs(c * total - y))
        yield SquaredError(target, factor)
    for name, f in DIFFERENCES.items():
        total = float(f(h - target)[0].sum())
        if total > 0:
            yield ByElement(name, target, min(factors, key=lambda c: abs(c * total - y)))
    if not target.any():
        return
    for factor in (1 / h.shape[0], 1.0, 1 / h.shape[-1], 1 / h.size):
        if h.ndim == 2:
            for axis in (1, 0):
                for given in ("scores", "probabilities", "logs"):
                    yield CrossEntropy(target, factor, axis, given)
            if bool((target.sum(axis=1) == 1).all()):
                yield Hinge(target, factor)
                yield from (Focal(target, factor, power) for power in (1.0, 2.0))
        elif h.ndim == 1:
            for given in ("scores", "probabilities", "logs"):
                yield CrossEntropy(target, 1.0, 0, given)
        yield BinaryCrossEntropy(target, factor, scores=False)
        yield BinaryCrossEntropy(target, factor, scores=True)


class _Shaped(Operation):
    """A loss whose one number has the shape that the user gives it."""

    def __init__(self, loss: Operation, shape: tuple[int, ...]) -> None:
        self._loss, self._shape, self.word = loss, shape, loss.word

    def forward(self, values: Values, h: Array) -> Array:
        return self._loss.forward(values, h).reshape(self._shape)

    def backward(
        self, values: Values, h: Array, y: Array, dy: Array, slip: str = ""
    ) -> tuple[Array, dict[str, Array]]:
        return self._loss.backward(values, h, y, dy, slip)

    def slips(self, values: Values, h: Array) -> list:  # type: ignore[type-arg]
        return self._loss.slips(values, h)
