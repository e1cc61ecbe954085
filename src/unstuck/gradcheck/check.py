"""`unstuck.check_gradients`: is a backward pass right, and if not, what is the mistake?"""

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck import fallback, state
from unstuck.gradcheck.compare import Comparison
from unstuck.gradcheck.differences import Differences
from unstuck.gradcheck.known.chain import Chain
from unstuck.gradcheck.known.elementwise import Elementwise
from unstuck.gradcheck.known.search import SECONDS, Evidence, recognise
from unstuck.gradcheck.mistakes import KINDS, Mistake
from unstuck.gradcheck.naming import Explained, Namer
from unstuck.gradcheck.order import depths
from unstuck.gradcheck.point import Point, is_mask, numbers, silent
from unstuck.gradcheck.probes import Probes
from unstuck.gradcheck.report import Report, Row
from unstuck.gradcheck.subject import Backward, Forward, Subject, Values
from unstuck.gradcheck.tape.excerpts import excerpt
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.writing import written, written_back
from unstuck.gradcheck.tracing import Tracing
from unstuck.gradcheck.tree import Array, opened, stacks

SECONDS_IF_WRITTEN = 2.0
"""How long operations are looked for where the forward pass is known step by step anyway."""


def check_gradients(
    forward: Forward, backward: Backward, params: Any, x: Any, *, seed: int = 0, name: str = ""
) -> Report:
    """Compare a backward pass with central differences, and name the mistake in it.

    The derivative by an entry t is (L(t + h) - L(t - h)) / 2h with L = sum(dy * y), in float64, with h chosen
    for the noise of the function; entries on a kink are told from wrong ones.

    Args:
        forward: forward(params, x) -> (y, cache). y: an array of floats or one number.
        backward: backward(params, cache, dy) -> (dx, {name: gradient}). dy has y's shape; for one number
            it is 1.
        params: name to array; containers of arrays are fine too.
        x: the input, batch first or as you like.
        seed: of dy and of everything drawn here.
        name: what the report is called.

    Returns:
        A report: `.ok`, `.mistakes` of (tensor, kind, explanation), `str(report)` and `.to_dict()`.

    Raises:
        UnstuckError: forward fails, is not deterministic, changes its inputs, or returns what has none.

    Example:
        >>> def forward(params, x):
        ...     return x @ params["W"], x
        >>> def backward(params, cache, dy):
        ...     return dy @ params["W"].T, {"W": -cache.T @ dy}
        >>> rng = np.random.default_rng(0)
        >>> params, x = {"W": rng.normal(size=(3, 2))}, rng.normal(size=(4, 3))
        >>> report = check_gradients(forward, backward, params, x)
        >>> report.ok, report.mistakes[0].tensor, report.mistakes[0].kind
        (False, 'W', 'sign-flipped')
    """
    return _Check(Subject(forward, backward, params, x), seed, name).run()


