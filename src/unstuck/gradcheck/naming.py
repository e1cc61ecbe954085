"""Names mistakes in a recognised network: the slip that gives the user's gradients is the one."""

from dataclasses import dataclass, field

import numpy as np

from unstuck.gradcheck.arrangement import ratio, same
from unstuck.gradcheck.known.chain import Applied, Chain, Pass
from unstuck.gradcheck.known.operation import Slip
from unstuck.gradcheck.local import Expected, explain, factor_named, factor_word
from unstuck.gradcheck.mistakes import Mistake
from unstuck.gradcheck.tree import Array

MATCH = 1e-4
"""A slip explains a gradient that it gives up to this part of its size."""


@dataclass
class Explained:
    """What was named, and what was not."""

    mistakes: list[Mistake] = field(default_factory=list[Mistake])
    consequences: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    unknown: list[str] = field(default_factory=list[str])


class Namer:
    """Explains the user's gradients at one point of a recognised network."""

    def __init__(
        self, chain: Chain, dy: Array, given: dict[str, Array], sizes: dict[str, int], single: bool = False
    ) -> None:
        """Prepare.

        Args:
            chain: what was recognised.
            dy: as it was given to backward.
            given: the user's gradients, in whatever shapes.
            sizes: what a factor may be.
            single: whether gradients were computed in single precision.
        """
        self.match = MATCH if not single else 10 * MATCH
        self.chain, self.dy, self.given, self.sizes = chain, dy, given, sizes
        self.applied: dict[int, Applied] = {}
        self.settled: set[str] = set()
        self.right = chain.backward(dy, {}).gradients
        self.typical = max(
            (float(np.sqrt((g**2).mean())) for g in self.right.values() if g.size), default=0.0
        )

    def _matches(self, name: str, predicted: Array) -> bool:
        given = self.given[name]
        if given.shape != predicted.shape:
            return False
        floor = 1e-7 * self.typical * given.size**0.5
        distance = float(np.sqrt(((given - predicted) ** 2).sum()))
        return distance <= self.match * float(np.sqrt((predicted**2).sum())) + floor

    def run(self) -> Explained:
        """Name what can be named, from the output to the input."""
        made = Explained()
        for _ in range(12):
            current = self.chain.backward(self.dy, self.applied)
            wrong = [name for name in self._names() if not self._matches(name, current.gradients[name])]
            if not wrong:
                break
            at = max(self.chain.place(name) for name in wrong)
            here = [name for name in wrong if self.chain.place(name) == at]
            spoiled = self._spoiled(at, wrong)
            if spoiled and self._signal(at, wrong, current, made):
                continue
            if self._locals(here, current, made):
                continue
            made.unknown += [name for name in here if name not in made.unknown]
            for name in self._names():
                if self.chain.place(name) < at and name in wrong and made.unknown:
                    made.consequences.setdefault(here[0], []).append(name)
            break
        return made

    def _names(self) -> list[str]:
        return [name for name in self.given if name not in self.settled and name in self.right]

    def _spoiled(self, at: int, wrong: list[str]) -> bool:
        """Whether nothing at this operation or before it is right: a right gradient needs a right signal."""
        for name in self.given:
            if (
                name in self.right
                and self.chain.place(name) <= at
                and name not in wrong
                and name not in self.settled
            ):
                zero = not np.any(self.right[name])
                if not zero:
                    return False
        return True

    def _signal(self, at: int, wrong: list[str], current: Pass, made: Explained) -> bool:
        """Find the slip between the last right tensor and the first wrong one."""
        operations = self.chain.operations
        end = next((k for k in range(at + 1, len(operations)) if operations[k].tensors), len(operations))
        best: tuple[int, Applied, Slip] | None = None
        trials = [
            (Applied(number, slip.id), slip)
            for number in range(at + 1, min(end + 1, len(operations)))
            for slip in operations[number].slips(self.chain.values, self.chain.states[number])
        ]
        if at >= 0:
            inside = operations[at].slips(self.chain.values, self.chain.states[at])
            trials += [(Applied(at, slip.id), slip) for slip in inside if self._inner(at, slip)]
        for number in range(at + 1, end + 1):
            trials += self._sized(number, at, wrong, current)
        best_ties: int | None = None
        for applied, slip in trials:
            for ties in (None, *self._pools(at, end, applied.at)):
                count = self._tried(applied, wrong, ties)
                if count and (best is None or count > best[0]):
                    best, best_ties = (count, applied, slip), ties
        local = self._local_count(at, wrong, current)
        if best is None or (local and best[0] <= local):
            return False
        _, applied, slip = best
        number = applied.at
        if best_ties is not None:
            self.applied[best_ties] = Applied(best_ties, "ties")
        self.applied[number] = applied
        after = self.chain.backward(self.dy, self.applied).gradients
        folded = [
            name
            for name in self._names()
            if name in wrong
            and self._matches(name, after[name])
            and not self._matches(name, self.right[name])
        ]
        latest = max(folded, key=self._rank) if folded else self.chain.x
        made.mistakes.append(Mistake(latest, slip.kind, self._text(number, slip, latest)))
        others = [name for name in folded if name != latest]
        if others:
            made.consequences[latest] = others
        return True

    def _rank(self, name: str) -> tuple[int, int]:
        """Nearest to the output first, and a layer's weights before its bias."""
        return self.chain.place(name), self.right[name].ndim

    def _inner(self, at: int, slip: Slip) -> bool:
        """Whether a slip in an operation also changes the gradients of its own parameters (in time)."""
        operation = self.chain.operations[at]
        h, y = self.chain.states[at], self.chain.states[at + 1]
        signal = np.ones_like(y)
        plain = operation.backward(self.chain.values, h, y, signal)[1]
        slipped = operation.backward(self.chain.values, h, y, signal, slip.id)[1]
        return any(not np.allclose(plain[name], slipped[name]) for name in plain)

    def _text(self, number: int, slip: Slip, latest: str) -> str:
        if slip.id == "times":
            return slip.text
        word = self.chain.operations[number].word
        return f"{slip.text} (operation {number + 1}, {word}; seen from the gradient of {latest} on)"

    def _pools(self, at: int, end: int, besides: int) -> list[int]:
        """Poolings that may give every tie the full gradient, which is no mistake where a ReLU stops it."""
        operations = self.chain.operations
        return [
            number
            for number in range(max(at, 0), min(end + 1, len(operations)))
            if number != besides and operations[number].word == "max pooling" and number not in self.applied
        ]

    def _tried(self, applied: Applied, wrong: list[str], ties: int | None = None) -> int:
        """How many of the wrong tensors a slip explains."""
        if applied.at in self.applied:
            return 0
        with np.errstate(all="ignore"):
            try:
                slips = {**self.applied, applied.at: applied}
                if ties is not None:
                    slips[ties] = Applied(ties, "ties")
                made = self.chain.backward(self.dy, slips).gradients
            except (ValueError, IndexError):
                return 0
        return sum(name in made and self._matches(name, made[name]) for name in wrong)

    def _sized(self, number: int, at: int, wrong: list[str], current: Pass) -> list[tuple[Applied, Slip]]:
        """Slips with a number in them: a constant factor, or weights that were updated too early."""
        found: list[tuple[Applied, Slip]] = []
        latest = next((name for name in wrong if self.chain.place(name) == at), self.chain.x)
        given, right = self.given[latest], current.gradients[latest]
        if given.shape != right.shape:
            return found
        factor = ratio(given, right, 1e-4)
        if factor is not None:
            expected = Expected(latest, right.shape, np.arange(right.size), right.reshape(-1), self.sizes)
            kind, _ = factor_named(factor, expected)
            word = "the wrong sign" if kind == "sign-flipped" else f"a factor {factor:.6g}"
            if kind != "sign-flipped":
                word += factor_word(abs(factor), self.sizes)
            text = f"from the gradient of {latest} on, all gradients have {word}"
            found.append((Applied(number, "times", factor), Slip("times", kind, text)))
        if number == len(self.chain.operations):
            return found
        operation = self.chain.operations[number]
        if operation.word == "dense layer" and number not in self.applied:
            plus = self.chain.backward(
                self.dy, {**self.applied, number: Applied(number, "updated", 1.0)}
            ).gradients
            step = plus[latest] - right
            size = float((step**2).sum())
            if size > 0:
                rate = float(((given - right) * step).sum() / size)
                if rate > 0:
                    weight = operation.tensors[0]
                    text = (
                        f"{weight} was updated (rate {rate:.4g}) before the gradient was passed on through it"
                    )
                    slip = Slip("updated", "weights-updated-early", text)
                    found.append((Applied(number, "updated", rate), slip))
        return found

    def _local_count(self, at: int, wrong: list[str], current: Pass) -> int:
        """How many of the wrong tensors at an operation have a mistake of their own that can be named."""
        here = [name for name in wrong if self.chain.place(name) == at]
        if {name for name in wrong if self.chain.place(name) <= at} != set(here):
            return 0
        return sum(self._local(name, current) is not None for name in here)

    def _local(self, name: str, current: Pass) -> tuple[str, str] | None:
        given, right = self.given[name], current.gradients[name]
        at = self.chain.place(name)
        if at < 0:
            expected = Expected(name, right.shape, np.arange(right.size), right.reshape(-1), self.sizes)
            return explain(given, expected)
        operation = self.chain.operations[at]
        h, y, dy = self.chain.states[at], self.chain.states[at + 1], current.signals[at]
        if given.shape == right.shape:
            with np.errstate(all="ignore"):
                for variant in operation.variants(self.chain.values, h, y, dy, name):
                    if variant.gradient.shape == given.shape and same(given, variant.gradient, MATCH):
                        return variant.kind, variant.text
                before = self._other_input(name, at, dy)
            if before is not None:
                return before
        share = operation.share(self.chain.values, h, y, dy, name)
        expected = Expected(
            name, right.shape, np.arange(right.size), right.reshape(-1), self.sizes, share, operation
        )
        return explain(given, expected)

    def _other_input(self, name: str, at: int, dy: Array) -> tuple[str, str] | None:
        """Whether a parameter's gradient is right for another array of the network than its own input."""
        operation, h = self.chain.operations[at], self.chain.states[at]
        for number, state in enumerate(self.chain.states):
            if number == at or state.shape != h.shape or same(state, h):
                continue
            gradient = operation.backward(self.chain.values, state, self.chain.states[at + 1], dy)[1].get(
                name
            )
            if (
                gradient is not None
                and gradient.shape == self.given[name].shape
                and same(self.given[name], gradient, MATCH)
            ):
                what = (
                    "the network's input"
                    if number == 0
                    else f"the output of the {self.chain.operations[number - 1].word}"
                )
                own = (
                    "the network's input" if at == 0 else f"that of the {self.chain.operations[at - 1].word}"
                )
                return "input-mistaken", f"the gradient of {name} uses {what} instead of {own}"
        return None

    def _locals(self, here: list[str], current: Pass, made: Explained) -> bool:
        done = False
        for name in here:
            named = self._local(name, current)
            if named is not None:
                made.mistakes.append(Mistake(name, *named))
                self.settled.add(name)
                done = True
        if done:
            self._merge_factors(made)
        return done

    def _merge_factors(self, made: Explained) -> None:
        """A bias that is 1/N of the right one beside such a weight has the same factor, no mean."""
        factors = {self.chain.place(m.tensor) for m in made.mistakes if m.kind == "factor"}
        for number, mistake in enumerate(made.mistakes):
            if mistake.kind == "mean-instead-of-sum" and self.chain.place(mistake.tensor) in factors:
                made.mistakes[number] = mistake._replace(kind="factor")
