"""Before a trial: the script is watched once, and run a few times to see how it varies and what it costs."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.project import Project
from unstuck.errors import UnstuckError
from unstuck.prove.script.launch import Launcher
from unstuck.prove.script.row import Row, Task
from unstuck.prove.script.store import Store
from unstuck.prove.script.subject import AGAIN, ScriptSubject
from unstuck.sources.script.diagnosis import diagnose_trainings
from unstuck.sources.script.training import Watched
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Location

PILOT = (900_001, 900_002, 900_003)
"""Seeds of the runs that the criterion is read off: no trial uses them."""
TWICE = 900_001
"""The seed that is run a second time, to see whether it determines the run."""


@dataclass(frozen=True)
class Watch:
    """What one watched run of the unchanged script showed."""

    diagnosis: Diagnosis
    training: Watched
    row: Row


def watch(task: Task, launcher: Launcher, store: Store, rules: Project) -> Watch:
    """Run the unchanged script once as it stands, with its own seeds, and diagnose it.

    Args:
        task: the script.
        launcher: starts its process.
        store: keeps the recording.
        rules: those of the project.

    Raises:
        UnstuckError: nothing that trains was seen, or the script writes to a fixed place.
    """
    folder = store.folder / "watched"
    row = store.get("watched", None)
    if row is None or not folder.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        own = msgspec.structs.replace(task, seed=None, treatment=None, probe=True, recording=str(folder))
        row = launcher.run(own)
        row = msgspec.structs.replace(row, treatment="watched")
        name = task.name or task.script
        if row.wrote:
            raise UnstuckError(
                f"{name}: it writes to {row.wrote}, a fixed place that all runs of a trial would share; "
                "expected files in its own folder (a relative path): give it another place by its arguments"
            )
        if not row.trainings:
            told = row.error or row.unseen.removeprefix(f"{name}: ") or "no training was seen"
            raise UnstuckError(f"{name}: {told}")
        if row.ending != "interrupted":
            store.put(row)
    trainings = [_load(one.folder, one.file, one.line, one.number) for one in row.trainings]
    found, training = diagnose_trainings(trainings, rules.select, rules.ignore, rules.bounds)
    return Watch(rules.judged(found, launcher.folder), training, row)


def _load(folder: str, file: str, line: int, number: int) -> Watched:
    place = Location(file=file, line=line) if file else None
    return Watched(Recording.load(Path(folder)), place, number)


@dataclass(frozen=True)
class Pilot:
    """A few runs of the unchanged script, from which the criterion and the cost are read off."""

    rows: tuple[Row, ...]
    again: Row
    """The first seed once more."""

    @property
    def repeatable(self) -> bool:
        """Whether a seed determines a run: its end, and its loss to a thousandth.

        Not bit for bit: where an array lies in memory may change the last bit of a sum.
        """
        first, again = self.rows[0], self.again
        if first.fingerprint == again.fingerprint:
            return first.ending == again.ending
        if first.loss is None or again.loss is None:  # diverged: the first loss is what can be compared
            alike = first.ending == again.ending and (first.loss is None) == (again.loss is None)
            return alike and _close(first.start, again.start)
        return _close(first.loss, again.loss)

    @property
    def random(self) -> bool:
        """Whether another seed gives another run: without that, a hundred seeds are one."""
        return len({row.fingerprint for row in self.rows if row.fingerprint}) != 1 or len(self.rows) == 1

    @property
    def seconds(self) -> float:
        """What a run takes, on average, with the start of its process."""
        known = [row.seconds for row in (*self.rows, self.again)]
        return sum(known) / len(known) + STARTUP

    @property
    def step_seconds(self) -> float | None:
        """What an optimiser step takes."""
        known = [(row.seconds, row.steps) for row in self.rows if row.steps]
        return sum(seconds for seconds, _ in known) / sum(steps for _, steps in known) if known else None


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-3)


STARTUP = 0.5
"""Seconds of a process before and after its script, roughly: the working copy, the recording."""


def pilot(subject: ScriptSubject) -> Pilot:
    """Run the pilot seeds, the first of them twice."""
    subject.prefetch([*((None, seed) for seed in PILOT), (AGAIN, TWICE)])
    rows = [row for row in subject.rows(None) if row.seed in PILOT]
    return Pilot(tuple(sorted(rows, key=lambda row: row.seed or 0)), subject.rows(AGAIN)[0])
