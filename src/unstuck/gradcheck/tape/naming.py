"""Names mistakes in any forward pass that was written down: the slip that gives the user's gradients."""

import itertools
import time
from collections.abc import Iterator, Mapping

import numpy as np

from unstuck.gradcheck.arrangement import ratio, same
from unstuck.gradcheck.compare import Compared
from unstuck.gradcheck.local import Expected, explain, factor_named
from unstuck.gradcheck.mistakes import Mistake
from unstuck.gradcheck.naming import MATCH, Explained
from unstuck.gradcheck.tape.contributions import Uses, in_order, nearest, share, uses, with_others
from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.record import Place, Record
from unstuck.gradcheck.tape.reverse import Override, Passed, Reverse, add
from unstuck.gradcheck.tape.tensor_trials import moved_tensor
from unstuck.gradcheck.tape.trial import LAST, Trial
from unstuck.gradcheck.tape.trials import trials
from unstuck.gradcheck.tape.writing import Written
from unstuck.gradcheck.tree import Array

SECONDS = 8.0
ROUNDS = 6
FEWEST = 4
"""With fewer wrong entries a number that is fitted to them proves nothing."""
NEAR = 4
"""Tensors that are used within so many steps belong to one layer."""
MOST_AXES = 7
Gradients = dict[str, Array]


