"""Trainings and what is true of them: made once, diagnosed as often as rules change."""

import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unstuck import Recording

LEARNS = 0.3
"""Score from which a training without a fault counts as healthy; others are left out."""
HARMED = 0.5
"""A fault that leaves less than this part of the sibling's score did harm."""
HARMLESS = 0.9
"""... and one that leaves more than this did none: it is no fault."""
LABEL = "label.json"


@dataclass(frozen=True)
class Label:
    """What is true of a training."""

    number: int
    fault: str
    """Empty for the healthy sibling."""
    codes: tuple[str, ...]
    """Findings that name the fault rightly."""
    score: float
    sibling: float
    """Score of the same training without the fault: what un-injecting it gives."""
    about: str
    crashed: str = ""

    @classmethod
    def read(cls, path: Path) -> "Label":
        """One that was kept."""
        told = json.loads(path.read_text(encoding="utf-8"))
        told["score"] = math.nan if told["score"] is None else told["score"]
        told["codes"] = tuple(told["codes"])
        return cls(**told)

    @property
    def truth(self) -> str:
        """harmed, healthy, or neither: a fault that did a little harm is no ground for judging anybody."""
        if not self.fault:
            return "healthy" if self.score >= LEARNS else "neither"
        if self.crashed or not self.score > HARMED * self.sibling:
            return "harmed"
        return "healthy" if self.score >= HARMLESS * self.sibling else "neither"

    @property
    def half(self) -> int:
        """0: bounds may be chosen on it; 1: held back. By the number, so siblings stay together."""
        return int(np.random.default_rng(self.number).integers(2))


def make(count: int, out: Path, workers: int, both: Callable[[tuple[int, Path]], int] | None = None) -> None:
    """Train `count` healthy trainings that learn, each with a faulty sibling; goes on where it stopped.

    Args:
        count: of pairs.
        out: a folder for each pair.
        workers: processes.
        both: makes a pair, by its number, and returns that; by default one in PyTorch.
    """
    out.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not (out / f"{number:05d}" / "done").exists()]
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=40) as pool:
        tasks = [(number, out) for number in missing]
        for place, number in enumerate(pool.imap_unordered(both or _both, tasks)):
            print(f"\r{place + 1} of {len(missing)} (number {number})", end="", flush=True)
    print()


def _both(task: tuple[int, Path]) -> int:
    """A healthy training that learns, and the same with a fault."""
    import torch
    from faults import FAULTS
    from spec import draw
    from train import train

    torch.set_num_threads(1)
    number, out = task
    rng = np.random.default_rng(1000 + number)
    folder = out / f"{number:05d}"
    while True:
        spec = draw(rng)
        fault = FAULTS[number % len(FAULTS)]
        if not fault.fits(spec):
            continue
        healthy = train(spec, number)
        if healthy.score >= LEARNS:
            break
    faulty_spec = fault.inject(spec, rng)
    faulty = train(faulty_spec, number)
    write(
        folder / "healthy",
        healthy.recording,
        Label(number, "", (), healthy.score, healthy.score, about(spec)),
    )
    label = Label(
        number, fault.name, fault.codes, faulty.score, healthy.score, about(faulty_spec), faulty.crashed
    )
    write(folder / "faulty", faulty.recording, label)
    (folder / "done").touch()
    return number


def about(spec: Any) -> str:
    """A training in words."""
    values = {key: value for key, value in asdict(spec).items() if key != "task"}
    return f"{spec.data.name}: " + ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )


def write(folder: Path, recording: Recording, label: Label) -> None:
    """A training's folder, its label last."""
    recording.save(folder)
    keep(folder, label)


def keep(folder: Path, label: Label) -> None:
    """What is true of the training in a folder."""
    told = asdict(label)
    told["score"] = None if math.isnan(label.score) else label.score
    temporary = folder / f".{LABEL}.{os.getpid()}"
    temporary.write_text(json.dumps(told), encoding="utf-8")
    temporary.replace(folder / LABEL)


def load(out: Path) -> Iterator[tuple[Label, list[Recording]]]:
    """All that are finished."""
    return (found for found in map(read, finished(out)) if found is not None)


def finished(out: Path) -> list[Path]:
    """The labels that are there."""
    return sorted(out.glob(f"*/*/{LABEL}"))


def read(path: Path) -> tuple[Label, list[Recording]] | None:
    """A label and its recordings, if there are any: a script may have trained several networks in turn."""
    folders = [path.parent, *sorted(path.parent.glob("[0-9]*"))]
    found = [Recording.load(folder) for folder in folders if (folder / "meta.json").exists()]
    return (Label.read(path), found) if found else None
