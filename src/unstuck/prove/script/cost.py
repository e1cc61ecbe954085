"""What a trial will take, told before its first run; a shortened one is offered where that is long."""

import math

from unstuck.errors import UnstuckError
from unstuck.prove.script.pilot import Pilot
from unstuck.prove.script.row import Row
from unstuck.prove.sequential import SequentialTrial

LONG = 3600.0
"""Seconds that a trial may be expected to take without having been asked for."""
OFFERED = 600.0
"""Seconds that a shortened trial is proposed for."""
USUAL_RUNS = 60
"""Of a trial whose treatments are not known yet."""
LEAST_STEPS = 20
AROUND = 2.0
"""Seconds that a run takes besides its steps, roughly."""


def foretell(
    trial: SequentialTrial, tried: Pilot, workers: int, script: str, *, steps: int | None, seeds: int | None
) -> list[str]:
    """The estimate, and the offer of a shortened trial.

    Args:
        trial: that is to be run.
        tried: what a run takes.
        workers: processes at a time.
        script: as the user wrote it.
        steps: as asked for; None: whole runs.
        seeds: as asked for; None: the usual number.

    Returns:
        Lines to print before the first run.

    Raises:
        UnstuckError: hours, and nobody asked for so many runs.
    """
    low, high = (tried.seconds * runs / workers for runs in (trial.least_runs, trial.most_runs))
    size = (
        f"{len(trial.treatments)} treatments, up to {len(trial.seeds)} seeds, {tried.seconds:.1f} s a run, "
        f"{workers} at a time"
    )
    lines = [f"{size}: between {_time(low)} and {_time(high)}, most often near the first"]
    pace = tried.step_seconds
    if low > OFFERED and pace and steps is None:
        offered = max(int((OFFERED * workers / trial.least_runs - AROUND) / pace), LEAST_STEPS)
        offer = f"unstuck prove --steps {offered} {script}"
        lines.append(f"a shortened trial of {_time(OFFERED)}, shown on {offered} steps only: {offer}")
        if low > LONG and seeds is None:
            raise UnstuckError(
                f"{script}: a trial would take {_time(low)} or more; give --steps {offered} for a "
                f"shortened one of {_time(OFFERED)}, or --seeds to insist"
            )
    return lines


def refuse_unfinished(watched: Row, limit: float, name: str) -> None:
    """A run that does not end in its time is no base for a trial.

    Args:
        watched: the first run.
        limit: seconds that it had.
        name: of the script.

    Raises:
        UnstuckError: it was ended; with the number of steps that a shortened trial may have.
    """
    if watched.ending != "interrupted" or watched.seconds < limit:
        return
    pace = watched.seconds / max(watched.steps, 1)
    offered = max(int(OFFERED / USUAL_RUNS / pace), LEAST_STEPS)
    raise UnstuckError(
        f"{name}: its first run was ended after {watched.seconds:.0f} s and {watched.steps} optimiser steps; "
        f"a trial makes dozens of runs. A shortened one: unstuck prove --steps {offered} {name}"
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(math.ceil(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