class TapeNamer:
    """Explains the user's gradients at one point."""

    def __init__(
        self,
        made: Written,
        dy: Array,
        values: Gradients,
        given: Gradients,
        tensors: Mapping[str, Compared],
        sizes: dict[str, int],
        inputs: set[str],
        *,
        earlier: Written | None = None,
        single: bool = False,
    ) -> None:
        """Prepare.

        Args:
            made: the forward pass.
            dy: as it was given to backward.
            values: the point.
            given: the user's gradients, in whatever shapes.
            tensors: what was measured.
            sizes: what a factor may be.
            inputs: tensors that are no parameters.
            earlier: the first forward pass that was made, where that was at another point.
            single: whether gradients were computed in single precision.
        """
        self.match = MATCH if not single else 10 * MATCH
        self.values, self.given, self.sizes, self.inputs, self.tensors = values, given, sizes, inputs, tensors
        self.reverse = Reverse(made, dy)
        self.graph = Graph(made)
        self.earlier = earlier.tape.records if earlier is not None else []
        self.applied: dict[int, Override] = {}
        self.settled: set[str] = set()
        self.typical = max(
            (float(np.sqrt((g**2).mean())) for g in self.reverse.right.values() if g.size), default=0.0
        )
        self.last_use = {name: self._last_use(name) for name in given}

    def _last_use(self, name: str) -> int:
        return max((record.number for record, _ in uses(self.graph, name)), default=-1)

    @property
    def right(self) -> Gradients:
        """The gradients without any slip."""
        return self.reverse.right

    def _smooth(self, name: str) -> Array | slice:
        compared = self.tensors.get(name)
        if compared is None or compared.smooth.all():
            return slice(None)
        kept = np.ones(compared.given.size, dtype=bool)
        kept[compared.index[~compared.smooth]] = False
        return kept

    def _matches(self, name: str, predicted: Array) -> bool:
        given = self.given[name]
        if given.shape != predicted.shape or not np.isfinite(predicted).all():
            return False
        keep = self._smooth(name)
        a, b = given.reshape(-1)[keep], predicted.reshape(-1)[keep]
        floor = 1e-7 * self.typical * max(1, a.size) ** 0.5
        return float(np.sqrt(((a - b) ** 2).sum())) <= self.match * float(np.sqrt((b**2).sum())) + floor

    def run(self) -> Explained:
        """Name what can be named."""
        made = Explained()
        known = trials(self.graph, self.inputs)
        end = time.process_time() + SECONDS
        for _ in range(ROUNDS):
            current = self.reverse.run(self.applied)
            wrong = [n for n in self.given if n not in self.settled and not self._matches(n, current[n])]
            if not wrong:
                break
            own = {name: named for name in wrong if (named := self._local(name, current)) is not None}
            best = None
            weak = {name for name, named in own.items() if named[0] == "path-forgotten"}
            if len(wrong) > 1 or not own or weak:
                best = self._best(known, wrong, current, end)
            if best is not None and (len(best[1]) == len(wrong) or len(best[1]) > max(1, len(own))):
                self._take(best, made)
                continue
            own = self._independent(own, wrong)
            if not own:
                self._give_up(wrong, made)
                break
            made.mistakes += [Mistake(name, *named) for name, named in own.items()]
            self.settled |= set(own)
        return made

    def _independent(self, own: dict[str, tuple[str, str]], wrong: list[str]) -> dict[str, tuple[str, str]]:
        """Those that cannot be consequences: nothing nearer to the output is wrong without a name."""
        open_ones = [self.last_use[name] for name in wrong if name not in own]
        return {
            name: named
            for name, named in own.items()
            if not any(last >= self.last_use[name] - NEAR for last in open_ones)
        }

    def _give_up(self, wrong: list[str], made: Explained) -> None:
        first = max(wrong, key=self._rank)
        made.unknown.append(first)
        rest = [name for name in wrong if name != first]
        if rest:
            made.consequences[first] = rest

    def _rank(self, name: str) -> tuple[int, int]:
        """Nearest to the output first, and a layer's weights before its bias."""
        return self.last_use[name], self.given[name].ndim

    def _take(self, best: tuple[Trial, list[str]], made: Explained) -> None:
        trial, matched = best
        self.applied.update(trial.overrides)
        first = nearest(self.graph, matched, max(trial.overrides), self.inputs)
        made.mistakes.append(
            Mistake(first, trial.kind, f"{trial.text}; seen from the gradient of {first} on")
        )
        rest = [name for name in matched if name != first]
        if rest:
            made.consequences[first] = rest

    def _best(
        self, known: list[Trial], wrong: list[str], current: Gradients, end: float
    ) -> tuple[Trial, list[str]] | None:
        """The slip that explains most of the wrong gradients and leaves the right ones right."""
        best: tuple[Trial, list[str]] | None = None
        for trial in itertools.chain(known, self._updated(wrong, current)):
            if time.process_time() > end:
                break
            if not trial.tensors & set(wrong) or trial.overrides.keys() & self.applied.keys():
                continue
            if best is not None and len(best[1]) >= len(set(wrong) & trial.tensors):
                continue
            fitted = self._fitted(trial, wrong, current) if trial.fit else trial
            if fitted is None:
                continue
            matched = self._matched(fitted, wrong)
            if matched and (best is None or len(matched) > len(best[1])):
                best = (fitted, matched)
                if len(matched) == len(wrong):
                    break
        return best

    def _matched(self, trial: Trial, wrong: list[str]) -> list[str]:
        try:
            made = self.reverse.run({**self.applied, **trial.overrides})
        except (ValueError, IndexError):
            return []
        for name in self.given:
            if name not in wrong and name not in self.settled and not self._matches(name, made[name]):
                return []
        return [name for name in wrong if self._matches(name, made[name])]

    def _fitted(self, trial: Trial, wrong: list[str], current: Gradients) -> Trial | None:
        """With the number that the gradient would have to be multiplied with, if there is one."""
        try:
            without = self.reverse.run({**self.applied, **trial.overrides})
        except (ValueError, IndexError):
            return None
        c = self._number(without, current, wrong)
        if c is None or abs(c - 1) < 1e-3 or abs(c) < 1e-3:
            return None
        overrides = {number: _times(override, c) for number, override in trial.overrides.items()}
        number = next(iter(trial.overrides))
        record = self.graph.records[number]
        expected = Expected(wrong[0], (), np.zeros(0, dtype=np.int64), np.zeros(0), self.sizes)
        kind, word = factor_named(c, expected)
        word = word.removeprefix(f"the gradient of {wrong[0]} ").removesuffix("the right one")
        if any(self.graph.statistic(self.graph.records[n]) for n in list(trial.overrides)[:1]):
            count = record.edges[0].ids.size / max(1, record.value.size)
            if count > 1 and min(abs(c - count / (count - 1)), abs(c - (count - 1) / count)) < 1e-3:
                kind, word = (
                    "variance-mixed",
                    f"is {c:.6g} times the right one: {count:.0f} and {count - 1:.0f} are mixed",
                )
        if trial.kind == "activation-derivative-wrong":  # a factor of one of its parts
            kind = trial.kind
        return Trial(kind, f"{trial.text} {word}", overrides, trial.rank, trial.tensors)

    def _number(self, without: Gradients, current: Gradients, wrong: list[str]) -> float | None:
        gaps, steps = list[Array](), list[Array]()
        for name in wrong:
            if self.given[name].shape != current[name].shape:
                continue
            keep = self._smooth(name)
            step = (current[name] - without[name]).reshape(-1)[keep]
            if np.abs(step).max(initial=0.0) > 1e-9 * self.typical:
                gaps.append((self.given[name] - without[name]).reshape(-1)[keep])
                steps.append(step)
        if not steps:
            return None
        gap, step = np.concatenate(gaps), np.concatenate(steps)
        if np.count_nonzero(step) < FEWEST:
            return None
        return float((gap * step).sum() / (step**2).sum())

    def _updated(self, wrong: list[str], current: Gradients) -> Iterator[Trial]:
        """Weights that were changed by their own gradient before the gradient was passed on through them."""
        rates: list[float] = []
        moved: list[tuple[str, Array]] = []
        for name, ids in self.graph.tape.leaves.items():
            if (
                name in self.inputs
                or ids.ndim < 2
                or name not in self.given
                or self.given[name].shape != ids.shape
            ):
                continue
            own = self.given[name]
            overrides, tensors = moved_tensor(self.graph, name, own)
            comparable = [n for n in wrong if self.given[n].shape == current[n].shape]
            if (
                not comparable
                or not overrides
                or overrides.keys() & self.applied.keys()
                or not tensors & set(wrong)
            ):
                continue
            without = self.reverse.run({**self.applied, **moved_tensor(self.graph, name, 0 * own)[0]})
            along = self.reverse.run({**self.applied, **overrides})
            gaps = [(self.given[n] - current[n]).reshape(-1) for n in comparable]
            steps = [(along[n] - without[n]).reshape(-1) for n in comparable]
            moved.append((name, own))
            for rate in _rates(gaps, steps):
                rates.append(rate)
                text = f"{name} was updated (rate {rate:.4g}) before the gradient was passed on through it"
                overrides, tensors = moved_tensor(self.graph, name, self.values[name] - rate * own)
                yield Trial("weights-updated-early", text, overrides, LAST, tensors)

        for rate in rates if len(moved) > 1 else ():
            overrides, tensors = {}, frozenset[str]()
            for name, own in moved:
                some, reached = moved_tensor(self.graph, name, self.values[name] - rate * own)
                overrides, tensors = overrides | some, tensors | reached
            text = f"weights were updated (rate {rate:.4g}) before the gradient was passed on through them"
            yield Trial("weights-updated-early", text, overrides, LAST, tensors)

    def _local(self, name: str, current: Gradients) -> tuple[str, str] | None:
        """What is wrong with the gradient of one tensor alone."""
        given, right = self.given[name], current[name]
        signals = self.reverse.signals
        if given.shape == right.shape and name not in self.inputs:
            for kind, text, gradient in with_others(self.graph, name, signals, self.earlier):
                if gradient.shape == given.shape and same(given, gradient, MATCH):
                    return kind, text
        alone = self._of_one_place(name, given) if given.shape == right.shape and not self.applied else None
        if alone is not None:
            return alone
        if given.shape == right.shape and self._assigned(name):
            return "overwritten", f"where entries of {name} are used many times, only the last use counts"
        for named in self._slices(name, given, right):
            return named
        some = self._some_uses(name, given) if given.shape == right.shape and not self.applied else None
        if some is not None:
            return some
        parts, turns = share(self.graph, name, signals) if not self.applied else (None, False)
        index = np.arange(right.size)
        added = all(record.name in {"add", "subtract"} for record, _ in uses(self.graph, name))
        expected = Expected(
            name, right.shape, index, right.reshape(-1), self.sizes, parts, None, turns, added
        )
        return self._judged(name, explain(given, expected), given, right, parts)

    def _judged(
        self, name: str, named: tuple[str, str] | None, given: Array, right: Array, parts: Array | None
    ) -> tuple[str, str] | None:
        """With what is known of the uses: several places are no turns of a loop, and a vector is a sum."""
        if named is None:
            return None
        kind, text = named
        if kind == "overwritten" and len({record.place for record, _ in uses(self.graph, name)}) > 1:
            return "path-forgotten", text
        unsummed = parts is None or all(count == 1 for count in parts.shape[:-1])  # how, is not known then
        if kind == "factor" and unsummed and max(right.shape, default=1) == right.size > 1:
            factor = ratio(given, right)
            for what, count in self.sizes.items():
                # a half may be that of a square
                if count > 2 and "output" not in what and factor and abs(factor * count - 1) < 2e-3:
                    text = f"the gradient of {name} is a mean over {count} ({what}) instead of a sum"
                    return "mean-instead-of-sum", text
        return named

    def _some_uses(self, name: str, given: Array) -> tuple[str, str] | None:
        """Whether some of the uses in a loop count alone, as the last sample's, or are averaged."""
        parts = in_order(self.graph, name, self.reverse.signals)
        if (
            parts is None
            or not given.any()
            or len({record.place for record, _ in uses(self.graph, name)}) > 1
        ):
            return None  # several places are no turns of a loop
        flat, count = given.reshape(-1), parts.shape[1]
        vector = max(given.shape, default=1) == given.size
        turns = [n for n in range(2, count + 1) if count % n == 0]
        if flat.size < FEWEST:  # few numbers are like something else by chance
            turns = [n for n in turns if n in self.sizes.values()]
        for n in turns:
            blocks = parts.reshape(-1, n, count // n)
            for at, which in ((-1, "last"), (0, "first")):
                if self._close(flat, blocks[:, at].sum(axis=1)):
                    kind = "not-summed" if vector else "overwritten"
                    return kind, f"the gradient of {name} is that of the {which} of {n} turns alone"
            if vector and self._close(flat, parts.sum(axis=1) / n) and n > 2:
                return "mean-instead-of-sum", f"the gradient of {name} is a mean over {n} instead of a sum"
        return None

    def _of_one_place(self, name: str, given: Array) -> tuple[str, str] | None:
        """Whether of several places that use a tensor, as a table that is also the last layer, one counts."""
        places: dict[Place, Uses] = {}
        for record, edge in uses(self.graph, name):
            places.setdefault(record.place, []).append((record, edge))
        own = self.graph.tape.leaves[name]
        for place, found in places.items() if len(places) > 1 and given.size >= FEWEST else ():
            sums = np.zeros(self.graph.tape.count)
            for record, edge in found:
                add(sums, edge.ids, edge.pull(self.reverse.signals[record.number], None), edge)
            if sums[own].all() and self._close(given.reshape(-1), sums[own].reshape(-1)):
                text = f"the gradient of {name} is that of one use alone:{self.graph.said(place)}"
                return "path-forgotten", text
        return None

    def _assigned(self, name: str) -> bool:
        """Whether each entry has the gradient of its last use alone, as `g[index] = ...` gives it."""
        found = uses(self.graph, name)
        if all(edge.once for _, edge in found) and not _overlapping(found):
            return False
        signals = self.reverse.signals
        each = [(edge.ids.reshape(-1), edge.pull(signals[r.number], None).reshape(-1)) for r, edge in found]
        gathered: dict[bytes, tuple[Array, Array]] = {}  # what was taken once may be used several times
        for ids, passed in each:
            before = gathered.get(ids.tobytes())
            gathered[ids.tobytes()] = ids, passed if before is None else passed + before[1]
        for parts in (each, each[::-1], list(gathered.values()), *self._swept(found)):
            sums = np.zeros(self.graph.tape.count)
            for ids, passed in parts:
                sums[ids] = passed
            if same(self.given[name], sums[self.graph.tape.leaves[name]], MATCH):
                return True
        return False

    def _swept(self, found: Uses) -> Iterator[list[tuple[Array, Array]]]:
        """Windows that are gone through place by place of the window, or in another order of their axes."""
        if len(found) != 1 or found[0][1].ids.ndim > MOST_AXES:
            return
        record, edge = found[0]
        passed = np.broadcast_to(edge.pull(self.reverse.signals[record.number], None), edge.ids.shape)
        for first in itertools.permutations(range(edge.ids.ndim), 2):
            ids, part = (np.moveaxis(array, first, (0, 1)).reshape(-1) for array in (edge.ids, passed))
            yield [(ids, part)]

    def _slices(self, name: str, given: Array, right: Array) -> Iterator[tuple[str, str]]:
        """Where each use of a tensor takes entries of its own: the one that is wrong."""
        found = uses(self.graph, name)
        if given.shape != right.shape or len(found) < 2 or self.applied:
            return
        own = int(self.graph.tape.leaves[name].flat[0])
        places = [edge.ids - own for _, edge in found]
        everything = np.concatenate([place.reshape(-1) for place in places])
        if np.unique(everything).size != everything.size:
            return
        flat, whole = given.reshape(-1), right.reshape(-1)
        wrong = [n for n, place in enumerate(places) if not self._close(flat[place], whole[place])]
        rest = np.setdiff1d(np.arange(flat.size), everything)
        if len(wrong) != 1 or len(places) == len(wrong) or not self._close(flat[rest], whole[rest]):
            return
        (record, edge), place = found[wrong[0]], places[wrong[0]]
        parts = edge.parts(self.reverse.signals[record.number]) if edge.parts is not None else None
        if parts is not None:
            parts = parts.reshape(*parts.shape[: parts.ndim - place.ndim], place.size)
        expected = Expected(
            name, place.shape, np.arange(place.size), whole[place].reshape(-1), self.sizes, parts
        )
        named = explain(flat[place], expected)
        if named is not None:
            first, last = (np.unravel_index(int(place.flat[at]), given.shape) for at in (0, -1))
            span = f"{[int(k) for k in first]} to {[int(k) for k in last]}"
            yield named[0], f"{named[1]} (its entries from {span}, used in{self.graph.said(record.place)})"

    def _close(self, a: Array, b: Array) -> bool:
        floor = 1e-7 * self.typical * max(1, a.size) ** 0.5
        return float(np.sqrt(((a - b) ** 2).sum())) <= self.match * float(np.sqrt((b**2).sum())) + floor


def _overlapping(found: Uses) -> bool:
    """Whether uses have some entries in common and not all, as windows have."""
    each = [np.unique(edge.ids[edge.ids > 0]) for _, edge in found]
    counts = np.unique(np.concatenate(each), return_counts=True)[1] if each else np.zeros(0)
    return bool((counts > 1).any()) and not any(ids.size == counts.size for ids in each)


def _rates(gaps: list[Array], steps: list[Array]) -> list[float]:
    """The rate that fits all gaps best, and rates that fit one: weights elsewhere may be updated too."""
    found: list[float] = []
    for every, one in ((True, None), *((False, at) for at in range(len(gaps)))):
        gap = np.concatenate(gaps) if one is None else gaps[one]
        step = np.concatenate(steps) if one is None else steps[one]
        size = float((step**2).sum())
        rate = -float((gap * step).sum()) / size if size > 0 else 0.0
        if rate <= 0 or np.count_nonzero(step) < FEWEST or any(abs(rate - r) < 1e-3 * r for r in found):
            continue
        if every or float(((gap + rate * step) ** 2).sum()) <= MATCH**2 * float((gap**2).sum()):
            found.append(rate)
    return found


def _times(override: Override, c: float) -> Override:
    """Between what a slip passes on, which is nothing, and what is right: c times the latter."""

    def made(record: Record, dy: Array) -> Passed:
        passed = override(record, dy)
        kept = {id(ids) for ids, _ in passed}
        rest = [(edge.ids, c * edge.pull(dy, None)) for edge in record.edges if id(edge.ids) not in kept]
        return [*passed, *rest]

    return made
