"""Two faults at once: are both named? Each of the two does harm alone, or the pair is left out.

python benchmarks/calibration/pairs.py --pairs 120 --out DIR     train (or go on), diagnose, tell
... --first 1000    other trainings: number 1000 is the first
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from labelled import LABEL, LEARNS, Label, load, write
from measure import Case, judged, share

UNSEEN = frozenset({"permuted labels", "same batch for ever", "softmax over the batch"})
"""Faults that no measurement of a plain run shows: left out."""
RATES = frozenset({"rate too high", "rate too low"})
"""Two that take each other back."""
BOTH = "both"


@dataclass(frozen=True)
class Pair:
    """What was said of a training with two faults."""

    names: tuple[str, str]
    codes: tuple[tuple[str, ...], tuple[str, ...]]
    case: Case

    @property
    def named(self) -> tuple[bool, bool]:
        """Which of the two are among the errors and warnings."""
        first, second = (bool(set(codes) & set(self.case.alarms)) for codes in self.codes)
        return first, second


def make(count: int, out: Path, first: int = 0) -> None:
    """Train until so many pairs are there, one after another; goes on where it stopped."""
    import torch
    from faults import FAULTS
    from spec import draw
    from train import train

    torch.set_num_threads(1)
    usable = [fault for fault in FAULTS if fault.name not in UNSEEN]
    for number in range(first, first + count):
        folder = out / f"{number:05d}"
        if (folder / "done").exists():
            continue
        rng = np.random.default_rng(700_000 + number)
        while True:
            spec = draw(rng)
            chosen = rng.choice(len(usable), 2, replace=False)
            a, b = (usable[int(i)] for i in chosen)
            if set(a.codes) & set(b.codes) or not a.fits(spec):
                continue
            one = a.inject(spec, rng)
            if not b.fits(one) or not b.fits(spec):
                continue
            other, together = b.inject(spec, rng), b.inject(one, rng)
            if set(together.faults) != set(one.faults) | set(other.faults):
                continue
            healthy = train(spec, number).score
            if not healthy >= LEARNS:
                continue
            alone = [train(each, number) for each in (one, other)]
            labels = [Label(number, "x", (), each.score, healthy, "", each.crashed) for each in alone]
            if all(label.truth == "harmed" for label in labels):
                break
        both = train(together, number)
        words = f"{a.name} + {b.name}"
        write(
            folder / BOTH,
            both.recording,
            Label(number, words, (*a.codes, *b.codes), both.score, healthy, spec.data.name, both.crashed),
        )
        (folder / BOTH / "pair.json").write_text(
            json.dumps({"names": [a.name, b.name], "codes": [a.codes, b.codes]}), encoding="utf-8"
        )
        (folder / "done").touch()
        print(f"{number} {words}: {both.score:.2f} of {healthy:.2f}", flush=True)


def pairs(out: Path) -> list[Pair]:
    """All that are finished, diagnosed."""
    found: list[Pair] = []
    told = [json.loads((path.parent / "pair.json").read_text()) for path in sorted(out.glob(f"*/*/{LABEL}"))]
    for (label, recordings), pair in zip(load(out), told, strict=True):
        if label.truth == "harmed" and not set(pair["names"]) <= RATES:
            codes = tuple(tuple(one) for one in pair["codes"])
            found.append(Pair(tuple(pair["names"]), codes, judged(label, recordings)))
    return found


def table(found: Sequence[Pair]) -> list[str]:
    """How often both, one or none of two faults is named, and which stay unnamed beside which."""
    number = len(found)
    counts = Counter(sum(pair.named) for pair in found)
    lines = ["| of two faults at once | trainings |", "|---|---|"]
    lines += [
        f"| {words} | {share(counts[n], number)} |"
        for n, words in ((2, "both are named"), (1, "one is named"), (0, "none is named"))
    ]
    missed = Counter(pair.names[i] for pair in found for i in (0, 1) if not pair.named[i])
    total = Counter(name for pair in found for name in pair.names)
    lines += ["", "| fault | in pairs | not named |", "|---|---|---|"]
    lines += [f"| {name} | {total[name]} | {count} |" for name, count in missed.most_common()]
    return lines


def main() -> None:
    """Train, diagnose, tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    make(given.pairs, given.out, given.first)
    found = pairs(given.out)
    print("\n".join(table(found)))
    for pair in found if given.list else ():
        if not all(pair.named):
            print(pair.case.label.number, pair.names, pair.named, pair.case.alarms, pair.case.label.about)


if __name__ == "__main__":
    main()
