"""`unstuck prove SCRIPT`: watch it, then try what the findings propose, in a controlled trial."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from unstuck.diagnose.diagnosis import Diagnosis
from unstuck.diagnose.finding import Finding, TreatmentRef
from unstuck.diagnose.project import Project
from unstuck.diagnose.remedies import Treatment, parse
from unstuck.prove.carry.carry import Carry, with_engine
from unstuck.prove.script.change import change
from unstuck.prove.script.cost import foretell, refuse_unfinished
from unstuck.prove.script.pilot import PILOT, Pilot, Watch, pilot, watch
from unstuck.prove.script.remote import RemoteLauncher
from unstuck.prove.script.row import Task
from unstuck.prove.script.store import open_store
from unstuck.prove.script.subject import ScriptSubject, check
from unstuck.prove.sequential import SequentialTrial
from unstuck.prove.success import Success, parse_success
from unstuck.prove.torch.catalogue import refusal, usual_success
from unstuck.prove.torch.plan import plan_of
from unstuck.prove.treatments import Proposal, choose, recommend
from unstuck.prove.trial import TrialProgress, TrialResult
from unstuck.sources.script.program import from_file
from unstuck.study.executors import Cluster
from unstuck.study.executors import check as check_executor
from unstuck.trace.recording import Recording

if TYPE_CHECKING:
    from unstuck.prove.script.launch import Launcher

SEEDS = 20
"""At most so many seeds of every arm, unless asked otherwise."""
FIRST_SEED = 1
LEAST_SECONDS = 30.0
"""What the engine's seeds may take of PyTorch's time; more where the trial itself took more."""
MOST_POWERS = 6
"""A rate is changed by a millionth or a million at most."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is to be proved.

    Args:
        script: path, or a module's name.
        args: its own arguments.
        module: whether it is a module's name.
        seeds: at most, of every arm; None: 20.
        steps: every run is stopped after so many optimiser steps; None: whole runs.
        treatments: ids to try instead of what the findings propose.
        success: the user's criterion; empty: the usual one.
        workers: processes at a time; None: as many as processors.
        dask: address of a scheduler; its workers make the trial's runs.
        engine: so many more seeds are trained on the engine, where it does the same; 0: none.
        rules: the project's: only findings of these propose treatments.
        folder: where the script is started.
    """

    script: str
    args: tuple[str, ...] = ()
    module: bool = False
    seeds: int | None = None
    steps: int | None = None
    treatments: tuple[str, ...] = ()
    success: str = ""
    workers: int | None = None
    dask: str | None = None
    engine: int = 200
    rules: Project = field(default_factory=Project)
    folder: Path = field(default_factory=Path.cwd)


@dataclass(frozen=True)
class Proof:
    """What was found, and what a trial says of it."""

    diagnosis: Diagnosis
    """With the verdicts."""
    recording: Recording
    """Of the watched run."""
    trial: TrialResult | None = None
    """None where there is nothing to treat, with the reason in `notes`."""
    notes: tuple[str, ...] = ()
    success: Success | None = None
    steps: int | None = None
    """Where runs were cut short: to so many optimiser steps."""
    diff: str = ""
    """The change to make, in the user's lines; empty where the text does not show where it belongs."""

    @property
    def best(self) -> str:
        """The treatment with which most runs succeed among those that are proved; empty without one."""
        if self.trial is None:
            return ""
        proved = [one for one in self.trial if one.verdict == "proved"]
        best = max(proved, key=lambda one: one.after.successes / one.after.trials, default=None)
        return "" if best is None else best.treatment


