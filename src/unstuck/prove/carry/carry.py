"""More seeds than PyTorch could run: the arms of a trial, trained in the engine where it does the same.

1. One run of PyTorch an arm is watched to its end. Anything that the engine has no twin of is a reason.
2. The engine trains from the same weights on the same batches in the same order: its first losses must be
   PyTorch's.
3. Of every further seed PyTorch runs the first epoch only, which gives weights and samples; the engine
   trains from there.
4. As many runs must succeed as did in the trial's own runs (Fisher's exact test). Else the engine's are not
   used.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.prove.carry.order import Order, order_of
from unstuck.prove.carry.repeat import end, first_losses, fits
from unstuck.prove.carry.result import UNCHANGED, Carried, OnEngine
from unstuck.prove.carry.seen import Seen
from unstuck.prove.script.row import Row
from unstuck.prove.subject import Runs
from unstuck.prove.success import Success
from unstuck.prove.torch.catalogue import parts
from unstuck.prove.trial import TrialResult

Capture = Callable[[str | None, int, int | None], Seen]
"""Called as `capture(treatment, seed, steps)`: a run of PyTorch, ended after so many steps (None: whole)."""

TAKEN = ("lr", "clip", "init", "bias", "activation", "width", "insert", "optimizer", "schedule", "zero_grad")
"""Kinds of treatments that the engine can follow."""
AT_THE_START = ("init", "bias", "activation", "width")
"""Those that change what a training begins with."""
WATCHED = 900_001
FIRST_SEED = 1_000_001
"""No trial uses these."""
UNLIKELY = 0.01
"""Below this p-value the engine's odds are others than PyTorch's."""
ROOM = 2**30
"""Bytes that all beginnings together may take."""
DISTURBED = 4
"""So often the engine's own rounding is tried."""
SLACK = 20.0
"""PyTorch rounds at every step and not only once, in another order of its sums."""
ENOUGH = 3
"""Steps that must agree in any case."""
LEAST = 20
"""With fewer seeds there is nothing to add."""


class NotCarried(Exception):  # noqa: N818  (not an error: an answer that carries its reason)
    """The engine does not do the same."""


