"""Probes: what only an extra computation shows, each from the same start, everything put back."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import torch

from unstuck.sources.torch import signal
from unstuck.sources.torch.copy import untouched
from unstuck.sources.torch.scene import NotMeasured, Scene, arguments
from unstuck.sources.torch.sharpness import sharpness
from unstuck.trace.measure import Values, ratio
from unstuck.trace.recording import Recording

Probe = Callable[[Scene], Values]
"""Measures one thing; the scene is reset before."""

RATE_STEPS = 20
"""Updates of each trial of the learning rate."""
OVERFIT_STEPS = 100
"""Updates on one batch to see whether it can be learned."""
CAPABLE_RATES = (1e-2, 1e-3, 1e-1)
"""Of Adam, to see whether a network can hold a batch at all: most can at the first."""
LEARNED = 0.1
"""Part of the loss at the start below which a batch was learned."""
DRAWS = 4
"""Passes with other random numbers, where dropout makes each one different."""
SAME_GRADIENT = 0.1
"""Two gradients of one batch that differ by more than this share are made of random numbers."""


def run_probes(
    model: Any,
    loss_fn: Callable[..., Any] | None,
    inputs: Any,
    targets: Any,
    optimizer: Any,
    recording: Recording,
    step: int,
    *,
    closure: Callable[[], Any] | None = None,
    probes: Mapping[str, Probe] | None = None,
) -> list[str]:
    """Run probes on one batch and write their quantities; everything else stays as it is.

    Args:
        model: a `torch.nn.Module`.
        loss_fn: takes the model's output and the targets, gives one number; None where only `closure` is
            known, and then what needs another batch is not measured.
        inputs: one batch: a tensor, a tuple of arguments, a dict of named ones, or a pair of both.
        targets: of the same samples.
        optimizer: as it stands; None leaves out what trains.
        recording: where the quantities go.
        step: number of the step at whose weights they are measured.
        closure: computes the loss of the batch by itself.
        probes: by name, those to run; by default all of `PROBES`.

    Returns:
        What was not measured, and why: one sentence each.
    """
    skipped: list[str] = []
    before = recording.steps
    given = arguments(inputs)
    with (
        untouched(model, loss_fn, optimizer, given, targets) as kept,
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        warnings.catch_warnings(action="ignore"),  # the program's own run shows them
    ):
        scene = Scene(model, loss_fn, given, targets, optimizer, kept, closure)
        for name, probe in (PROBES if probes is None else probes).items():
            kept.reset()
            try:
                values = probe(scene)
            except NotMeasured as reason:
                skipped.append(f"the probe {name!r} was not made, because {reason.because}")
            except Exception as error:  # noqa: BLE001  (a model may refuse a batch that a probe makes up)
                words = f"the model raised {type(error).__name__}: {error}"
                skipped.append(f"the probe {name!r} was not made, because {words}")
            else:
                recording.add_row(step, "", values)
    recording.steps = before
    return skipped


# ---- training


def rates(scene: Scene, steps: int = RATE_STEPS, own: Sequence[float] | None = None) -> Values:
    """The same batch at a tenth of the learning rate, at it, and at ten times of it, from the same start.

    Args:
        scene: what to train.
        steps: updates of each trial.
        own: losses before each update at the optimiser's own rate, if that training was made already.
    """
    steps = scene.fewer(steps) if own is None else min(scene.fewer(steps), len(own) - 1)
    same = scene.train(steps) if own is None else own[: steps + 1]
    values: Values = {"probe.start": same[0], "probe.same": _ended(same), "probe.steps": float(steps)}
    for name, factor in (("low", 0.1), ("high", 10.0)):
        scene.kept.reset()
        values[f"probe.{name}"] = _ended(scene.train(steps, factor=factor))
    return values


def overfit(scene: Scene, steps: int = OVERFIT_STEPS) -> Values:
    """One batch again and again: can it be learned at all?"""
    losses = scene.train(scene.fewer(steps))
    if not losses[0] > 0 or not math.isfinite(losses[0]):
        raise NotMeasured(f"the loss at the start is {losses[0]:.3g}: no share of it can be taken")
    return {"probe.overfit": _ended(losses) / losses[0], "probe.overfit_steps": float(len(losses) - 1)}


def capacity(scene: Scene, steps: int = OVERFIT_STEPS) -> Values:
    """The same batch, whatever the program's own rate and optimiser: Adam at rates a factor of 10 apart.

    It goes on to the next rate only where the batch was not learned yet.
    """
    if scene.optimizer is None or not scene.parameters:
        raise NotMeasured("nothing is trained")
    least, first = math.inf, math.nan
    for rate in CAPABLE_RATES:
        scene.kept.reset()
        own = torch.optim.Adam(scene.parameters, lr=rate)
        losses = replace(scene, optimizer=own).train(steps)
        first = losses[0] if math.isnan(first) else first
        if not losses[0] > 0 or not math.isfinite(losses[0]):
            raise NotMeasured(f"the loss at the start is {losses[0]:.3g}: it cannot be learned to 0")
        least = min(least, *(one for one in losses if math.isfinite(one)))
        if least < LEARNED * first:
            break
    return {"probe.capacity": least}


def noise(scene: Scene) -> Values:
    r"""The gradients of a batch's two halves: how much of a step is the choice of its samples?

    With halves $g_1$ and $g_2$ the batch's gradient is their mean, and $|g_1 - g_2|^2 / 4$ is its variance
    from batch to batch: $|g_1 - g_2|^2 / |g_1 + g_2|^2$ is near 0 for a clear direction, 1 for pure chance.
    """
    count = scene.count
    if count < 2:
        raise NotMeasured("the batch has a single sample")
    targets = scene.targets
    if not isinstance(targets, torch.Tensor) or targets.dim() == 0 or len(targets) != count:
        raise NotMeasured("the targets are no tensor with a row for each sample")
    scene.model.eval()
    half = count // 2
    parts: list[list[torch.Tensor]] = []
    for start in (0, half):
        rows = scene.samples(lambda one, axis, at=start: one.narrow(axis, at, half))
        parts.append(scene.gradients(rows, targets[start : start + half])[1])
    first, second = parts
    apart = _length([a - b for a, b in zip(first, second, strict=True)])
    together = _length([a + b for a, b in zip(first, second, strict=True)])
    return {"probe.noise": ratio(apart**2, together**2)}


def permuted(scene: Scene, steps: int = RATE_STEPS, own: Sequence[float] | None = None) -> Values:
    """The same inputs with the targets of other samples: does it learn those as fast?

    Args:
        scene: what to train.
        steps: updates of each trial.
        own: losses before each update with the true targets, if that training was made already.
    """
    targets = scene.targets
    if not isinstance(targets, torch.Tensor) or targets.dim() == 0 or len(targets) < 2:
        raise NotMeasured("the targets are no tensor with several samples")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    others = targets[order.to(targets.device)]
    if bool((others == targets).all()):
        raise NotMeasured("all targets are the same")
    steps = scene.fewer(steps) if own is None else min(scene.fewer(steps), len(own) - 1)
    own = scene.train(steps) if own is None else own[: steps + 1]
    scene.kept.reset()
    twin = scene.train(steps, targets=others)
    fall, twins = own[0] - _ended(own), twin[0] - _ended(twin)
    if not (math.isfinite(fall) and fall > 0):
        return {"probe.permuted": None}
    return {"probe.permuted": twins / fall}


# ---- one evaluation


def duplicate(scene: Scene) -> Values:
    """Every sample twice: a mean over the batch stays, a sum doubles."""
    scene.model.eval()
    loss, grads = scene.gradients()
    count = scene.count
    inputs = scene.samples(lambda one, axis: torch.cat([one, one], dim=axis))
    targets = scene.targets
    if isinstance(targets, torch.Tensor) and targets.dim():
        axis = 1 if targets.dim() > 1 and targets.shape[0] != count and targets.shape[1] == count else 0
        targets = torch.cat([targets, targets], dim=axis)
    twice, twice_grads = scene.gradients(inputs, targets)
    return {
        "probe.duplicate": ratio(_length(twice_grads), _length(grads)),
        "probe.duplicate_loss": ratio(twice, loss),
    }


def fresh_gradient(scene: Scene) -> Values:
    """The gradient that the parameters hold against a new one of the same batch."""
    pairs = [(one, scene.kept.gradient(one)) for one in scene.parameters]
    if not any(held is not None for _, held in pairs):
        raise NotMeasured("the parameters hold no gradient")
    held = [torch.zeros_like(one) if grad is None else grad.to_dense() for one, grad in pairs]
    fresh, again = scene.gradients()[1], scene.gradients()[1]
    apart = _length([a - b for a, b in zip(fresh, again, strict=True)])
    if apart > SAME_GRADIENT * _length(fresh):
        raise NotMeasured("the model uses random numbers: two gradients of one batch differ")
    lengths = _length(fresh) * _length(held)
    dot = sum(float((a.double() * b.double()).sum()) for a, b in zip(fresh, held, strict=True))
    return {"probe.fresh_gradient": ratio(dot, lengths)}


def mixing(scene: Scene) -> Values:
    """One sample is replaced by another: do the outputs of other samples change?"""
    count = scene.count
    if count < 2:
        raise NotMeasured("the batch has a single sample")
    scene.model.eval()
    own = scene.by_sample(scene.output())

    def replace(one: torch.Tensor, axis: int) -> torch.Tensor:
        new = one.movedim(axis, 0).clone()
        new[0] = new[count // 2]
        return new.movedim(0, axis)

    change = (scene.by_sample(scene.output(scene.samples(replace))) - own).double()
    mine = float(torch.linalg.vector_norm(change[0]))
    if mine == 0:
        raise NotMeasured("the output of a sample does not depend on it")
    return {"probe.mixing": float(torch.linalg.vector_norm(change[1:])) / mine}


def input_matters(scene: Scene) -> Values:
    """Inputs set to zero, and inputs of other samples: do the outputs change?"""
    scene.model.eval()
    own = scene.output().double()
    size = float(torch.linalg.vector_norm(own))
    others = [
        scene.samples(lambda one, _: torch.zeros_like(one)),
        scene.samples(lambda one, axis: one.roll(1, dims=axis)),
    ]
    changes = [float(torch.linalg.vector_norm(scene.output(one).double() - own)) for one in others]
    return {"probe.input_matters": ratio(max(changes), size)}


def mode_gap(scene: Scene) -> Values:
    """The loss of the batch in training mode against that in evaluation mode."""
    with torch.no_grad():
        if not scene.model.training:
            scene.model.train()
        losses = [float(scene.loss())]
        if not scene.kept.same_random():
            losses += [float(scene.loss()) for _ in range(DRAWS - 1)]
        training = sum(losses) / len(losses)
        scene.kept.reset()
        scene.model.eval()
        evaluation = float(scene.loss())
    return {"probe.mode_gap": ratio(training - evaluation, max(abs(training), abs(evaluation)))}


def curvature(scene: Scene) -> Values:
    """The largest curvature of the loss: plain gradient descent is stable below 2 / it."""
    weights = [one for one in scene.parameters if scene.kept.numbers(one) is not None]

    def gradient() -> list[torch.Tensor]:
        scene.kept.reset_random()
        return scene.gradients()[1]

    def put() -> None:
        with torch.no_grad():
            for one in weights:
                numbers = scene.kept.numbers(one)
                if numbers is not None:
                    one.copy_(numbers)

    if len(weights) != len(scene.parameters):
        raise NotMeasured("some parameters have no numbers here")
    return {"probe.sharpness": sharpness(list(weights), gradient, put)}


def _ended(losses: Sequence[float]) -> float:
    """The last loss of a trial, infinite when it is not finite: trials end early only for that."""
    return losses[-1] if math.isfinite(losses[-1]) else math.inf


def _length(grads: list[torch.Tensor]) -> float:
    return math.sqrt(sum(float(torch.linalg.vector_norm(one.double())) ** 2 for one in grads))


PROBES: Final[dict[str, Probe]] = {
    "rates": rates,
    "overfit": overfit,
    "capacity": capacity,
    "permuted": permuted,
    "signal": signal.probe,
    "duplicate": duplicate,
    "noise": noise,
    "fresh_gradient": fresh_gradient,
    "mixing": mixing,
    "input_matters": input_matters,
    "mode_gap": mode_gap,
    "sharpness": curvature,
}
"""All probes by name."""
