"""Train networks with and without faults, diagnose them, and say how often the diagnosis is right.

    python benchmarks/calibration/measure.py --trainings 400 --out DIR    train (or go on), and tell
    python benchmarks/calibration/measure.py --out DIR                    diagnose what is there
... --save FILE    keep what was said as JSON: a first try, before rules are mended
... --list    every false alarm and every fault that was not named first
"""

import argparse
from collections import Counter, defaultdict
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from labelled import Label, finished, make, read

from unstuck import Recording
from unstuck.diagnose.bounds import Bounds
from unstuck.sources.script.diagnosis import diagnose_trainings
from unstuck.sources.script.training import Watched
from unstuck.study.statistics import wilson


@dataclass(frozen=True)
class Case:
    """A training, and what the diagnosis says of it."""

    label: Label
    status: str
    findings: tuple[tuple[str, str], ...]
    """Code and severity of the roots, in order."""
    confidences: tuple[float, ...]
    """Of errors and warnings, in order."""
    unchecked: tuple[str, ...] = ()
    """Rules that could not judge it."""

    @property
    def alarms(self) -> list[str]:
        """Codes of errors and warnings, in order."""
        return [code for code, severity in self.findings if severity != "info"]

    @property
    def false(self) -> bool:
        """Whether it alarms though nothing is wrong; a fault that is there but does no harm may be named."""
        return self.label.truth == "healthy" and any(code not in self.label.codes for code in self.alarms)

    @property
    def rank(self) -> int:
        """Place of the first finding that names the fault, from 1; 0: none does."""
        places = [place for place, code in enumerate(self.alarms, 1) if code in self.label.codes]
        return places[0] if places else 0


def judged(label: Label, recordings: list[Recording], bounds: Bounds | None = None) -> Case:
    """What the diagnosis says of a program's trainings; with other bounds than those that ship, if given."""
    diagnosis, _ = diagnose_trainings([Watched(one) for one in recordings], bounds=bounds)
    return Case(
        label,
        diagnosis.status,
        tuple((finding.code, finding.severity) for finding in diagnosis.findings),
        tuple(one.confidence for one in diagnosis.findings if one.severity != "info"),
        tuple(skipped.code for skipped in diagnosis.not_checked),
    )


def cases(out: Path, workers: int = 1) -> list[Case]:
    """Every training diagnosed, by so many processes."""
    paths = finished(out)
    if workers == 1:
        found = list(map(_case, paths))
    else:
        with get_context("spawn").Pool(workers) as pool:
            found = pool.map(_case, paths, chunksize=50)
    return [case for case in found if case is not None]


def _case(path: Path) -> Case | None:
    found = read(path)
    return None if found is None else judged(*found)


def share(part: int, whole: int) -> str:
    """A share with its interval."""
    if not whole:
        return "–"
    interval = wilson(part, whole)
    return f"{part} of {whole} ({part / whole:.0%}; {interval.low:.0%} to {interval.high:.0%})"


def tell(found: list[Case], *, everything: bool) -> None:
    """Tables."""
    healthy = [case for case in found if case.label.truth == "healthy"]
    harmed = [case for case in found if case.label.truth == "harmed"]
    alarmed = [case for case in healthy if case.false]
    print(f"\nfalse alarms: {share(len(alarmed), len(healthy))}")
    print(f"named at rank 1: {share(sum(case.rank == 1 for case in harmed), len(harmed))}")
    print(f"among the first three: {share(sum(1 <= case.rank <= 3 for case in harmed), len(harmed))}")
    noticed = sum(case.status in {"faulty", "no known cause"} for case in harmed)
    print(f"noticed (faulty, or no known cause): {share(noticed, len(harmed))}\n")
    print("| fault | harmed | first | in three | what stands first |\n|---|---|---|---|---|")
    by_fault: dict[str, list[Case]] = defaultdict(list)
    for case in harmed:
        by_fault[case.label.fault].append(case)
    for fault, own in sorted(by_fault.items()):
        firsts = Counter((case.alarms or [case.status])[0] for case in own)
        words = ", ".join(f"{code} {count}" for code, count in firsts.most_common(4))
        print(
            f"| {fault} | {len(own)} | {sum(case.rank == 1 for case in own)} | "
            f"{sum(1 <= case.rank <= 3 for case in own)} | {words} |"
        )
    if everything:
        for case in alarmed:
            print(
                f"false alarm {case.label.number} {case.label.fault}: {case.findings}\n    {case.label.about}"
            )
        for case in harmed:
            if case.rank != 1:
                print(
                    f"missed {case.label.number} {case.label.fault} ({case.label.score:.2f} of "
                    f"{case.label.sibling:.2f}): {case.status} {case.findings}\n    {case.label.about}"
                )


def arguments(words: str | None) -> argparse.ArgumentParser:
    """What all that train and tell are asked.

    Args:
        words: what `--help` says first.
    """
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainings", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    return parser


def main() -> None:
    """Train, diagnose, tell."""
    parser = arguments(__doc__)
    given = parser.parse_args()
    if given.trainings:
        make(given.trainings, given.out, given.workers)
    found = cases(given.out)
    tell(found, everything=given.list)


if __name__ == "__main__":
    main()