@dataclass
class _Check:
    subject: Subject
    seed: int
    name: str
    mistakes: list[Mistake] = field(default_factory=list[Mistake])
    notes: list[str] = field(default_factory=list[str])
    consequences: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    recognised: list[str] = field(default_factory=list[str])

    def run(self) -> Report:
        """Check everything."""
        self.rng = np.random.default_rng(self.seed)
        values = self.subject.values
        y = self._deterministic(values)
        self.dy = np.ones(y.shape) if y.size == 1 else self.rng.normal(size=y.shape)
        names = set(self.subject.gradients(values, self.dy))
        other = self._elsewhere(values, names)
        look = state.look(self.subject, values, other or values, self.dy)
        self._shaken(names, look)
        self.mistakes += look.mistakes
        self.notes += look.notes
        self._adding = look.adding
        points = [self._point(values)]
        if other is not None and not any(c.status == "noisy" for c in points[0].comparison.tensors.values()):
            try:
                points.append(self._point(other))
            except UnstuckError as error:
                self.notes.append(f"checked at the given point only: near it, {error}")
        self._redraw(names, points)
        self._missing(names, points[-1].values)
        chosen = next((point for point in reversed(points) if point.wrong), points[0])
        wrong = [name for name in chosen.wrong if name not in look.spoils]
        if wrong:
            self._explain(chosen)
        elif chosen.wrong and self.mistakes:
            self.consequences[self.mistakes[0].tensor] = [
                name for name in chosen.wrong if name != self.mistakes[0].tensor
            ]
        return self._report(points, chosen)

    def _redraw(self, names: set[str], points: list[Point]) -> None:
        """Where a gradient is zero at all points (dead units), weights are drawn anew."""
        quiet = silent(points)
        for _ in range(4):
            if not quiet or any(point.wrong for point in points):
                break
            drawn = dict(self.subject.values)
            for name, value in drawn.items():
                if name in names and name not in self.subject.inputs:
                    size = max(float(np.sqrt((value**2).mean())), 0.3) if value.size else 0.0
                    drawn[name] = size * self.rng.normal(size=value.shape)
            try:
                point = self._point(drawn)
            except UnstuckError:
                continue
            if point.wrong or len(silent([*points, point])) < len(quiet):
                points.append(point)
                quiet = silent(points)
        if quiet and not any(point.wrong for point in points):
            self.notes.append(
                f"the gradient of {', '.join(quiet)} is zero at all points tried: a mistake would not show"
            )

    def _deterministic(self, values: Values) -> Array:
        y = self.subject.output(values)
        for changed in sorted(self.subject.changed_by_forward):
            what = changed if changed in self.subject.inputs else f"params[{changed!r}]"
            if changed in self.subject.inputs or changed in self._with_gradient(values, y):
                raise UnstuckError(
                    f"forward changes its input {what} in place; expected it to leave it as it is"
                )
            self.notes.append(f"forward changes {what}: taken for running statistics, not for a parameter")
        again = self.subject.output(values)
        if again.shape != y.shape or not np.array_equal(again, y):
            raise UnstuckError(
                "forward is not deterministic: two calls with the same params and x give different y"
                " (draw from numpy.random or a generator that forward sees, or fix its seed)"
            )
        if y.size == 0:
            raise UnstuckError(f"forward's y: found shape {y.shape} without any numbers")
        return y

    def _with_gradient(self, values: Values, y: Array) -> set[str]:
        return set(self.subject.gradients(values, np.ones(y.shape)))

    def _elsewhere(self, values: Values, names: set[str]) -> Values | None:
        """A point nearby where nothing is zero or one by chance; None where forward does not work there."""
        moved = dict(values)
        for name, value in values.items():
            if name not in names or value.size == 0:
                continue
            size = float(np.sqrt((value**2).mean()))
            if size == 0 or (value.size > 1 and float(np.ptp(value)) == 0) or name not in self.subject.inputs:
                spread = 0.3 * size if size > 0 else 0.3
                moved[name] = value + spread * self.rng.uniform(-1, 1, value.shape)
            else:
                moved[name] = value * (1 + 0.2 * self.rng.uniform(-1, 1, value.shape))
        try:
            self.subject.output(moved)
        except UnstuckError:
            return None
        return moved

    def _shaken(self, names: set[str], look: state.State) -> None:
        """A gradient that changes with the random numbers of backward alone has drawn its own."""
        if look.mistakes:
            return
        values = self.subject.values
        _, cache, params = self.subject.forward_with(values)
        before = self.subject.backward(values, cache, self.dy, params).gradients
        _, cache, params = self.subject.forward_with(values)
        self.subject.shaken()
        after = self.subject.backward(values, cache, self.dy, params).gradients
        self.subject.shaken(-1)
        drawn = [
            n
            for n in before
            if n in names
            and n in after
            and not np.allclose(numbers(before[n]), numbers(after[n]), equal_nan=True)
        ]
        if drawn:
            order = depths(self.subject, values, list(before))
            first = max(drawn, key=lambda name: (order[name], np.ndim(before[name])))
            text = "backward draws random numbers of its own: it does not use the mask of its forward pass"
            look.mistakes.append(Mistake(first, "dropout-mask-not-reused", text))
            rest = [n for n in drawn if n != first]
            if rest:
                self.consequences[first] = rest
            look.spoils |= set(self.subject.values)

    def _point(self, values: Values) -> Point:
        gradients = self._gradients(values)
        given: dict[str, Array] = {}
        shapes: dict[str, Array] = {}
        single = False
        for name, value in gradients.items():
            array = np.asarray(value)
            single = single or array.dtype in {np.dtype(np.float32), np.dtype(np.float16)}
            if not self._usable(name, array):
                continue
            given[name] = array.astype(np.float64)
            if array.shape != values[name].shape:
                if array.size == values[name].size == 1:
                    given[name] = given[name].reshape(values[name].shape)
                else:
                    shapes[name] = given[name]
        differences = Differences(self.subject, values, self.dy, self.seed)
        proper = {name: array for name, array in given.items() if name not in shapes}
        return Point(values, Comparison(differences, proper, self.rng, single), given, shapes)

    def _gradients(self, values: Values) -> dict[str, Any]:
        gradients = self.subject.gradients(values, self.dy)
        if self._adding:
            again = self.subject.gradients(values, self.dy)
            for name in self._adding:
                gradients[name] = np.asarray(again[name]) - np.asarray(gradients[name])
        return gradients

    def _usable(self, name: str, array: Array) -> bool:
        def say(kind: str, text: str) -> None:
            if not any(mistake.tensor == name and mistake.kind == kind for mistake in self.mistakes):
                self.mistakes.append(Mistake(name, kind, text))

        if array.dtype.kind in "iub":
            say("integer-gradient", f"the gradient of {name} has the type {array.dtype}, expected floats")
            return False
        if array.dtype.kind != "f":
            say("wrong-shape", f"the gradient of {name} is no array of numbers (found {array.dtype})")
            return False
        if not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            say("not-finite", f"{bad} of {array.size} entries of the gradient of {name} are NaN or infinite")
            return False
        return True

    def _missing(self, names: set[str], values: Values) -> None:
        """Parameters without a gradient, although the output depends on them."""
        differences: Differences | None = None
        for name, value in self.subject.parameters.items():
            if name in names or value.size == 0 or value.ndim == 0 or is_mask(name, value):
                continue
            if name in self.subject.changed_by_forward:
                continue
            differences = differences or Differences(self.subject, values, self.dy, self.seed)
            try:
                slope = differences.direction(name, self.rng.choice([-1.0, 1.0], value.shape))
            except UnstuckError:
                continue
            if max(abs(slope.low), abs(slope.high)) > 1e-6 + 20 * slope.error:
                text = f"backward returns no gradient for {name}, on which the output depends"
                self.mistakes.append(Mistake(name, "missing-gradient", text))

    def _sizes(self, values: Values, y: Array) -> dict[str, int]:
        """What a constant factor may be."""
        sizes: dict[str, int] = {}
        for name in self.subject.inputs:
            shape = values[name].shape
            if shape:
                sizes["the batch size"] = shape[0]
            for axis in range(1, len(shape)):
                sizes[f"the input's axis {axis}"] = shape[axis]
            if len(shape) == 4:
                sizes["the number of positions"] = shape[2] * shape[3]
                sizes["batch size times positions"] = shape[0] * shape[2] * shape[3]
        for axis, size in enumerate(y.shape):
            sizes.setdefault(f"the output's axis {axis}", size)
        if y.ndim:
            sizes["the number of outputs"] = y.size
        return sizes

    def _explain(self, point: Point) -> None:
        y, cache = self.subject.forward(point.values)
        sizes = self._sizes(point.values, y)
        given = {name: array for name, array in point.given.items() if not self._is_hidden(point, name)}
        if self._ignores(point):
            return
        arithmetic = written(self.subject, point.values)
        seconds = SECONDS if arithmetic is None else SECONDS_IF_WRITTEN
        if arithmetic is not None and not Graph(arithmetic).is_chain(set(self.subject.inputs)):
            seconds = 0.0
        chain = self._chain(point, y, cache, seconds) if seconds else None
        made: Explained | None = None
        if chain is not None:
            made = Namer(chain, self.dy, given, sizes, point.comparison.single).run()
            for other in _exchanged(chain) if made.unknown else ():
                again = Namer(other, self.dy, given, sizes, point.comparison.single).run()
                if not again.unknown:
                    made, chain = again, other
            self.recognised = [operation.word for operation in chain.operations]
        followed: Explained | None = None
        if arithmetic is not None and (made is None or made.unknown):
            followed, found = Tracing(self.subject, self.dy, point, given, sizes).run(arithmetic)
            if found is not None and (made is None or not found.unknown):
                made = found
        if made is not None:
            self._take(made, point)
            return
        order = depths(self.subject, point.values, list(point.given))
        tensors = point.comparison.tensors
        probes = Probes(
            self.subject, point.values, self.dy, tensors, order, self.rng, followed=followed is not None
        )
        self._take(fallback.explain_all(tensors, point.shapes, order, sizes, probes), point)

    def _ignores(self, point: Point) -> bool:
        """Whether the gradients are the same whatever dy is: then nothing else can be said of them."""
        if self.dy.size == 1 or not any(point.given[name].any() for name in point.wrong):
            return False
        other = self.subject.gradients(point.values, 2 * self.dy + 1)
        if not all(np.array_equal(numbers(other[name]), point.given[name]) for name in point.wrong):
            return False
        first, *rest = sorted(point.wrong, key=lambda name: name in self.subject.inputs)
        text = f"the gradient of {first} is the same whatever dy is: dy is not used"
        self.mistakes.append(Mistake(first, "upstream-ignored", text))
        self.consequences[first] = rest
        return True

    def _is_hidden(self, point: Point, name: str) -> bool:
        compared = point.comparison.tensors.get(name)
        return compared is not None and compared.status == "noisy"

    def _excerpts(self, made: Explained, point: Point) -> None:
        """Gradients that are zero, or like no known mistake, may be parts of what is to be added up."""
        zero = {mistake.tensor for mistake in made.mistakes if mistake.kind == "missing-gradient"}
        tensors = {
            name: compared
            for name, compared in point.comparison.tensors.items()
            if name in zero | set(made.unknown) and compared.whole
        }
        back = written_back(self.subject, point.values, self.dy) if tensors else None
        for name, compared in tensors.items():
            named = excerpt(back, name, compared.full) if back is not None else None
            if named is not None:
                made.mistakes = [mistake for mistake in made.mistakes if mistake.tensor != name]
                made.mistakes.append(Mistake(name, *named))
                made.unknown = [other for other in made.unknown if other != name]

    def _take(self, made: Explained, point: Point) -> None:
        self._excerpts(made, point)
        wrong = set(point.wrong)
        self.mistakes += [mistake for mistake in made.mistakes if mistake.kind in KINDS]
        self.consequences.update(made.consequences)
        for name in made.unknown:
            if name in wrong and name in point.comparison.tensors:
                self.mistakes.append(fallback.unknown(point.comparison.tensors[name]))
        told = {mistake.tensor for mistake in self.mistakes}
        told |= {effect for effects in self.consequences.values() for effect in effects}
        for name in point.wrong:
            if name not in told:
                compared = point.comparison.tensors.get(name)
                if compared is None:
                    shape = point.shapes[name].shape
                    text = f"the gradient of {name} has shape {shape}, expected {point.values[name].shape}"
                    self.mistakes.append(Mistake(name, "wrong-shape", text))
                elif compared.ties:
                    text = f"where entries of {name} are equally large, each gets the full gradient"
                    self.mistakes.append(Mistake(name, "pooling-ties", text))
                else:
                    self.mistakes.append(fallback.unknown(compared))

    def _chain(self, point: Point, y: Array, cache: Any, seconds: float) -> Chain | None:
        """The network as operations that are known, if it is made of such."""
        if len(self.subject.inputs) != 1:
            return None
        x = next(iter(self.subject.inputs))
        coarse = point.comparison.differences.coarse
        arrays = stacks(opened(cache))
        evidence = Evidence(y, arrays, self.subject.arrays_around(), 1e-5 if coarse else 1e-9)
        unneeded = {name for name in self.subject.parameters if name not in point.given}
        operations = recognise(point.values, x, evidence, unneeded, seconds)
        if operations is None:
            return None
        chain = Chain(operations, point.values, x)
        return chain if self._agrees(chain, point) else None

    def _agrees(self, chain: Chain, point: Point) -> bool:
        """Whether the recognised network has the gradients that were measured."""
        return point.measured(chain.backward(self.dy, {}).gradients)

    def _report(self, points: list[Point], chosen: Point) -> Report:
        rows: list[Row] = []
        told = {mistake.tensor for mistake in self.mistakes}
        effects = {effect for found in self.consequences.values() for effect in found}
        undecided: list[str] = []
        for name, value in self.subject.values.items():
            compared = chosen.comparison.tensors.get(name)
            if compared is None:
                status = "wrong" if name in told else "not checked"
                rows.append(Row(name, value.shape, status, 0, None))
                continue
            status = compared.status
            if status == "right" and any(
                name in point.comparison.tensors and point.comparison.tensors[name].status == "wrong"
                for point in points
            ):
                status = "wrong"
            if status == "noisy":
                undecided.append(name)
            elif status == "right" and compared.noisy:
                self.notes.append(
                    f"{name}: {compared.noisy} of {compared.index.size} entries were too noisy to judge"
                )
            if status == "wrong" and name in effects and name not in told:
                status = "consequence"
            given = compared.given.reshape(-1)[compared.index]
            size = float(np.sqrt((compared.right**2).mean()))
            gap = float(np.abs(given - compared.right).max(initial=0.0))
            rows.append(Row(name, value.shape, status, compared.index.size, gap / size if size > 0 else None))
        if points[0].comparison.differences.coarse and not undecided:
            self.notes.append(
                "forward computes in single precision or is noisy: small deviations cannot be seen"
            )
        return Report(
            self.name, self.mistakes, rows, self.consequences, undecided, self.notes, self.recognised
        )


def _exchanged(chain: Chain) -> list[Chain]:
    """The same network with an activation before max pooling instead of after it, or the reverse.

    Rising functions may be exchanged with a maximum: outputs do not tell which came first, slips do.
    """
    found: list[Chain] = []
    for number, pair in enumerate(itertools.pairwise(chain.operations)):
        if {operation.word == "max pooling" for operation in pair} == {True, False} and any(
            isinstance(operation, Elementwise) for operation in pair
        ):
            operations = list(chain.operations)
            operations[number : number + 2] = reversed(pair)
            other = Chain(operations, chain.values, chain.x)
            if np.allclose(other.y, chain.y):
                found.append(other)
    return found
