"""Names what a user's backward pass makes in place of the first array that is wrong."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from unstuck.gradcheck.arrangement import ratio
from unstuck.gradcheck.known.functions import derivative_slips
from unstuck.gradcheck.local import Expected, Named, factor_named
from unstuck.gradcheck.tape.cuts import Cut, Target, differ
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.held import held
from unstuck.gradcheck.tape.masks import named_mask
from unstuck.gradcheck.tape.other_targets import other_targets
from unstuck.gradcheck.tape.record import Edge, Record
from unstuck.gradcheck.tape.rules import ONE, PARTIALS, is_of_sign
from unstuck.gradcheck.tape.writing import WrittenBack
from unstuck.gradcheck.tree import Array

CLOSE = 1e-6
LONGEST = 6
MOST = 200
"""Steps of the backward pass that are looked at before one."""
FEWEST = 4
"""Of fewer numbers one may be like another by chance."""
LINEAR = {"negative", "positive"}
CONSTANT = 3
"""With more values it is no mask."""


class CutNamer:
    """What a cut is called."""

    def __init__(self, graph: Graph, back: WrittenBack, signals: list[Array], sizes: dict[str, int]) -> None:
        self.graph, self.signals, self.sizes = graph, signals, sizes
        self.steps = back.tape.records[back.first :]
        self.starts = np.array([record.first for record in self.steps])
        self.softmaxes = [site for site in graph.sites.values() if graph.softmax(site) is not None]

    def _maker(self, edge: Edge) -> Record | None:
        """The step of the backward pass that made an operand, or part of it."""
        at = int(np.searchsorted(self.starts, int(edge.ids.max(initial=0)), side="right")) - 1
        return self.steps[at] if at >= 0 else None

    def name(self, cuts: list[Cut]) -> tuple[Named, Cut] | None:
        """Kind and text for the first wrong array, seen as several things that it may be meant to be."""
        # in a loop over time what is wrong spoils all turns but the one that is gone through first, if any
        first = [_first_turn(cut) for cut in cuts if len(cut.values) > 1]
        first = [cut for cut in first if differ(cut.values, cut.right)]
        questions = (
            self._times,
            self._moved,
            self._picked,
            self._function,
            self._operand,
            self._way,
            self._alone,
            self._slope,
            self._signed,
        )
        whole = [cut for cut in cuts if not cut.target.partial]
        for question, several in itertools.product(questions, (whole, first)):
            for cut in several:
                if sum(value.size for value in cut.values) < FEWEST:
                    continue
                named = _asked(question, cut)
                if named is not None:
                    return (named[0], named[1] + self._line(cut)), cut
        return None

    def _line(self, cut: Cut) -> str:
        return self.graph.said(cut.target.records[0].place)

    def line_back(self, cut: Cut) -> str:
        """The user's line in the backward pass."""
        return self.graph.told(*cut.made[0].place.line)

    def _times(self, cut: Cut) -> Named | None:
        """The right array times a number."""
        made, right = _flat(cut.values), _flat(cut.right)
        c = ratio(made, right, CLOSE)
        if c is None:
            return None
        expected = Expected("", (), np.zeros(0, dtype=np.int64), np.zeros(0), self.sizes)
        kind, text = factor_named(c, expected)
        if kind == "sign-flipped":
            return kind, "what is passed on here has the wrong sign"
        return kind, "what is passed on here " + text.removeprefix("the gradient of  ")

    def _picked(self, cut: Cut) -> Named | None:
        """Another target than that of the forward pass."""
        return other_targets(cut.values, cut.right)

    def _base(self, cut: Cut) -> list[Array] | None:
        """The gradient by the result, where the user's array is made of it entry by entry.

        Where what is wrong is one of several steps that the user takes at once, it is that of a later step.
        """
        if cut.target.edge < 0 and cut.target.units is None:
            return None
        if not self._entrywise(cut):
            return None
        signals = [cut.scale * self.signals[record.number] for record in cut.target.records]
        if signals[0].shape != cut.values[0].shape:
            if len(cut.values) > 1 and len(signals) == len(cut.values):
                return None
            turned = list(_orders(signals[0], cut.values[0].shape))
            return [turned[0]] if len(signals) == 1 and turned else None
        return signals

    def _entrywise(self, cut: Cut) -> bool:
        """Whether the user's array is made entry by entry of the right gradient of what follows."""
        last = max(range(len(cut.made)), key=lambda turn: cut.made[turn].number)
        wanted = [cut.scale * value for value in self._following(cut.target.records[last])]
        waiting, seen = [cut.made[last]], {cut.made[last].number}
        size = cut.made[last].value.size
        if any(_alike(cut.values[last], value) for value in wanted):
            return True  # passed on as it is
        while waiting and len(seen) < MOST:
            step = waiting.pop(0)
            if step.name not in PARTIALS and step.name != "where":
                continue
            for edge in step.edges:
                maker = self._maker(edge)
                if any(_alike(edge.value, value) for value in wanted):
                    return True
                if maker is not None and maker.number not in seen and edge.value.size == size:
                    seen.add(maker.number)
                    waiting.append(maker)
        return False

    def _following(self, record: Record) -> list[Array]:
        """Right gradients by what is made of the target, step by step, as long as there is one way."""
        found: list[Array] = []
        step: Record | None = record
        for _ in range(LONGEST):
            if step is None:
                break
            found.append(self.signals[step.number])
            users = self.graph.users[step.number]
            step = self.graph.records[next(iter(users))] if len(users) == 1 else None
            if step is not None and step.name not in PARTIALS and step.name not in {"sum", "where"}:
                break
        return [value for value in found if value.any()]

    def _function(self, cut: Cut) -> Named | None:
        """A function of several steps, with a wrong derivative that is known."""
        if self._is_softmaxed(cut):
            return "activation-derivative-missing", "the derivative of the softmax is missing"
        base = self._base(cut) if cut.target.units is not None else None
        if base is None or cut.target.units is None:
            return None
        made, signal = _flat(cut.values), _flat(base)
        if _near(made, signal):
            return "activation-derivative-missing", "the derivative of the function here is missing"
        found = self.graph.activation(cut.target.records)
        if found is None or len(found[1]) != len(cut.values) or found[1][0].z.shape != cut.values[0].shape:
            return None
        f, units = found
        z, a = _flat([u.z for u in units]), _flat([u.record.value for u in units])
        for kind, text, factor in derivative_slips(f, z, a).values():
            if _near(made, signal * factor):
                return kind, text
        return None

    def _is_softmaxed(self, cut: Cut) -> bool:
        """Whether the gradient by a softmax is passed on as it is to what the softmax is of."""
        made, last = _flat(cut.values), max(record.number for record in cut.target.records)
        for site in self.softmaxes:
            if len(site) == len(cut.values) and site[-1].number > last:
                signals = cut.scale * _flat([self.signals[record.number] for record in site])
                if _alike(made, signals):
                    return True
        return False

    def _operand(self, cut: Cut) -> Named | None:  # noqa: PLR0911  (a list of what may be forgotten)
        """One factor of a product that is missing, or another one."""
        if cut.target.edge < 0:
            return None
        first = cut.target.records[0]
        if first.name == "product":
            return self._multiplied(cut)
        base = self._base(cut)
        if base is None:
            return None
        made, signal = _flat(cut.values), _flat(base)
        if first.name in {"multiply", "divide"}:
            if _near(made, signal):
                return self._forgotten(cut)
            dropped = self._dropped(cut, made, signal)
            if dropped is not None:
                return dropped
            for what, values in self._arrays(len(cut.values), cut.values[0].shape):
                if _near(made, signal * _flat(values)):
                    return "input-mistaken", f"a product's gradient uses {what} in place of its other factor"
        if first.name in ONE and _near(made, signal):
            return "activation-derivative-missing", f"the derivative of {first.name} is missing"
        return None

    def _multiplied(self, cut: Cut) -> Named | None:
        """A product of matrices with another factor, or with its own one turned."""
        records, at = cut.target.records, cut.target.edge
        if len(records) != len(cut.values) or any(
            len(record.edges) != len(records[0].edges) for record in records
        ):
            return None
        made = _flat(cut.values)
        signals = [cut.scale * self.signals[record.number] for record in records]
        edges = [record.edges[at] for record in records]
        own = [edge.other for edge in edges if edge.other is not None]
        shape = own[0].shape if own else None
        if shape is None or len(own) < len(edges) or any(other.shape != shape for other in own):
            return None

        def pulled(dys: list[Array], values: list[Array]) -> Array:
            return _flat([e.pull(dy, v) for e, dy, v in zip(edges, dys, values, strict=True)])

        if (
            len(shape) > 1
            and shape[-1] == shape[-2]
            and _alike(pulled(signals, [o.swapaxes(-1, -2) for o in own]), made)
        ):
            return "transposed", "the other factor of a matrix product is transposed"
        square = signals[0].ndim > 1 and signals[0].shape[-1] == signals[0].shape[-2]
        if square and _alike(pulled([dy.swapaxes(-1, -2) for dy in signals], own), made):
            return "transposed", "the gradient of a matrix product is transposed for one of its factors"
        for what, values in self._arrays(len(own), shape):
            if not _near(_flat(values), _flat(own)) and _alike(pulled(signals, values), made):
                return "input-mistaken", f"a product's gradient uses {what} in place of its other factor"
        return None

    def _forgotten(self, cut: Cut) -> Named:
        record = cut.target.records[0]
        edge = record.edges[cut.target.edge]
        others = [other for other in record.edges if other is not edge]
        if not others:
            mask = edge.pull(np.ones(record.value.shape), None)
            if mask.shape == edge.value.shape and is_of_sign(mask, edge.value):
                return "activation-derivative-missing", "the mask that a ReLU is made with is not used"
            constant = np.unique(mask)
            if constant.size <= CONSTANT and 0 in constant:
                return named_mask(self.graph, record, "used")
        owner = self.graph.tape.owner(others[0].ids) if others else ""
        if owner and others[0].value.size < record.value.size:
            return "scale-forgotten", f"{owner} is missing in what is passed on"
        return "operand-forgotten", "a product passes its gradient on without its other factor"

    def _dropped(self, cut: Cut, made: Array, signal: Array) -> Named | None:
        """A mask of zeros and one other value, which is left out, scaled otherwise, or another one."""
        record = cut.target.records[0]
        edge = record.edges[cut.target.edge]
        if len(record.edges) > 1 or edge.value.shape != record.value.shape:
            return None
        mask = edge.pull(np.ones(record.value.shape), None)
        values = np.unique(mask)
        if values.size != 2 or values[0] != 0 or is_of_sign(mask, edge.value):
            return None
        factor = made / np.where(signal == 0, 1, signal)
        kept = _flat([mask] * len(cut.values)) != 0 if mask.size * len(cut.values) == made.size else None
        if kept is None or not kept.any() or kept.all():
            return None
        if not factor[~kept].any():
            return "dropout-not-scaled", f"dropout scales by {values[1]:.3g}, and not so in the backward pass"
        return named_mask(self.graph, record, "used")

    def _arrays(self, turns: int, shape: tuple[int, ...]) -> Iterator[tuple[str, list[Array]]]:
        """Arrays of the forward pass of a shape, turn by turn."""
        for site in self.graph.sites.values():
            groups = [site] if len(site) == turns else [[record] for record in site] if turns == 1 else []
            for group in groups:
                slots = range(min(len(record.edges) for record in group))
                kinds = [[record.edges[slot].value for record in group] for slot in slots]
                for values in ([record.value for record in group], *kinds):
                    if values[0].ndim != len(shape) or any(v.shape != values[0].shape for v in values):
                        continue
                    for laid in _orders_of(values, shape):
                        yield f"another array, that of{self.graph.said(group[0].place)},", laid

    def _way(self, cut: Cut) -> Named | None:
        """Some of the ways on which the gradient comes back, and not all of them."""
        if cut.target.edge >= 0 or cut.target.units is not None or len(cut.values) != 1:
            return None
        record = cut.target.records[0]
        ways: list[tuple[Record, Array]] = []
        for later, edge in self.graph.feeds(record):
            own = np.zeros(self.graph.tape.count)
            np.add.at(own, edge.ids, edge.pull(self.signals[later.number], None))
            ways.append((later, own[record.ids]))
        if not 1 < len(ways) <= LONGEST:
            return None
        shape = cut.values[0].shape
        for count in range(1, len(ways)):
            for kept in itertools.combinations(range(len(ways)), count):
                total = cut.scale * sum((ways[k][1] for k in kept), np.zeros(record.value.shape))
                if any(_near(cut.values[0], laid) for laid in _orders(total, shape)):
                    lost = [ways[k][0] for k in range(len(ways)) if k not in kept]
                    statistic = next((step for step in lost if self.graph.statistic(step)), None)
                    if statistic is not None:
                        return held(self.graph, statistic)
                    way = self.graph.said(lost[0].place)
                    return (
                        "path-forgotten",
                        f"the way on which the gradient comes back from{way} is forgotten",
                    )
        return None

    def _alone(self, cut: Cut) -> Named | None:
        """A derivative that is not multiplied with the gradient by what follows."""
        made, right = _flat(cut.values), _flat(cut.right)
        if float(np.ptp(made)) == 0 or len(cut.target.records) != len(cut.values):
            return None
        for signals in zip(*(self._following(record) for record in cut.target.records), strict=False):
            if any(signal.shape != cut.values[0].shape for signal in signals):
                continue
            if ratio(made * _flat(list(signals)), right, CLOSE) is not None:
                text = "a derivative is not multiplied with the gradient that comes from what follows"
                return "upstream-ignored", text
        return None

    def _moved(self, cut: Cut) -> Named | None:
        """The right numbers in other places."""
        made, right = _flat(cut.values), _flat(cut.right)
        if not _alike(made, right) or float(np.ptp(right)) == 0:
            return None
        one, two = cut.values[0], cut.right[0]
        if one.ndim == 2 and one.shape[0] == one.shape[1] and _near(one, two.T):
            return "transposed", "what is passed on is transposed"
        return "shifted", "what is passed on holds the right numbers in other places"

    def _slope(self, cut: Cut) -> Named | None:
        """A function whose derivative is another one than the user's, whatever that is."""
        name = cut.target.records[0].name
        if cut.target.units is None and not (cut.target.edge >= 0 and name in ONE and name not in LINEAR):
            return self._sized(cut)
        if not self._entrywise(cut):
            return None
        return "activation-derivative-wrong", "the derivative of the function here is another one"

    def _signed(self, cut: Cut) -> Named | None:
        """Some entries with the wrong sign, and the others right; not by a factor of the forward pass."""
        made, right = _flat(cut.values), _flat(cut.right)
        if not _near(np.abs(made), np.abs(right)):
            return None
        signs = np.sign(made) * np.sign(right)
        for record in cut.target.records:
            for edge in record.edges:
                slope = edge.pull(np.ones(record.value.shape), None)
                if any(
                    np.array_equal(np.sign(factor.reshape(-1)), np.sign(part.reshape(-1)))
                    for factor in (slope, edge.value, record.value)
                    for part in np.split(signs, len(cut.values))
                    if factor.size == part.size and (part < 0).any()
                ):
                    return None
        count = int((signs < 0).sum())
        return (
            "sign-flipped",
            f"{count} of the {signs.size} numbers that are passed on here have the wrong sign",
        )

    def _sized(self, cut: Cut) -> Named | None:
        """Off by what stands on the way, as by a length that it is not divided by."""
        if not self._entrywise(cut):
            return None
        made, right = _flat(cut.values), _flat(cut.right)
        where = np.abs(right) > 1e-9 * np.abs(right).max(initial=0.0)
        if len(cut.values) != 1 or where.sum() < FEWEST or np.abs(made[~where]).max(initial=0.0) > 0:
            return None
        off = (made[where] / right[where]) if where.any() else made
        step: Record | None = cut.target.records[0]
        shape = cut.values[0].shape
        for _ in range(LONGEST):
            if step is None:
                return None
            for value in (step.value, *(edge.value for edge in step.edges)):
                wide = _wide(value, shape)
                if wide is None or not wide.all():
                    continue
                v = wide.reshape(-1)[where]
                if _near(off, v) or _near(off, 1 / v):
                    how = "divided by" if _near(off, v) else "multiplied with"
                    return "operand-forgotten", f"what is passed on is not {how} what it has to be"
            users = self.graph.users[step.number]
            step = self.graph.records[next(iter(users))] if len(users) == 1 else None
        return None


