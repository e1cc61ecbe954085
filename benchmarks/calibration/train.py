"""Train a spec from a seed, watched; and say by own arithmetic how much it learned."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from build import build, optimizer_of
from spec import Spec
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from unstuck import record
from unstuck.trace.recording import Recording

EVALUATED = 512


@dataclass(frozen=True)
class Trained:
    """What became of a training."""

    recording: Recording
    score: float
    """1 - loss / that of the best constant answer, on training samples, in evaluation mode."""
    crashed: str


def criterion(spec: Spec, out: Tensor, y: Tensor) -> Tensor:
    """The loss, faults included."""
    faults = spec.faults
    if spec.head == "mse":
        y = y * float(faults.get("target_scale", 1.0)) + float(faults.get("target_shift", 0.0))
        loss = F.mse_loss(out, y[:, 0] if "broadcast" in faults else y)
    elif spec.head == "bce":
        if "raw_scores" in faults:
            loss = F.binary_cross_entropy(out[:, 0].clamp(0, 1), y.float())
        else:
            loss = F.binary_cross_entropy_with_logits(out[:, 0], y.float())
    elif "raw_scores" in faults:
        loss = F.nll_loss(out, y)
    else:
        loss = F.cross_entropy(out, y, reduction="sum" if "summed" in faults else "mean")
    return -loss if "flipped_sign" in faults else loss


def inputs_of(spec: Spec) -> tuple[Tensor, Tensor]:
    """Samples and targets, faults included."""
    x, y, faults = spec.data.x, spec.data.y, spec.faults
    generator = torch.Generator().manual_seed(5)
    if "input_scale" in faults:
        x = x * float(faults["input_scale"]) + float(faults.get("input_shift", 0.0))
    if "constant_input" in faults:
        x = torch.zeros_like(x)
    if "nan_input" in faults:
        x = x.clone()
        x.view(len(x), -1)[torch.randperm(len(x), generator=generator)[: len(x) // 20], 0] = math.nan
    if "permuted" in faults:
        y = y[torch.randperm(len(y), generator=generator)]
    return x, y


def schedule_of(spec: Spec, optimizer: torch.optim.Optimizer) -> Any:
    """How the rate changes."""
    if "schedule" in spec.faults:
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / (float(spec.faults["schedule"]) * spec.steps))
        )
    if spec.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.steps)
    if spec.schedule == "warmup":
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / (spec.steps / 10))
        )
    if spec.schedule == "step":
        return torch.optim.lr_scheduler.StepLR(optimizer, spec.steps // 3, 0.3)
    return None


def train(spec: Spec, seed: int) -> Trained:
    """Train it as its author would have: watched, nothing else."""
    torch.manual_seed(seed)
    net = build(spec)
    optimizer = optimizer_of(spec, net)
    schedule = schedule_of(spec, optimizer)
    x, y = inputs_of(spec)
    order = torch.Generator().manual_seed(seed + 1)
    crashed = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with record(net, optimizer) as run:
            try:
                loop(spec, net, optimizer, schedule, (x, y), order)
            except (RuntimeError, ValueError) as error:
                crashed = str(error)
        return Trained(run.recording, _score(spec, net, x, y), crashed)


def loop(
    spec: Spec,
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    data: tuple[Tensor, Tensor],
    order: torch.Generator,
    after: Callable[[Tensor], object] | None = None,
) -> None:
    """Train, faults included; `after` is told each step's loss."""
    x, y = data
    faults = spec.faults
    rows = torch.empty(0, dtype=torch.long)
    by_label = y.flatten().argsort()
    for step in range(spec.steps):
        if len(rows) < spec.batch:
            rows = by_label if "unshuffled" in faults else torch.randperm(len(x), generator=order)
        chosen, rows = rows[: spec.batch], rows[spec.batch :]
        if "repeated" in faults:
            chosen = torch.arange(spec.batch)
        if "uncleared" not in faults or step == 0:
            optimizer.zero_grad()
        loss = criterion(spec, net(x[chosen]), y[chosen])
        loss.backward()
        if "clip" in faults:
            torch.nn.utils.clip_grad_norm_(net.parameters(), float(faults["clip"]))
        optimizer.step()
        if after is not None:
            after(loss.detach())
        if schedule is not None:
            schedule.step()


@torch.no_grad()
def _score(spec: Spec, net: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """How much of what can be gained was gained, of the task as it is meant."""
    net.eval()
    if "repeated" not in spec.faults:
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))[:EVALUATED]
    else:
        rows = torch.arange(min(EVALUATED, len(x)))
    task = spec.data
    out = net(x[rows])
    if "remade" in spec.faults or spec.faults.keys() & {"batch_softmax"}:
        out = net(x[rows])
    wanted = task.y[rows] if "permuted" not in spec.faults else y[rows]
    if spec.head == "mse":
        shift, scale = (
            float(spec.faults.get("target_shift", 0.0)),
            float(spec.faults.get("target_scale", 1.0)),
        )
        loss = float(F.mse_loss((out - shift) / scale, wanted))
    elif spec.head == "bce":
        loss = float(F.binary_cross_entropy_with_logits(out[:, 0], wanted.float()))
    else:
        loss = float(F.cross_entropy(out, wanted))
    score = 1 - loss / task.baseline
    return score if math.isfinite(score) else math.nan
