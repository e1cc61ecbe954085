"""A small case, from real trainings of the engine: what the tests of reports and of the command line show."""

from functools import cache

import numpy as np

from unstuck import datasets, nn
from unstuck.cases.story import CaseResult, LayerStory, LossStory, RateStory, Reading
from unstuck.diagnose.diagnosis import Diagnosis, diagnose
from unstuck.diagnose.outcome import learning_curve
from unstuck.nn.training import Training
from unstuck.prove.subjects.engine import EngineSubject
from unstuck.prove.treatments import choose
from unstuck.prove.trial import Trial
from unstuck.trace.recording import Recording

SEEDS = 9


def _training(*, zero: bool) -> Training:
    """A convolution and two dense layers on digits, without weights to start from or well set."""
    data = datasets.digits()
    net = nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 2, 3),
            "act1": nn.Sigmoid() if zero else nn.ReLU(),
            "flat": nn.Flatten(),
            "fc1": nn.Linear(72, 8),
            "act2": nn.Sigmoid() if zero else nn.ReLU(),
            "out": nn.Linear(8, 10),
            **({"act3": nn.Sigmoid()} if zero else {}),
        }
    )
    images, labels = data.inputs[:400], np.asarray(data.targets[:400], np.int64)
    return Training(
        net,
        (images, labels),
        nn.MSELoss() if zero else nn.CrossEntropyLoss(),
        nn.SGD(lr=0.5 if zero else 0.1),
        batch_size=32,
        epochs=6 if zero else 12,
        init={"weights": "zeros", "layers": {"conv1": {"weights": "identity"}}} if zero else "he_normal",
        loss_scale=5.0 if zero else 1.0,
    )


@cache
def recording(*, zero: bool) -> Recording:
    """A training that cannot learn (`zero`), or one that learns."""
    return _training(zero=zero).run(0, record=True).recording


@cache
def diagnosis(*, zero: bool) -> Diagnosis:
    """What is found in it."""
    return diagnose(recording(zero=zero))


def _layers(run: Recording) -> tuple[LayerStory, ...]:
    rows = diagnose(run).layers
    return tuple(
        LayerStory(
            name=row.name,
            type=row.type,
            drift=row.drift,
            grad_first=run.first("grad_norm", row.name),
            update=2.0e-4,
            update_ratio=row.update_ratio,
            update_centred=3.0e-4,
            update_ratio_centred=row.update_ratio,
            share=row.loss_share,
            frozen_loss=None if row.type == "bias" else 0.0895,
        )
        for row in rows
    )


def _loss(run: Recording) -> LossStory:
    return LossStory(
        start=run.first("full_loss") or 0.0,
        end=run.last("full_loss") or 0.0,
        constant=run.last("baseline_loss") or 0.0,
        accuracy=run.last("accuracy") or 0.0,
        curve=learning_curve(run),
    )


@cache
def case() -> CaseResult:
    """A network that cannot learn, what was tried, and a healthy one beside it."""
    sick, well = diagnosis(zero=True), diagnosis(zero=False)
    trial = Trial.of(EngineSubject(_training(zero=True)), choose(sick.findings)[:3], range(SEEDS)).run()
    main = Reading(
        key="V2",
        title="one convolution, two dense layers at zero",
        about="The most likely reading: nothing below the zero layers gets a gradient.",
        diagnosis=sick.with_verdicts(trial),
        loss=_loss(recording(zero=True)),
        layers=_layers(recording(zero=True)),
        trial=trial,
        rates=(
            RateStory(0.01, 0.0902, 0.1, 0.0, "stuck"),
            RateStory(0.5, 0.09, 0.1, 0.0, "stuck"),
            RateStory(10.0, float("inf"), 0.1, 0.97, "diverged"),
        ),
    )
    wide = Reading(
        key="wide",
        title="a wide network that learns well",
        about="Weights that barely move are no fault in themselves.",
        diagnosis=well,
        loss=_loss(recording(zero=False)),
        layers=_layers(recording(zero=False)),
    )
    return CaseResult(
        name="weights-barely-move",
        question="My own CNN converges, but its weights hardly change. Why?",
        data="400 of scikit-learn's digits, 8x8, values 0..1",
        readings=(main, wide),
        conclusions=(
            "The dense layers start at zero: draw them at random.",
            "For sigmoid, draw four times as large as Glorot.",
            "Compare the loss with the constant predictor's before you call it converged.",
        ),
        seeds=SEEDS,
        seconds=12.5,
        quick=True,
        unit="half the sum of squares over ten outputs",
    )