def _asked(question: Callable[[Cut], Named | None], cut: Cut) -> Named | None:
    """What a question finds; nothing where arrays do not fit each other."""
    try:
        return question(cut)
    except (ValueError, IndexError):
        return None


def _first_turn(cut: Cut) -> Cut:
    """The turn of a loop that the backward pass goes through first."""
    at = min(range(len(cut.made)), key=lambda turn: cut.made[turn].number)
    target = cut.target
    units = None if target.units is None else target.units[at : at + 1]
    only = Target(target.records[at : at + 1], target.values[at : at + 1], target.edge, units)
    return Cut(cut.made[at : at + 1], cut.values[at : at + 1], only, cut.right[at : at + 1], cut.scale)


def _flat(values: list[Array]) -> Array:
    return np.concatenate([value.reshape(-1) for value in values])


def _near(a: Array, b: Array) -> bool:
    return a.shape == b.shape and float(((a - b) ** 2).sum()) <= CLOSE**2 * float((b**2).sum())


def _alike(a: Array, b: Array) -> bool:
    """Whether they hold the same numbers, in whatever order."""
    if a.size != b.size or not b.size:
        return False
    return _near(np.sort(a, axis=None), np.sort(b, axis=None))


def _orders(value: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """With its axes in all orders that give a shape."""
    if value.ndim > 4:
        return
    for order in itertools.permutations(range(value.ndim)):
        if tuple(value.shape[axis] for axis in order) == shape:
            yield value.transpose(order)


def _orders_of(values: list[Array], shape: tuple[int, ...]) -> Iterator[list[Array]]:
    for order in itertools.permutations(range(values[0].ndim)) if values[0].ndim < 4 else []:
        if tuple(values[0].shape[axis] for axis in order) == shape:
            yield [value.transpose(order) for value in values]


def _wide(value: Array, shape: tuple[int, ...]) -> Array | None:
    """Repeated to a shape, also along last axes."""
    for own in (
        (value, value.reshape(value.shape + (1,) * (len(shape) - value.ndim)))
        if value.ndim <= len(shape)
        else ()
    ):
        try:
            return np.broadcast_to(own, shape)
        except ValueError:
            continue
    return None
