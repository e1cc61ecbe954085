"""Whole scripts as people write them, with mistakes as people make them: run each as `unstuck run` does.

python benchmarks/calibration/unseen.py --out DIR     then measure.py --out DIR tells

The scripts in `scripts/` know nothing of any diagnosis; the last number that one prints is its own yardstick.
"""

import argparse
import contextlib
import math
import multiprocessing
import os
import re
import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelled import Label, keep

SCRIPTS = Path(__file__).with_name("scripts")
SEEDS = 3
_NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:e[-+]?\d+)?|nan", re.IGNORECASE)


@dataclass(frozen=True)
class Variant:
    """A script with or without a mistake."""

    number: int
    script: str
    seed: int
    chance: float
    fault: str = ""
    codes: tuple[str, ...] = ()
    old: str = ""
    new: str = ""

    def folder(self, out: Path) -> Path:
        """Where its recording lies."""
        words = re.sub(r"[^a-z0-9]+", "-", self.fault.lower()).strip("-") or f"healthy-{self.seed}"
        return out / self.script / words

    def text(self) -> str:
        """The program."""
        text = (SCRIPTS / f"{self.script}.py").read_text(encoding="utf-8")
        if self.old and self.old not in text:
            raise ValueError(f"{self.script}: {self.fault}: its text is not there")
        return text.replace(self.old, self.new) if self.old else text


def _table() -> dict[str, Any]:
    return tomllib.loads((SCRIPTS / "faults.toml").read_text(encoding="utf-8"))


def halves() -> list[str]:
    """Names of the sets of scripts, in order of time."""
    return list(dict.fromkeys(told.get("half", "first") for told in _table().values()))


def variants(seeds: int = SEEDS, faults: int | None = None, half: str = "") -> list[Variant]:
    """Every script healthy with some seeds, and with each of its mistakes, or with the first few.

    Args:
        seeds: of each healthy script.
        faults: the first so many of each script.
        half: only scripts of this half, as `faults.toml` has it ("first" for those that have none).
    """
    table = _table()
    found: list[Variant] = []
    for place, (script, told) in enumerate(table.items()):
        if half not in {"", told.get("half", "first")}:
            continue
        number, chance = 10_000 + place, float(told["chance"])
        found += [Variant(number, script, seed, chance) for seed in range(seeds)]
        found += [
            Variant(
                number,
                script,
                i % seeds,
                chance,
                fault["name"],
                tuple(fault["codes"]),
                fault["old"],
                fault["new"],
            )
            for i, fault in enumerate(told["faults"][:faults])
        ]
    return found


def train(variant: Variant, out: Path) -> tuple[float, str]:
    """Run it watched, in a process of its own; returns what it says of itself, and how it failed."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_watched, args=(variant, out, writer))
    child.start()
    writer.close()
    try:
        printed, failed = reader.recv()
    except EOFError:
        printed, failed = "", "the process died"
    child.join()
    numbers = _NUMBER.findall(printed)
    score = float(numbers[-1]) if numbers and not failed else math.nan
    return (score - variant.chance) / (1 - variant.chance), failed


def _watched(variant: Variant, out: Path, writer: Any) -> None:
    from unstuck.sources.script.run import WatchOptions, run_script

    folder = variant.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    program, said = folder / f"{variant.script}.py", folder / "said.txt"
    program.write_text(variant.text(), encoding="utf-8")
    warnings.simplefilter("ignore")
    with said.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        result = run_script(program, [str(variant.seed)], WatchOptions(folder=folder))
    writer.send((said.read_text(encoding="utf-8"), str(result.error or "") if result.failed else ""))
    os._exit(0)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="a script")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th script, from the i-th")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--faults", type=int, help="the first so many of each script")
    parser.add_argument(
        "--half",
        default="",
        choices=["", *halves()],
        help="of the scripts, as faults.toml has it; all of them if left out",
    )
    given = parser.parse_args()
    import sklearn.datasets  # what every script needs is loaded once
    import torch

    import unstuck.sources.script.run

    del sklearn, unstuck
    torch.set_num_threads(1)
    healthy: dict[tuple[str, int], float] = {}
    part, parts = (int(word) for word in given.part.split("/"))
    for variant in variants(given.seeds, given.faults, given.half):
        if given.only not in {"", variant.script} or variant.number % parts != part:
            continue
        learned = math.nan
        if not variant.fault or not (variant.folder(given.out) / "label.json").exists():
            known = given.out / variant.script / f"healthy-{variant.seed}" / "label.json"
            if variant.fault or not known.exists():
                learned, failed = train(variant, given.out)
                sibling = learned if not variant.fault else healthy[variant.script, variant.seed]
                about = f"{variant.script}, seed {variant.seed}"
                label = Label(variant.number, variant.fault, variant.codes, learned, sibling, about, failed)
                keep(variant.folder(given.out), label)
                print(f"{about}: {variant.fault or 'healthy'} {learned:.3f} {failed}", flush=True)
            else:
                learned = Label.read(known).score
        if not variant.fault:
            healthy[variant.script, variant.seed] = learned


if __name__ == "__main__":
    main()
