"""Choose the bounds of the rules on one half of the labelled trainings; tell what that did on the other half.

    python benchmarks/calibration/bounds.py --generated DIR --programs DIR --engine DIR [--scripts DIR ...]
    ... --write    and write diagnose/bounds.toml, and bounds.md, a part of the page of error rates

Every bound is tried at multiples from a tenth to ten (of bounds below 1: of their odds), the others as they
are; not those of the outcome, as the labels go by the same numbers. It moves only where the trainings that it
decides speak for that: more of them told rightly by it than wrongly (sign test, 1 %), and a smaller cost,
of which a false alarm is worth three misses; and no farther than most of the gain needs. Where many values
are as good, the bound stays what theory, or the field, says, and the range is noted beside it.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from bounds_file import write_bounds
from labelled import Label, finished, read
from measure import Case, judged, share
from noted import Key, changed, crossed, keys, noting, value
from scipy.stats import binomtest

from unstuck import Recording
from unstuck.diagnose.bounds import Bounds, load_bounds

PART = Path(__file__).with_name("bounds.md")
MULTIPLES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2, 1.4, 2.0, 3.0, 5.0, 10.0)
ALARM = 3.0
"""Misses that a false alarm is worth."""
OUTCOME, MEANT = "outcome", "by definition"
"""What learning is; the labels say it with the same numbers, and healthy is what gained 30 % at least."""
LIMITS: dict[Key, tuple[float, float]] = {("rate", "times"): (1.0, 9.0), ("norm", "values"): (4.0, np.inf)}
"""Where a bound would say nothing any more: ten times the rate cannot do more than ten times as much, and a
mean over two numbers is one over too few."""
MOST_OF_IT = 0.8
"""Part of the largest gain for which a bound need not move farther."""
NOTHING, THEORY = "decides nothing", "by theory"
SURE = 0.01
"""Chance at most that the trainings which a move of a bound decides would speak for it as clearly by luck."""
HEAD = """Bounds of the rules, read by unstuck.diagnose.bounds; written by benchmarks/calibration/bounds.py.
Chosen at commit {commit} on {counts}:
first half by number, of 0 to {generated} (generated), {programs} (programs), {first} to {engine} (engine).
In braces: the range, from a tenth to ten times the value, in which these trainings are told no worse;
"decides nothing" where every one is told the same in all of it, "by theory" where none of them compares
anything with it, "by definition" where their labels go by it."""
INTRO = """## Where the bounds come from

