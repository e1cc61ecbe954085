"""A run that was seen, trained in the engine: with the same weights, numbers and samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck import nn
from unstuck.diagnose.remedies import parse
from unstuck.errors import UnstuckError
from unstuck.nn.fit import start
from unstuck.nn.layers.kinds import make
from unstuck.nn.schedules import LRSchedule
from unstuck.nn.training import Training
from unstuck.prove.carry.order import Order
from unstuck.prove.carry.seen import Facts, Seen
from unstuck.prove.script.row import Row
from unstuck.prove.subjects.engine_treatments import Refusal, apply

FIRST = 10
"""Steps whose losses are compared one by one."""


@dataclass(frozen=True)
class Table(LRSchedule):
    """The rates that were seen, step by step."""

    seen: tuple[float, ...] = ()
    per: Any = field(default="step", kw_only=True)

    def rates(self, lr: float, count: NDArray[np.int64]) -> NDArray[np.float64]:
        """As multiples of the optimiser's."""
        return lr * np.array(self.seen)[np.minimum(count, len(self.seen) - 1)]

    def _check(self) -> None:
        """Any rates will do."""


def training(
    facts: Facts, beginning: Seen, batches: Sequence[int], *, shuffle: bool, epochs: int
) -> Training:
    """The engine's twin of a run.

    Args:
        facts: of the whole run: optimiser, rates, clipping, frozen parameters.
        beginning: whose weights and batches are taken.
        batches: numbers of the batches that are one epoch.
        shuffle: whether the samples are dealt anew in every epoch.
        epochs: how often they are gone through.

    Raises:
        UnstuckError: the engine cannot train this; why.
    """
    own = beginning.facts
    layers = {name: make(kind, dict(values)) for name, kind, values in _plain(own)}
    kinds = {one.dtype for one in beginning.state.values() if one.dtype.kind == "f"}
    dtype = np.float64 if np.dtype(np.float64) in kinds else np.float32
    network = nn.Sequential(layers).load(beginning.state, dtype)
    clips = {(step.clip_norm, step.clip_value) for step in facts.steps}
    if len(clips) > 1:
        raise UnstuckError("its gradients are clipped at some steps and not at others")
    norm, value = clips.pop()
    numbers: dict[str, Any] = {
        name: tuple(one) if isinstance(one, list) else one  # pyright: ignore[reportUnknownArgumentType]  (numbers)
        for name, one in facts.numbers.items()
    }
    found = Training(
        network,
        (
            np.concatenate([beginning.inputs[one] for one in batches]),
            np.concatenate([beginning.targets[one] for one in batches]),
        ),
        getattr(nn, own.loss)(),
        getattr(nn, facts.optimizer)(lr=1.0, **numbers),
        batch_size=beginning.inputs[batches[0]].shape[0],
        epochs=epochs,
        shuffle=shuffle,
        frozen=facts.frozen,
        lr_schedule=Table(seen=tuple(step.lr for step in facts.steps)),
        clip_norm=norm,
        clip_value=value,
    )
    if facts.normalised:
        try:
            found = apply(found, parse("insert=batch_norm"))
        except Refusal as refusal:
            raise UnstuckError(str(refusal)) from None
    return found


def _plain(facts: Facts) -> list[tuple[str, str, dict[str, Any]]]:
    """Layers whose arguments are as they were before they were written down: pairs are tuples."""
    return [
        (name, kind, {key: tuple(one) if isinstance(one, list) else one for key, one in values.items()})  # pyright: ignore[reportUnknownArgumentType]  (numbers)
        for name, kind, values in facts.layers
    ]


def first_losses(seen: Seen, disturbed: int | None = None) -> NDArray[np.float64]:
    """What the engine's losses are over the first steps of a run, with its own batches in their order.

    Args:
        seen: the run.
        disturbed: with a number, all weights are changed by about the last bit of theirs, each number in
            another way: so the losses show what rounding alone may do.

    Raises:
        UnstuckError: the engine cannot train this; why.
    """
    batches = [step.batch for step in seen.facts.steps][:FIRST]
    sizes = [seen.inputs[one].shape[0] for one in batches]
    short = next((number for number, size in enumerate(sizes) if size != sizes[0]), len(sizes))
    if short < len(sizes) and sizes[short] < sizes[0]:
        short += 1  # the last of an epoch may be smaller
    batches = batches[:short]
    twin = training(seen.facts, seen, batches, shuffle=False, epochs=1)
    session = start(twin, 0)
    if disturbed is not None:
        luck = np.random.default_rng(disturbed).normal(size=session.params.shape)
        session.params *= (1 + np.finfo(session.params.dtype).eps * luck).astype(session.params.dtype)
    session.advance(len(batches))
    return np.array(session.losses)


def end(whole: Seen, order: Order, beginning: Seen, seed: int) -> Row:
    """Train a whole run from another beginning, and say how it ended.

    Args:
        whole: a run to its end with the same treatment: how many steps, at which rates.
        order: of its samples.
        beginning: the first epoch of a run of another seed: its weights and samples.
        seed: by which samples are dealt.

    Raises:
        UnstuckError: the engine cannot train this; why.
    """
    steps = len(whole.facts.steps)
    batches = [step.batch for step in beginning.facts.steps][: order.epoch]
    twin = training(whole.facts, beginning, batches, shuffle=order.shuffled, epochs=-(-steps // order.epoch))
    session = start(twin, seed)
    session.advance(steps)
    losses = np.full(steps, np.nan)
    losses[: len(session.losses)] = session.losses
    final = float(np.mean(losses[-max(1, steps // 10) :]))
    return Row(
        seed=seed,
        steps=steps,
        loss=final if np.isfinite(final) else None,
        start=float(losses[0]) if np.isfinite(losses[0]) else None,
    )


def fits(whole: Seen, order: Order, beginning: Seen) -> str:
    """Why a beginning is not one of the same training; empty where it is."""
    one, other = whole.facts, beginning.facts
    if other.why_not:
        return other.why_not
    sizes = [
        [seen.inputs[step.batch].shape for step in seen.facts.steps[: order.epoch]]
        for seen in (whole, beginning)
    ]
    if len(other.steps) < order.epoch or sizes[0] != sizes[1]:
        return "other seeds have other batches"
    if one.loss != other.loss:
        return "other seeds have another loss"
    return ""
