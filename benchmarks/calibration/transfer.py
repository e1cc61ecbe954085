"""Do the rules hold for programs in other styles? Trains those of `programs.py`, with and without faults.

python benchmarks/calibration/transfer.py --seeds 3 --out DIR     then measure.py --out DIR tells
"""

import argparse
import math
import multiprocessing
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kit import FAULTS, Kit
from labelled import LEARNS, Label, write
from programs import PROGRAMS, Program

from unstuck import record


def run(make: Program, kit: Kit) -> tuple[Any, float, float, str]:
    """Its recording, and its loss before and after."""
    kept: list[Any] = []

    def watch(net: Any, optimizer: Any) -> Any:
        context = record(net, optimizer)
        kept.append(context)
        return context

    crashed, before, after = "", math.nan, math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            before, after = make(kit, watch)
        except (RuntimeError, ValueError, TypeError) as error:
            crashed = str(error)
    return (kept[0].recording if kept else None), before, after, crashed


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--faults", type=int, default=5, help="of each healthy training, in turn")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    names = list(PROGRAMS)
    tasks = [
        (1 + seed * len(names) + place, name, seed, given.faults, given.out)
        for seed in range(given.seeds)
        for place, name in enumerate(names)
    ]
    missing = [task for task in tasks if not (given.out / f"{task[0]:05d}" / "done").exists()]
    with multiprocessing.get_context("spawn").Pool(given.workers, maxtasksperchild=10) as pool:
        for words in pool.imap_unordered(_siblings, missing):
            print(words, flush=True)


def _siblings(task: tuple[int, str, int, int, Path]) -> str:
    """A healthy training and some with a fault; in words what came of it."""
    torch.set_num_threads(1)
    number, name, seed, count, out = task
    make, folder, rng = PROGRAMS[name], out / f"{number:05d}", np.random.default_rng(number)
    recording, start, end, crashed = run(make, Kit(seed))
    learned = (start - end) / start
    about = f"{name}, seed {seed}, from {start:.3g} to {end:.3g}"
    if crashed or learned < LEARNS:
        return f"{number} {about}: does not learn without a fault {crashed}"
    write(folder / "healthy", recording, Label(number, "", (), learned, learned, about))
    names = list(FAULTS)
    for i in range(count):
        fault = names[(number * count + seed + i) % len(names)]
        codes, (low, high) = FAULTS[fault]
        size = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        recording, _, worse, crashed = run(make, Kit(seed, fault, size))
        if recording is None or "unexpected keyword" in crashed:
            continue  # the fault does not fit this program
        score = (start - worse) / start if math.isfinite(worse) else math.nan
        told = f"{about}; {fault} {size:.3g}: {worse:.3g}"
        write(folder / f"faulty-{i}", recording, Label(number, fault, codes, score, learned, told, crashed))
    (folder / "done").touch()
    return f"{number} {about}"


if __name__ == "__main__":
    main()