@dataclass
class Carry:
    """Trains the arms of a trial on the engine.

    Args:
        capture: runs PyTorch.
        success: the trial's criterion.
        seeds: how many more.
        limit: seconds that PyTorch's part may take; as many seeds are left out as would take longer.
        workers: runs of PyTorch at a time; more than one only where each has a process of its own.
    """

    capture: Capture
    success: Success
    seeds: int = 200
    limit: float = 120.0
    workers: int = 1
    _beginnings: dict[tuple[str | None, int], Seen] = field(
        default_factory=dict[tuple[str | None, int], Seen]
    )

    def run(self, arms: Mapping[str | None, Runs]) -> OnEngine:
        """Train what can be.

        Args:
            arms: of the trial that was run: None is the unchanged program, the others are treatments.

        Returns:
            The engine's figures, and the reasons why others are missing.
        """
        began = time.monotonic()
        refused: dict[str, str] = {}
        carried: list[Carried] = []
        try:
            self._judgeable()
            self.order, unchanged = self._watched(None)
            seeds = self._affordable(range(FIRST_SEED, FIRST_SEED + self.seeds), arms)
            before, same = self._arm(None, unchanged, seeds, arms[None])
        except NotCarried as why:
            return OnEngine(refused={UNCHANGED: str(why)}, seconds=time.monotonic() - began)
        for treatment in arms:
            if treatment is None:
                continue
            try:
                whole = self._followed(treatment)
                after, alike = self._arm(treatment, whole, seeds, arms[treatment])
                carried.append(Carried(treatment, before, after, f"{same}; with it {alike}"))
            except NotCarried as why:
                refused[treatment] = str(why)
        return OnEngine(tuple(carried), refused, time.monotonic() - began)

    def _judgeable(self) -> None:
        other = self.success.quantities - {"loss"}
        if other:
            raise NotCarried(f"runs are judged by the {min(other)}, and the engine's by their losses only")

    def _followed(self, treatment: str) -> Seen:
        """One whole run with a treatment that the engine can follow."""
        strange = [part.kind for part in parts(treatment) if part.kind not in TAKEN]
        if strange:
            raise NotCarried(f"the engine does not follow {strange[0]}=...")
        order, whole = self._watched(treatment)
        if order != self.order:
            raise NotCarried("it changes the order of the samples")
        return whole

    def _watched(self, treatment: str | None) -> tuple[Order, Seen]:
        """One whole run, whose first losses the engine has too."""
        whole = self.capture(treatment, WATCHED, None)
        if whole.facts.why_not:
            raise NotCarried(whole.facts.why_not)
        order = order_of(whole)
        if isinstance(order, str):
            raise NotCarried(order)
        difference = _difference(whole)
        if difference:
            raise NotCarried(difference)
        return order, whole

    def _affordable(self, seeds: range, arms: Mapping[str | None, Runs]) -> range:
        """As many seeds as PyTorch has the time for: a few are made to see what one takes."""
        few = seeds[: max(2, self.workers)]
        if len(few) < 2:
            raise NotCarried("one more seed tells nothing")
        began = time.monotonic()
        self._begin(None, few)
        each = (time.monotonic() - began) / len(few)
        one, other = (self._beginnings[None, seed] for seed in few[:2])
        if one.facts.why_not:
            raise NotCarried(one.facts.why_not)
        if one.same_arrays(other):
            raise NotCarried("every seed gives the same run: more of them tell nothing new")
        drawn = [name for name in arms if name is not None and _at_the_start(name)]
        times, size = 1 + len(drawn), self._beginnings[None, seeds[0]].size
        count = min(len(seeds), int(self.limit / max(each * times, 1e-9)))
        if count < min(LEAST, len(seeds)):
            raise NotCarried(
                f"the first epoch alone takes {each:.1f} s in PyTorch, too long for {LEAST} more seeds"
            )
        count = min(count, ROOM // max(size * times, 1))
        if count < min(LEAST, len(seeds)):
            raise NotCarried(f"its samples and weights take {size >> 20} MB for each of {LEAST} more seeds")
        return seeds[:count]

    def _begin(self, treatment: str | None, seeds: Sequence[int]) -> list[Seen]:
        """The first epochs of PyTorch's runs of some seeds, from which the engine goes on."""
        name = treatment if treatment is not None and _at_the_start(treatment) else None
        missing = [seed for seed in seeds if (name, seed) not in self._beginnings]

        def one(seed: int) -> Seen:
            return self.capture(name, seed, self.order.epoch)

        if self.workers == 1:
            made = [one(seed) for seed in missing]
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                made = list(pool.map(one, missing))
        self._beginnings |= {(name, seed): seen for seed, seen in zip(missing, made, strict=True)}
        return [self._beginnings[name, seed] for seed in seeds]

    def _arm(self, treatment: str | None, whole: Seen, seeds: Sequence[int], torch: Runs) -> tuple[Runs, str]:
        """One arm on the engine, and what it was compared with."""
        rows: list[Row] = []
        beginnings = self._begin(treatment, seeds)
        began = time.monotonic()
        for seed, beginning in zip(seeds, beginnings, strict=True):
            why = fits(whole, self.order, beginning)
            if why:
                raise NotCarried(why)
            try:
                rows.append(end(whole, self.order, beginning, seed))
            except UnstuckError as error:
                raise NotCarried(str(error)) from None
        runs = _runs(rows, self.success, (time.monotonic() - began) / len(rows))
        p = fisher(torch.successes, len(torch), runs.successes, len(runs))
        if p < UNLIKELY:
            raise NotCarried(
                f"{runs.successes} of {len(runs)} runs succeed on the engine and {torch.successes} of "
                f"{len(torch)} in PyTorch (p = {p:.2g}): not the same training"
            )
        return runs, f"{torch.successes}/{len(torch)} in PyTorch"


def with_engine(result: TrialResult, carry: Carry) -> TrialResult:
    """A finished trial, with what the engine adds to it.

    Args:
        result: of the trial.
        carry: trains its arms; with 0 seeds nothing is added.
    """
    if not carry.seeds or result.interrupted or result.unchanged is None or not result.verdicts:
        return result
    arms: dict[str | None, Runs] = {None: result.unchanged}
    arms |= {one.treatment: result.arms[one.treatment] for one in result}
    return replace(result, engine=carry.run(arms))


def _at_the_start(treatment: str) -> bool:
    return any(part.kind in AT_THE_START for part in parts(treatment))


def _difference(whole: Seen) -> str:
    """Where the engine's first losses differ from PyTorch's by more than rounding; empty where they do not.

    How much rounding can do is measured: the engine trains again from weights that differ in their last bits.
    """
    try:
        own = first_losses(whole)
        others = [first_losses(whole, turn) for turn in range(DISTURBED)]
    except UnstuckError as error:
        return str(error)
    theirs = whole.losses
    for step in range(min(own.size, *(one.size for one in others))):
        one, other = own[step], theirs[step]
        if not np.isfinite(one) or not np.isfinite(other):
            return "" if np.isfinite(one) == np.isfinite(other) else _told(step, one, other)
        rounding = max(abs(disturbed[step] - one) for disturbed in others)
        if rounding > 0.05 * abs(one) and step >= ENOUGH:
            return ""  # from here on nobody can foresee it
        if abs(one - other) > SLACK * rounding + 1e-5 * abs(other) + 1e-7 * abs(theirs[0]):
            return _told(step, one, other)
    return ""


def _told(step: int, own: float, theirs: float) -> str:
    return (
        f"at step {step + 1} its loss is {own:.6g} on the engine and {theirs:.6g} in PyTorch, from the same "
        "weights and samples: not the same training"
    )


def _runs(rows: Sequence[Row], success: Success, seconds: float) -> Runs:
    good = [success.met(row) for row in rows]
    return Runs(
        success=np.array(good, dtype=np.bool_),
        loss=np.array([np.nan if row.loss is None else row.loss for row in rows]),
        outcome=tuple(
            "success" if won else "diverged" if row.loss is None else "stuck"
            for row, won in zip(rows, good, strict=True)
        ),
        seconds=np.full(len(rows), seconds),
    )


def fisher(first: int, of_first: int, second: int, of_second: int) -> float:
    """Fisher's exact test of two independent counts, two-sided.

    Args:
        first: successes of the first group.
        of_first: its size.
        second: successes of the second.
        of_second: its size.

    Returns:
        The probability of tables no likelier than this one, given the margins.

    Example:
        >>> round(fisher(0, 6, 100, 200), 3), fisher(0, 5, 0, 200)
        (0.029, 1.0)
    """
    from scipy.stats import hypergeom

    total, wins = of_first + of_second, first + second
    possible = np.arange(max(0, wins - of_second), min(wins, of_first) + 1)
    chances = hypergeom.pmf(possible, total, wins, of_first)
    own = chances[first - possible[0]]
    return min(1.0, float(chances[chances <= own * (1 + 1e-9)].sum()))
