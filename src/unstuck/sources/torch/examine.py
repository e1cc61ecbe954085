"""`unstuck.examine`: a look at a model before its training, on one batch; everything is put back."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import torch
from torch import nn

from unstuck.errors import ShapeError, UnstuckError
from unstuck.sources.torch.calls import (
    _tensors as tensors_in,  # pyright: ignore[reportPrivateUsage]  (the one walk over nested tensors)
)
from unstuck.sources.torch.copy import Kept, untouched
from unstuck.sources.torch.probes import PROBES, Probe, permuted, rates, run_probes
from unstuck.sources.torch.recorder import Recorder
from unstuck.sources.torch.scene import Scene, arguments
from unstuck.trace.recording import Recording

STEPS = 30
"""Updates on the one batch."""
TRIAL_STEPS = 10
"""... and at other learning rates, and with the targets of other samples."""
PATIENCE = 3
"""It ends after so many losses that are not finite."""
OWN_RATE = 1e-3
"""Of Adam, when no optimiser is given."""
QUICK: Final = ("duplicate", "mixing", "input_matters", "mode_gap", "sharpness")
"""Probes that take a few evaluations each."""
NOT_THE_PROGRAMS: Final = frozenset({"grad_uncleared", "repeat.batch", "clip_ratio"})
"""What is measured of a training loop says nothing here: the loop was ours."""


def examine(model: Any, loss_fn: Any, inputs: Any, targets: Any, optimizer: Any = None) -> Any:
    """Look for what would keep a model from training, before it trains; nothing of it is changed.

    One batch goes forward and back: signal and gradient by depth, dead and saturated units, zero and equal
    weights, the loss and what it compares, the data, what the optimiser lacks. Then it is trained on this
    batch for a few dozen steps, and a few more at other learning rates and with the targets of other samples,
    to see whether it learns. At the end weights, buffers, gradients, optimiser, modes, hooks and random
    states are as they were, to the byte, also when the model raises.

    Args:
        model: a `torch.nn.Module`, in the mode in which it will be trained.
        loss_fn: takes the model's output and the targets, and gives one number that can be derived.
        inputs: a batch as the training will have it: a tensor, a tuple of arguments, or a dict of named ones.
        targets: of the same samples; whatever `loss_fn` takes.
        optimizer: a `torch.optim.Optimizer` that will train it. Without one, Adam is used to see whether it
            learns, and nothing is said of the learning rate.

    Returns:
        A `Diagnosis`. `healthy` says that nothing was found and that it learns this batch; `undetermined`
        that nothing was found and the loss was still on its way down.

    Raises:
        UnstuckError: for arguments of another kind. What the model or the loss raise comes through as it is.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> x = torch.randn(32, 2)
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        >>> examine(model, nn.CrossEntropyLoss(), x, (x[:, 0] > 0).long(), optimizer).healthy
        True
    """
    return examination(model, loss_fn, inputs, targets, optimizer).diagnose()


def examination(
    model: Any, loss_fn: Any, inputs: Any, targets: Any, optimizer: Any = None, *, steps: int = STEPS
) -> Recording:
    """What `examine` measures, as a recording: step 0 is the model as it stands.

    Args:
        model: see `examine`.
        loss_fn: see there.
        inputs: see there.
        targets: see there.
        optimizer: see there.
        steps: updates on the batch.

    Returns:
        The recording; its `meta.examined` is True.
    """
    _check(model, loss_fn, inputs, targets, optimizer)
    given = arguments(inputs)
    with (
        untouched(model, loss_fn, optimizer, given, targets) as kept,
        torch.inference_mode(mode=False),
        torch.enable_grad(),
    ):
        own = optimizer or _own_optimizer(model)
        recording, losses = _train(Scene(model, loss_fn, given, targets, own, kept), kept, steps)
        kept.reset()
        probes: dict[str, Probe] = {name: PROBES[name] for name in QUICK}
        if optimizer is not None:
            probes["rates"] = partial(rates, steps=TRIAL_STEPS, own=losses)
            probes["permuted"] = partial(permuted, steps=TRIAL_STEPS, own=losses)
        run_probes(model, loss_fn, inputs, targets, optimizer, recording, 0, probes=probes)
    if optimizer is None:
        _forget_optimizer(recording)
    recording.meta.examined = True
    return recording


def _train(scene: Scene, kept: Kept, steps: int) -> tuple[Recording, list[float]]:
    """Train on the batch, watched; the recording, and the loss before each update."""
    recorder = Recorder(scene.model, [scene.optimizer])
    losses: list[float] = []

    def evaluate() -> torch.Tensor:
        loss = scene.loss()
        _check_loss(loss)
        kept.clear_gradients(loss)
        if loss.requires_grad:
            loss.backward()
        first.append(float(loss.detach()))
        return loss

    with recorder:
        for _ in range(scene.fewer(steps)):
            first: list[float] = []
            scene.step(evaluate)
            losses.append(first[0])
            if len(losses) >= PATIENCE and not any(map(math.isfinite, losses[-PATIENCE:])):
                break
    recording = recorder.recording.without(NOT_THE_PROGRAMS)
    if not recording.has("loss"):  # no backward pass told the recorder
        for step, loss in enumerate(losses):
            recording.add(step, "", "loss", loss)
    if losses and losses[0] > 0 and math.isfinite(losses[0]):
        end = losses[-1] if math.isfinite(losses[-1]) else math.inf
        values = {"probe.overfit": end / losses[0], "probe.overfit_steps": float(len(losses) - 1)}
        recording.add_row(0, "", values)
    return recording, losses


def _own_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    trained = [one for one in model.parameters() if one.requires_grad] or list(model.parameters())
    return torch.optim.Adam(trained, lr=OWN_RATE)


def _forget_optimizer(recording: Recording) -> None:
    """It was ours: which parameters it held, and how, says nothing of the program."""
    recording.meta.optimizer, recording.meta.optimizer_options = None, {}
    nodes = tuple(msgspec.structs.replace(node, optimised=None) for node in recording.structure.nodes)
    recording.structure = msgspec.structs.replace(recording.structure, nodes=nodes)


# ---- what users give


def _check(model: Any, loss_fn: Callable[..., Any], inputs: Any, targets: Any, optimizer: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UnstuckError(f"examine: expected a torch.nn.Module as model, found {type(model).__name__}")
    if not callable(loss_fn):
        raise UnstuckError(
            f"examine: expected loss_fn(output, targets) that can be called, found {type(loss_fn).__name__}"
        )
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise UnstuckError(
            f"examine: expected a torch.optim.Optimizer as optimizer, found {type(optimizer).__name__}"
        )
    if next(model.parameters(), None) is None:
        raise UnstuckError(f"examine: {type(model).__name__} has no parameters: there is nothing to train")
    if any(one.is_meta for one in model.parameters()):
        raise UnstuckError(
            "examine: parameters on the device 'meta' have no numbers; make the model on another"
        )
    tensors = list(tensors_in(arguments(inputs)))
    if not tensors:
        raise UnstuckError(
            "examine: expected a tensor (or several in a tuple or dict) as inputs, "
            f"found {type(inputs).__name__}"
        )
    _check_samples(tensors, targets)


def _check_samples(inputs: list[torch.Tensor], targets: Any) -> None:
    """Targets must be as many as the inputs; some loss functions take several, or one, for each of them."""
    if any(one.dim() and one.shape[0] == 0 for one in inputs):
        raise ShapeError(f"examine: the batch is empty: inputs have the shape {tuple(inputs[0].shape)}")
    if not isinstance(targets, torch.Tensor) or targets.dim() == 0 or len(inputs) > 1 or inputs[0].dim() == 0:
        return
    given = inputs[0].shape[:2]
    wanted = targets.shape[:2]
    if (
        not any(a % b == 0 or b % a == 0 for a in given for b in wanted if a > 1 and b > 1)
        and 1 not in wanted
    ):
        raise ShapeError(
            f"examine: inputs {tuple(inputs[0].shape)} and targets {tuple(targets.shape)}: "
            f"{given[0]} samples against {wanted[0]}"
        )


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, torch.Tensor):
        raise UnstuckError(
            f"examine: loss_fn gave {type(loss).__name__}, expected a tensor with one number "
            "(a class of losses is called once to make a loss; .item() cuts the graph)"
        )
    if loss.numel() != 1:
        raise ShapeError(
            f"examine: loss_fn gave a tensor of shape {tuple(loss.shape)}, expected one number: take its mean"
        )
