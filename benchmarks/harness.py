"""What the benchmarks share: programs take turns in one process; medians; a table; the machine's peak.

CPU seconds are those of the whole process, all threads; a program must be idle when it is not its turn. On a
shared machine CPU time and ratios from one run can be compared, wall time hardly, figures from two runs not
at all.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np

from unstuck.nn.kernels.vectors import BYTES, fma, load, splat, store


@dataclass
class Program:
    """One way of training the same thing: `run(n)` makes n steps, `loss()` says where it has come."""

    name: str
    run: Callable[[int], None]
    loss: Callable[[], float]
    samples: int
    """Samples in a step."""
    tolerance: float = 1e-4
    """Relative difference of the loss from ours that rounding explains."""
    steps: int = 1
    """Steps in a turn, chosen so that a turn is long enough to be timed."""
    turns: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """CPU and wall seconds of each turn."""

    def turn(self) -> None:
        """Run and take the time."""
        cpu, wall = time.process_time(), time.perf_counter()
        self.run(self.steps)
        self.turns.append((time.process_time() - cpu, time.perf_counter() - wall))

    def rate(self, clock: int) -> float:
        """Samples a second, median of the turns; clock 0: CPU, 1: wall."""
        return self.samples * self.steps / statistics.median(turn[clock] for turn in self.turns)


def options(description: str, sizes: str) -> argparse.Namespace:
    """The options that all benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short turns, few rounds")
    parser.add_argument("--sizes", default=sizes, help=f"comma-separated, default {sizes}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="comma-separated parts of names; ours always runs")
    return parser.parse_args()


def collect(makers: dict[str, Callable[..., Program | None]], only: str, *arguments: Any) -> list[Program]:
    """Make the programs whose library is installed and works; the first is ours."""
    wanted = [part for part in only.split(",") if part]
    found = list[Program]()
    for number, (name, make) in enumerate(makers.items()):
        if number and wanted and not any(part in name for part in wanted):
            continue
        begin = time.perf_counter()
        try:
            program = make(*arguments)
            if program is None:
                continue
            program.run(1)
        except Exception as error:  # noqa: BLE001  a peer that does not work here is left out, and said so
            print(f"  {name}: left out, {type(error).__name__}: {str(error).splitlines()[0][:90]}")
            continue
        program.name = name
        print(f"  {name}: first step after {time.perf_counter() - begin:.1f} s", flush=True)
        found.append(program)
    return found


def check(programs: Sequence[Program], steps: int = 4) -> None:
    """All have made one step; after a few more they must have the same loss.

    Raises:
        SystemExit: a program computes something else.
    """
    ours = programs[0]
    for program in programs:
        program.run(steps)
    expected = ours.loss()
    for program in programs:
        gap = abs(program.loss() - expected) / expected
        if not gap < program.tolerance:
            raise SystemExit(f"{program.name}: loss {program.loss():.6f}, ours {expected:.6f}")


def compare(programs: Sequence[Program], *, quick: bool) -> None:
    """Let all take turns, in another order each round."""
    seconds, rounds = (0.1, 3) if quick else (0.5, 9)
    for program in programs:
        spent = 0.0
        while spent < seconds / 4 and program.steps < 10**7:
            begin = time.process_time()
            program.run(program.steps)
            spent = time.process_time() - begin
            program.steps = max(1, math.ceil(program.steps * min(10, seconds / max(spent, 1e-5))))
    shuffled = np.random.default_rng(0)
    for _ in range(rounds):
        for index in shuffled.permutation(len(programs)):
            programs[index].turn()


def table(title: str, programs: Sequence[Program], flops: float | None, peak: float) -> str:
    """Markdown: samples a second, ours over theirs, share of the peak; `flops`: of one sample's training."""
    ours = programs[0]
    lines = [
        f"**{title}**; peak {peak / 1e9:.0f} GF/s a core",
        "",
        "| program | samples / CPU s | samples / s | ours is faster by (CPU) | of peak |",
        "|---|---|---|---|---|",
    ]
    for program in sorted(programs, key=lambda program: -program.rate(0)):
        share = "" if flops is None else f"{100 * program.rate(0) * flops / peak:.0f} %"
        ratio = ours.rate(0) / program.rate(0)
        name = f"**{program.name}**" if program is ours else program.name
        lines.append(f"| {name} | {program.rate(0):.3g} | {program.rate(1):.3g} | {ratio:.2f} | {share} |")
    return "\n".join(lines)


@numba.njit(boundscheck=False)
def _multiply(array, rounds):  # noqa: ANN001, ANN202  Numba's types
    m, c = splat(array, 0.999), splat(array, 1e-3)
    w = BYTES // 4
    x0, x1, x2, x3, x4 = (
        load(array, 0),
        load(array, w),
        load(array, 2 * w),
        load(array, 3 * w),
        load(array, 4 * w),
    )
    x5, x6, x7, x8, x9 = x0 + m, x1 + m, x2 + m, x3 + m, x4 + m
    for _ in range(rounds):
        x0, x1, x2, x3, x4 = fma(x0, m, c), fma(x1, m, c), fma(x2, m, c), fma(x3, m, c), fma(x4, m, c)
        x5, x6, x7, x8, x9 = fma(x5, m, c), fma(x6, m, c), fma(x7, m, c), fma(x8, m, c), fma(x9, m, c)
    store(array, 0, ((x0 + x1) + (x2 + x3)) + (((x4 + x5) + (x6 + x7)) + (x8 + x9)))


def peak() -> float:
    """Float operations a second of one core, multiply-adds in registers: the best of some turns."""
    array, rounds = np.ones(80, np.float32), 2_000_000
    _multiply(array, 10)
    best = 0.0
    for _ in range(5):
        begin = time.process_time()
        _multiply(array, rounds)
        best = max(best, rounds * 10 * 2 * (BYTES // 4) / (time.process_time() - begin))
    return best