def prove(request: Request, say: Say, progress: TrialProgress | None = None) -> Proof:
    """Find out what is wrong with a script, and which change mends it.

    Args:
        request: what to prove.
        say: told in a line what is about to happen, and what it will take.
        progress: told of the runs.

    Raises:
        UnstuckError: unreadable treatments or criterion, a script that cannot be run or takes hours.
    """
    asked = tuple(dict.fromkeys(map(check, request.treatments)))
    chosen = parse_success(request.success) if request.success else None
    if not request.module:
        from_file(request.script)
    check_executor(request.workers, request.dask)
    cluster = Cluster(request.dask) if request.dask is not None else None
    workers = request.workers or (cluster.threads if cluster is not None else os.cpu_count() or 1)
    threads = max((os.cpu_count() or 1) // workers, 1) if cluster is None else 1
    launcher: Launcher = RemoteLauncher(request.folder, threads=threads, cluster=cluster)
    task = Task(request.script, request.args, module=request.module, steps=request.steps, name=request.script)
    if chosen is not None:
        task = _with_goal(task, request.success)
    store = open_store(
        request.script,
        (*request.args, request.success),
        module=request.module,
        steps=request.steps,
        folder=request.folder,
        threads=threads,
    )
    say(f"watching {task.name} once, unchanged, in a working copy of {request.folder}")
    seen = watch(task, launcher, store, request.rules)
    refuse_unfinished(seen.row, launcher.limit, task.name)
    launcher.preload = seen.row.imported if seen.row.torch else ()
    proposals, notes = _proposals(seen, asked)
    if not proposals:
        return Proof(seen.diagnosis, seen.training.recording, notes=tuple(notes), steps=request.steps)
    room = workers if cluster is None else cluster.room
    subject = ScriptSubject(_judging(task, seen), launcher, store, workers=room)
    tried = pilot(subject)
    notes += _about(tried)
    subject.success = chosen or usual_success(tried.rows, [one.treatment for one in proposals])
    if not asked:
        seen = replace(seen, diagnosis=_with_rates(seen.diagnosis, proposals, subject))
        proposals, _ = _proposals(seen, asked)
    launcher.limit = max(60.0, 10 * tried.seconds)
    most = request.seeds or (SEEDS if tried.repeatable else 2 * SEEDS)
    seeds = range(FIRST_SEED, FIRST_SEED + most) if tried.random else range(FIRST_SEED, FIRST_SEED + 1)
    trial = SequentialTrial.of(subject, proposals, seeds, combine=True)
    told = foretell(trial, tried, workers, request.script, steps=request.steps, seeds=request.seeds)
    for line in (trial.criterion, *told):
        say(line)
    try:
        result = trial.run(progress)
        if request.engine and not result.interrupted:
            local = min(workers, os.cpu_count() or 1)
            limit = max(result.seconds / workers, LEAST_SECONDS)
            carry = Carry(subject.capture, subject.success, request.engine, limit, local)
            result = with_engine(result, carry)
    finally:
        launcher.close()
    notes += _crashes(subject, trial)
    diagnosis = seen.diagnosis.with_verdicts(result, decisive=result.decisive)
    proof = Proof(diagnosis, seen.training.recording, result, tuple(notes), subject.success, request.steps)
    return replace(proof, notes=(*proof.notes, *_told(subject, proof)), diff=_diff(request, proof))


def _diff(request: Request, proof: Proof) -> str:
    """In the script itself: what lies in other files of the program is not looked at."""
    if not proof.best or request.module:
        return ""
    return change(request.folder / request.script, request.script, proof.best)


def _with_rates(found: Diagnosis, proposals: Sequence[Proposal], subject: ScriptSubject) -> Diagnosis:
    """Where a rate is proposed and is not enough, how far to go: tried on a seed that the trial does not use.

    A probe of a few steps tells the direction only. What is chosen here is one treatment more, to be proved
    like all others.
    """
    further: dict[str, TreatmentRef] = {}
    for one in proposals:
        rate = parse(one.treatment)
        if rate.kind == "lr" and max(rate.factor, 1 / rate.factor) >= 10:
            enough = _enough(rate.factor, subject)
            if enough is not None:
                further[one.code] = enough.reference
    return replace(found, findings=tuple(_also(one, further.get(one.code)) for one in found.findings))


def _enough(factor: float, subject: ScriptSubject) -> Treatment | None:
    """The first power of a factor with which a run succeeds; None for the first or where none does."""
    powers = [Treatment("lr", factor=factor**power) for power in range(1, MOST_POWERS + 1)]
    for start in range(0, len(powers), subject.workers):
        chunk = powers[start : start + subject.workers]
        subject.prefetch([(str(tried), PILOT[0]) for tried in chunk])
        for tried in chunk:
            row = next((row for row in subject.rows(str(tried)) if row.seed == PILOT[0]), None)
            if row is None or row.refusal:
                return None
            if subject.success.met(row):
                return tried if tried is not powers[0] else None
    return None


def _also(finding: Finding, new: TreatmentRef | None) -> Finding:
    if new is None or new.id in {known.id for known in finding.treatments}:
        return finding
    return msgspec.structs.replace(finding, treatments=(*finding.treatments, new))


def _with_goal(task: Task, goal: str) -> Task:
    return msgspec.structs.replace(task, goal=goal)


def _judging(task: Task, seen: Watch) -> Task:
    """All runs are judged by the training that the diagnosis is about."""
    trace = seen.training.recording
    return msgspec.structs.replace(
        task,
        training=seen.training.number,
        plan=plan_of(trace, by_hand=seen.row.plan.by_hand),
        alone=len(seen.row.trainings) == 1,
    )


def _proposals(seen: Watch, asked: Sequence[str]) -> tuple[list[Proposal], list[str]]:
    """What is tried: what was asked for, or what the findings propose and a running program can take."""
    findings = [one for one in seen.diagnosis.findings if one.severity != "info"]
    if asked:
        code = {reference.id: one.code for one in findings for reference in one.treatments}
        return [_recommended(one, code.get(one, "")) for one in asked], []
    if not findings:
        word = seen.diagnosis.status
        nothing = "nothing to treat: " + (
            "it is healthy" if word == "healthy" else f"no fault was found ({word})"
        )
        return [], [nothing]
    chosen = list(choose(findings))
    notes = [
        f"not tried: {one.treatment}: {refusal(one.treatment)}" for one in chosen if refusal(one.treatment)
    ]
    usable = [one for one in chosen if not refusal(one.treatment)]
    notes += list(dict.fromkeys(_by_hand(one) for one in findings if not _treatable(one)))
    if not usable:
        notes.append("nothing to treat: no treatment of what was found can be tried while a program runs")
    return usable, notes


def _treatable(finding: Finding) -> bool:
    return any(not refusal(reference.id) for reference in finding.treatments)


def _by_hand(finding: Finding) -> str:
    """What a running program cannot be given, with the place to look at where that is known."""
    place = finding.location
    start = f"start at {place.file}:{place.line}; " if place is not None else ""
    layer = f" in {finding.layer}" if finding.layer else ""
    return (
        f"{finding.code} {finding.name}{layer}: no treatment can be applied from outside, the program's own "
        f"text must be changed ({start}how: unstuck rule {finding.name})"
    )


def _recommended(treatment: str, code: str) -> Proposal:
    if "+" in treatment:
        return Proposal(treatment, code, None)
    return recommend(treatment, code)


def _about(tried: Pilot) -> list[str]:
    """What must be known of the script to read the trial."""
    notes: list[str] = []
    if not tried.random:
        notes.append(
            "every seed gives the same run, bit for bit: nothing in this script is random, so that there is "
            "one run of each treatment and no proof"
        )
    if not tried.repeatable:
        notes.append(
            "the same seed gave two different runs: this script is not determined by its seeds, so that "
            "pairs tell less; up to twice as many seeds are run"
        )
    return notes


def _crashes(subject: ScriptSubject, trial: SequentialTrial) -> list[str]:
    """Arms with runs that came to no regular end: they count as failures, and are told."""
    notes: list[str] = []
    for name in (None, subject.sham.id, *trial.treatments):
        rows = [row for row in subject.rows(name) if row.seed in trial.seeds]
        crashed = [row for row in rows if row.crashed]
        if crashed:
            why = crashed[0].error or crashed[0].ending
            notes.append(f"{name or 'unchanged'}: {len(crashed)} of {len(rows)} runs failed ({why})")
    return notes


def _told(subject: ScriptSubject, proof: Proof) -> list[str]:
    """Harm that the criterion cannot show, because the unchanged program does not meet it either."""
    notes: list[str] = []
    before = {row.seed: row for row in subject.rows(None)}
    for verdict in proof.trial or ():
        if verdict.verdict == "proved":
            continue
        pairs = [(before[row.seed], row) for row in subject.rows(verdict.treatment) if row.seed in before]
        worse = sum(_worse(one, other) for one, other in pairs)
        if len(pairs) >= 4 and worse == len(pairs):
            notes.append(
                f"{verdict.treatment} does harm: it ended worse than the unchanged program for all "
                f"{worse} seeds"
            )
    return notes


def _worse(before: object, after: object) -> bool:
    """Whether a run ended clearly worse: by a tenth of the loss, or not at all."""
    first, second = getattr(before, "loss", None), getattr(after, "loss", None)
    if second is None:
        return first is not None
    return first is not None and second > first + 0.1 * abs(first)
