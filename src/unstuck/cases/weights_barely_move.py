"""The first case: why the weights of a self-made CNN hardly change although it converges.

A sigmoid CNN on digit images in 0..1, with "unit" kernels and zero dense weights. The question does not say
how deep the network was, and the answer depends on it; so the case runs every reading.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from unstuck.cases.readings import HALF_SUM, Images, Plan, centred, images, plans
from unstuck.cases.registry import CASES, Progress
from unstuck.cases.story import CaseResult, LayerStory, LossStory, RateStory, Reading
from unstuck.diagnose.diagnosis import Diagnosis, diagnose
from unstuck.diagnose.remedies import parse
from unstuck.nn.fit import FitResult, start
from unstuck.nn.session import Session
from unstuck.nn.training import Training
from unstuck.prove.subjects.engine import EngineSubject
from unstuck.prove.treatments import choose, recommend
from unstuck.prove.trial import Trial, TrialResult
from unstuck.trace.measure import output_stats
from unstuck.trace.recording import Recording, Series
from unstuck.trace.schedule import measured_steps

NAME = "weights-barely-move"
SEED = 0
"""Of the single trainings that are looked at closely; the trials use many."""


def weights_barely_move(
    seeds: int, *, quick: bool = False, data: str = "digits", progress: Progress | None = None
) -> CaseResult:
    """Run the case; see `registry.run_case`."""
    began = time.perf_counter()
    tell = progress or _silent
    tell("loading images and kernels", 0.0)
    material = images(data)
    todo = plans(material)
    start(todo[0].training, SEED).full_loss()  # compiles before there are threads
    lock, done = threading.Lock(), 0

    def closely(plan: Plan) -> Reading:
        nonlocal done
        reading = _look(plan, material)
        with lock:
            done += 1
            tell(f"watched {plan.title}", 0.4 * done / len(todo))
        return reading

    with threadpool_limits(1), ThreadPoolExecutor(2) as pool:  # two busy threads, not two times BLAS's
        # the largest network first, so that no thread waits for it in the end
        jobs = {plan.key: pool.submit(closely, plan) for plan in sorted(todo, key=_size, reverse=True)}
        readings = [jobs[plan.key].result() for plan in todo]
    tried = [plan for plan in todo if plan.treatments]
    for i, plan in enumerate(tried):

        def trial_progress(share: float, i: int = i, plan: Plan = plan) -> None:
            tell(f"trying treatments on {plan.key}, {seeds} seeds each", 0.4 + 0.6 * (i + share) / len(tried))

        place = todo.index(plan)
        readings[place] = _try(plan, readings[place], seeds, trial_progress)
    tell("done", 1.0)
    return CaseResult(
        name=NAME,
        question=CASES[NAME],
        data=material.words,
        readings=tuple(readings),
        conclusions=_conclusions(readings[0]),
        seeds=seeds,
        seconds=time.perf_counter() - began,
        quick=quick,
        unit="half the sum of squares over the ten outputs",
    )


def _size(plan: Plan) -> int:
    return plan.training.layout.size


def _silent(what: str, share: float) -> None:
    """Tell nobody."""
    del what, share


def _look(plan: Plan, data: Images) -> Reading:
    """Train once, watched, and once more for each question about a layer or a learning rate."""
    training = plan.training
    result: FitResult = training.run(seed=SEED, record=True)
    recording = result.recording
    if recording is None:
        msg = "a recorded training has a recording"
        raise AssertionError(msg)
    recording.meta.name = plan.title
    diagnosis = replace(diagnose(recording), name=plan.title)
    loss = LossStory(
        start=HALF_SUM * (recording.first("full_loss") or math.nan),
        end=HALF_SUM * (recording.last("full_loss") or math.nan),
        constant=HALF_SUM * (recording.last("baseline_loss") or math.nan),
        accuracy=_held_out(result, data),
        curve=_scaled(recording.series("full_loss")),
    )
    return Reading(
        key=plan.key,
        title=plan.title,
        about=plan.about,
        diagnosis=diagnosis,
        loss=loss,
        layers=_layers(training, recording, diagnosis, data),
        rates=tuple(_rate(training, rate) for rate in plan.rates),
    )


def _held_out(result: FitResult, data: Images) -> float:
    predicted = result.net.forward(data.test.inputs).argmax(axis=1)
    return float(np.mean(predicted == data.test.targets))


def _scaled(series: Series) -> Series:
    return Series(series.steps, HALF_SUM * series.values)


def _layers(
    training: Training, recording: Recording, diagnosis: Diagnosis, data: Images
) -> tuple[LayerStory, ...]:
    centred_training = replace(training, data=(centred(data), training.data[1]))
    plain, shifted = _updates(training), _updates(centred_training)
    rows = list[LayerStory]()
    for row in diagnosis.layers:
        if row.loss_share is None:
            continue  # the bias of a hidden layer counts with its layer
        hidden_bias = row.name.endswith(".bias")
        rows.append(
            LayerStory(
                name=row.name,
                type=row.type,
                drift=row.drift,
                grad_first=recording.first("grad_norm", row.name),
                update=plain[row.name][0],
                update_ratio=plain[row.name][1],
                update_centred=shifted[row.name][0],
                update_ratio_centred=shifted[row.name][1],
                share=row.loss_share,
                frozen_loss=None if hidden_bias else _frozen_loss(training, row.name),
            )
        )
    return tuple(rows)


def _frozen_loss(training: Training, layer: str) -> float:
    """Final loss with one layer left as it started."""
    result: FitResult = replace(training, frozen=(layer,)).run(seed=SEED)
    return HALF_SUM * result.final_loss


def _updates(training: Training) -> dict[str, tuple[float, float | None]]:
    """For each layer and bias: median root mean square update, and median |update| / |weights|."""
    session = start(training, SEED)
    views = training.layout.views
    absolute: dict[str, list[float]] = {}
    relative: dict[str, list[float]] = {}
    for step in measured_steps(session.last_step):
        session.advance(step)
        before = views(session.params.copy())
        session.advance(step + 1)
        after = views(session.params)
        for name, old in before.items():
            row = name.removesuffix(".weight")
            moved, size = float(np.linalg.norm(after[name] - old)), float(np.linalg.norm(old))
            absolute.setdefault(row, []).append(moved / math.sqrt(old.size))
            if size > 0:
                relative.setdefault(row, []).append(moved / size)
    return {
        row: (float(np.median(values)), float(np.median(relative[row])) if row in relative else None)
        for row, values in absolute.items()
    }


def _rate(training: Training, lr: float) -> RateStory:
    """Train once at another learning rate."""
    session = start(training.with_optimizer(replace(training.optimizer, lr=lr)), SEED)
    session.advance(session.last_step)
    loss = session.full_loss()
    accuracy = session.accuracy()
    return RateStory(
        lr=lr,
        loss=HALF_SUM * loss if math.isfinite(loss) else math.inf,
        accuracy=0.0 if accuracy is None else accuracy,
        saturated=_saturated(session),
        outcome=session.outcome(loss),
    )


def _saturated(session: Session) -> float:
    """Share of outputs at an end of their sigmoid, in the layer (the output's included) that has most."""
    outputs = session.activations(session.training.samples)
    shares = [
        output_stats(_flat(outputs[name]), "Sigmoid")["saturated"] or 0.0
        for name, layer in session.training.network.layers.items()
        if layer.type == "Sigmoid"
    ]
    return max(shares, default=0.0)


def _flat(output: NDArray[np.floating]) -> NDArray[np.floating]:
    return output.reshape(len(output), -1)


def _try(plan: Plan, reading: Reading, seeds: int, progress: Callable[[float], None]) -> Reading:
    """A trial of what the findings propose and of what people recommended."""
    proposals = list(choose(reading.diagnosis.findings))
    known = {proposal.treatment for proposal in proposals}
    subject = EngineSubject(plan.training, plan.title)
    cause = reading.diagnosis.roots[0].code if reading.diagnosis.roots else ""
    recommended = (recommend(treatment, cause) for treatment in plan.treatments)
    proposals += [proposal for proposal in recommended if proposal.treatment not in known]
    trial = Trial.of(subject, proposals, range(seeds))
    result: TrialResult = trial.run(lambda _arm, done, total: progress(done / max(total, 1)))
    diagnosis = reading.diagnosis.with_verdicts(result.verdicts, decisive=result.decisive)
    return replace(reading, diagnosis=diagnosis, trial=result)


def _conclusions(main: Reading) -> tuple[str, ...]:
    """Why, what to change, what not to bother with: from what was found and shown, nothing else."""
    roots = main.diagnosis.roots
    why = roots[0].summary if roots else "No cause was found."
    verdicts = main.diagnosis.verdicts
    proved = sorted((v for v in verdicts if v.verdict == "proved"), key=lambda v: -v.after.successes)
    useless = [v for v in verdicts if v.verdict == "not shown"]
    change = (
        f"{parse(proved[0].treatment).summary}: it then learns for {proved[0].after.successes} of "
        f"{proved[0].after.trials} seeds, without it for {proved[0].before.successes}."
        if proved
        else "Nothing that was tried is proved to help."
    )
    rest = ", ".join(v.treatment for v in useless) or "nothing"
    return (f"Why: {why}", f"Change: {change}", f"Not shown to help alone: {rest}.")