`python benchmarks/calibration/bounds.py --generated DIR --programs DIR --engine DIR --scripts DIR... --write`
wrote `diagnose/bounds.toml`. Each bound was moved from a tenth to ten times what it was, on the first half of
the trainings ({counts}), and stayed where it was unless the
trainings that it decides spoke against that (sign test, 1 %; a false alarm is worth three misses). {moved}
The range that is as good stands beside each bound; {free} of {all} decide none of these trainings between a
tenth and ten times their value. The other halves, and the scripts, had no say."""


@dataclass
class Training:
    """A labelled training, what was said of it, and what that depends on."""

    of: str
    label: Label
    recordings: list[Recording]
    case: Case = field(init=False)
    notes: dict[Key, np.ndarray] = field(default_factory=dict[Key, np.ndarray])

    def diagnose(self, bounds: Bounds) -> None:
        """Diagnose it with these bounds, and note which of them matter."""
        noted, notes = noting(bounds)
        case = judged(self.label, self.recordings, noted)
        self.case = judged(self.label, self.recordings, bounds)
        if case != self.case:  # a number that notes was not taken for a number: nothing is known
            notes = {key: [np.nan] for key in notes}
        self.notes = {key: np.array(sorted(set(seen))) for key, seen in notes.items() if seen}

    def moved(self, bounds: Bounds, key: Key, to: float) -> Case:
        """What would be said with another bound."""
        notes = self.notes.get(key)
        if notes is None or not crossed(notes, value(bounds, key), to):
            return self.case
        return judged(self.label, self.recordings, changed(bounds, key, to))


@dataclass(frozen=True)
class Move:
    """What another value of a bound would change."""

    to: float
    cost: float
    """Added to what it is."""
    better: int
    worse: int

    @property
    def sure(self) -> bool:
        """Whether that is more than luck."""
        total = self.better + self.worse
        return self.cost < 0 and total > 0 and binomtest(self.better, total, 0.5, "greater").pvalue < SURE


def good(case: Case) -> bool:
    """Whether a training is told rightly."""
    return not case.false if case.label.truth == "healthy" else case.rank == 1


def weights(trainings: Sequence[Training]) -> dict[tuple[str, str], float]:
    """What a mistake costs, by set and truth: each set counts as much as any other."""
    counts: dict[tuple[str, str], int] = {}
    for one in trainings:
        which = one.of, one.label.truth
        counts[which] = counts.get(which, 0) + 1
    return {which: (ALARM if which[1] == "healthy" else 1.0) / count for which, count in counts.items()}


def grid(key: Key, now: float) -> list[float]:
    """Values to be tried, in order."""
    low, high = LIMITS.get(key, (-np.inf, np.inf))
    return sorted({min(max(one, low), high) for one in _multiples(now)})


def _multiples(now: float) -> list[float]:
    odds = now / (1 - now) if now < 1 else now
    tried = [odds * times for times in MULTIPLES]
    if isinstance(now, int):
        return sorted({max(1, round(one)) for one in tried} | {now})
    return [
        now if times == 1 else one / (1 + one) if now < 1 else one
        for times, one in zip(MULTIPLES, tried, strict=True)
    ]


def moves(trainings: Sequence[Training], bounds: Bounds, key: Key) -> Iterator[Move]:
    """What each value of a bound would do."""
    costs = weights(trainings)
    for to in grid(key, value(bounds, key)):
        cost, better, worse = 0.0, 0, 0
        for one in trainings:
            was, now = good(one.case), good(one.moved(bounds, key, to))
            better += now and not was
            worse += was and not now
            cost += costs[one.of, one.label.truth] * (was - now)
        yield Move(to, cost, better, worse)


def as_good(found: Sequence[Move], chosen: float) -> tuple[Move, Move]:
    """The ends of the range around a value in which nothing is worse than there."""
    place = next(i for i, move in enumerate(found) if move.to == chosen)
    most = found[place].cost + 1e-12
    low = high = place
    while low and found[low - 1].cost <= most:
        low -= 1
    while high + 1 < len(found) and found[high + 1].cost <= most:
        high += 1
    return found[low], found[high]


def search(trainings: Sequence[Training], bounds: Bounds, rounds: int = 1) -> tuple[Bounds, dict[Key, str]]:
    """The bounds that these trainings speak for, and a word on each.

    Args:
        trainings: diagnosed with `bounds`.
        bounds: what they are now.
        rounds: how often all are tried; it ends where none moves.
    """
    words: dict[Key, str] = {}
    for turn in range(rounds):
        before = bounds
        for number, key in enumerate(keys(bounds), 1):
            if key[0] == OUTCOME:
                words[key] = MEANT
                continue
            depends = [one for one in trainings if key in one.notes]
            print(f"\r{turn + 1}: {number} {'.'.join(key)} ({len(depends)})".ljust(60), end="", flush=True)
            found = list(moves(trainings, bounds, key))
            now = value(bounds, key)
            best = chosen(found, now)
            if best is not None:
                print(f"\n{'.'.join(key)}: {now:g} -> {best.to:g} ({best.better} better, {best.worse} worse)")
                bounds = changed(bounds, key, best.to)
                for one in trainings:
                    one.diagnose(bounds)
            low, high = as_good(found, best.to if best else now)
            words[key] = _words(found, low, high) if depends else THEORY
        if bounds == before:
            break
    print()
    return bounds, words


def chosen(found: Sequence[Move], now: float) -> Move | None:
    """The move to make, if any: the nearest that gains most of what can be gained."""
    sure = [move for move in found if move.sure]
    enough = MOST_OF_IT * min((move.cost for move in sure), default=0.0)
    return min(
        (move for move in sure if move.cost <= enough),
        key=lambda move: abs(np.log(move.to / now)),
        default=None,
    )


def _words(found: Sequence[Move], low: Move, high: Move) -> str:
    if low is found[0] and high is found[-1]:
        return "as good anywhere" if any(move.better or move.worse for move in found) else NOTHING
    first = f"{low.to:.2g}" if low is not found[0] else f"{low.to:.2g} or less"
    last = f"{high.to:.2g}" if high is not found[-1] else f"{high.to:.2g} or more"
    return f"as good: {first} to {last}"


def trainings(of: str, out: Path, most: int = sys.maxsize) -> tuple[list[Training], list[Training]]:
    """Those of a folder that are healthy or harmed, in two halves."""
    halves: tuple[list[Training], list[Training]] = ([], [])
    for path in finished(out):
        label = Label.read(path)
        own = halves[label.half]
        if label.truth == "neither" or len(own) >= most:
            continue
        found = read(path)
        if found is not None:
            own.append(Training(of, *found))
    return halves


def told(sets: Mapping[str, Sequence[Training]], before: Bounds, after: Bounds) -> list[str]:
    """A table: every set with the old bounds and the new ones."""
    lines = [
        "| | alarms on healthy ones, before | after | named first, before | after |",
        "|---|---|---|---|---|",
    ]
    for name, own in sets.items():
        found = [[judged(one.label, one.recordings, bounds) for one in own] for bounds in (before, after)]
        cells: list[str] = []
        for truth in ("healthy", "harmed"):
            for cases in found:
                judged_ones = [case for case in cases if case.label.truth == truth]
                hits = sum(case.false if truth == "healthy" else case.rank == 1 for case in judged_ones)
                cells.append(share(hits, len(judged_ones)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Search, tell, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("generated", "programs", "engine"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--scripts", type=Path, nargs="*", default=[], help="that only report")
    parser.add_argument("--most", type=int, default=1000, help="of the engine, of each half")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    bounds = load_bounds()
    one: list[Training] = []
    sets: dict[str, Sequence[Training]] = {}
    for name in ("generated", "programs", "engine"):
        first, second = trainings(name, getattr(given, name), given.most if name == "engine" else sys.maxsize)
        one += first
        sets[f"{name}, other half"] = second
    scripts = [own for folder in given.scripts for half in trainings("scripts", folder) for own in half]
    sets["scripts"] = scripts
    print(f"{len(one)} trainings to choose on")
    for training in one:
        training.diagnose(bounds)
    new, words = search(one, bounds)
    lines = told({"first half": one, **sets}, bounds, new)
    print("\n".join(lines))
    if given.write:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            cwd=PART.parent,
        ).stdout.strip()
        by = {of: [x for x in one if x.of == of] for of in ("generated", "programs", "engine")}
        counts = ", ".join(f"{len(own)} {of}" for of, own in by.items())
        last = {of: max(x.label.number for x in own) for of, own in by.items()}
        first = min(x.label.number for x in by["engine"])
        write_bounds(new, words, HEAD.format(commit=commit, counts=counts, first=first, **last))
        rows = [
            f"{'.'.join(key)} from {value(bounds, key):g} to {value(new, key):g}"
            for key in keys(bounds)
            if value(new, key) != value(bounds, key)
        ]
        moved = f"So moved: {', '.join(rows)}." if rows else "None moved."
        free = sum(word in {NOTHING, THEORY} for word in words.values())
        intro = INTRO.format(counts=counts, moved=moved, free=free, all=len(words))
        PART.write_text("\n".join([*intro.splitlines(), "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
