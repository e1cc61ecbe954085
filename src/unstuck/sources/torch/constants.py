"""The loss of the best constant answer, for losses of any kind: the program's own, computed once more.

What the program did with its model's answers is done again with one answer for all samples, and that answer
is improved until the loss falls no further. Nothing of the training is touched: it all happens with copies.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from unstuck.sources.torch.descent import descend
from unstuck.sources.torch.replay import filled, no_others, play
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.tape import Answer, CannotReplayError, Noted, Tape
from unstuck.sources.torch.weights import Rows
from unstuck.trace.measure import Values

FIRST, LATER = 80, 30
"""Steps of the search: at the first time, and from the last constant on."""
LARGEST = 1 << 20
"""Numbers in all answers together, at most."""
FEWEST = 4
"""Samples of a batch, at least."""
MOST_FAILURES = 3
EXACT, TINY = 1e-4, 1e-9
"""Difference of a loss that is computed again, relative and absolute, that rounding explains."""
RESTS = 0.01
"""Fall in the last third of a search / the loss, from which on it has not come to its end."""


class Replayed(NamedTuple):
    """Losses of the step's batch, each of one number on the device."""

    again: torch.Tensor
    """Of the answers as they were: it must be the program's own."""
    losses: torch.Tensor
    """Of the constant, in the steps of the search."""
    carried: torch.Tensor | None
    """Of the constant that was best for the batch before."""
    turned: torch.Tensor | None
    """Of the constant in a search for the largest loss, at the first time."""
    varies: torch.Tensor
    """Largest variance of an answer over the samples / its mean square."""


class Constants:
    """Searches the best constant answers, batch after batch."""

    def __init__(self) -> None:
        """No batch seen yet."""
        self._last: dict[tuple[Any, ...], torch.Tensor] = {}
        self._failed = self._endless = 0
        self.done = False
        """Whether the loss of the best constant answer is known in another way."""

    @property
    def tired(self) -> bool:
        """Whether nothing is left to be searched, or it failed too often to be tried again."""
        return self.done or max(self._failed, self._endless) >= MOST_FAILURES

    def look(
        self,
        gather: Gather,
        tape: Tape,
        loss: torch.Tensor,
        rows: Rows,
        *,
        scale: list[float],
        share: list[float],
    ) -> None:
        """Measure a step's batch, before its backward pass.

        Args:
            gather: brings the numbers.
            tape: with what was done to the answers.
            loss: the number that `backward` is called on.
            rows: where the measurements go.
            scale: its one number is what the loss is multiplied by for half precision.
            share: its one number is the number of losses that make up this step's.
        """
        try:
            found = self.search(tape, loss)
        except Exception:  # noqa: BLE001  (whatever the program does there may not work twice)
            self._failed += 1
            return
        parts = [loss.detach().reshape(()), found.again, found.varies]
        parts += [] if found.carried is None else [found.carried]
        count, steps = len(parts), len(found.losses)

        def use(numbers: Floats) -> None:
            own, again, varies, *carried = (float(one) for one in numbers[:count])
            if not abs(again - own) <= EXACT * abs(own) + TINY:
                self._failed += 1
                return
            values = rows[""]
            if "baseline_loss" in values:
                return
            values.setdefault("output_variation", varies)
            searched = numbers[count:].astype(np.float64)
            values |= settled(searched[:steps], carried, share[0] / scale[0])
            if found.turned is not None:
                values["constant_rises"] = settled(searched[steps:], [], 1.0).get("constant_falls")
            self._learn(endless=values.get("constant_falls") == 1)

        tail = [found.losses] if found.turned is None else [found.losses, found.turned]
        gather.put(torch.cat([torch.stack([one.float() for one in parts]), torch.cat(tail).float()]), use)

    def _learn(self, *, endless: bool) -> None:
        """From a constant that runs away there is no going on; three of them are enough."""
        self._endless = self._endless + 1 if endless else 0
        if endless:
            self._last.clear()

    def search(self, tape: Tape, loss: torch.Tensor) -> Replayed:
        """The losses of constants, for one step's batch.

        Args:
            tape: with what was done to the answers.
            loss: the number that `backward` is called on.

        Raises:
            CannotReplayError: where that cannot be done again.
        """
        calls = tape.needed(loss)
        read = {one for call in calls for one in call.reads}
        answers = [one for number, one in tape.answers.items() if number in read]
        if any(one.tensor.dim() == 0 or one.tensor.numel() == 0 for one in answers):
            raise CannotReplayError("what enters it is no answer to single samples")
        if sum(one.tensor.numel() for one in answers) > LARGEST:
            raise CannotReplayError("the answers are too large")
        no_others(calls, tape, answers)
        with torch.random.fork_rng(devices=[]):
            return self._search(calls, answers, loss)

    def _search(self, calls: Sequence[Noted], answers: Sequence[Answer], loss: torch.Tensor) -> Replayed:
        with torch.no_grad():
            as_they_were = {id(one.tensor): one.tensor.detach() for one in answers}
            again = play(calls, as_they_were, loss, constant=False)
            groups: dict[tuple[Any, ...], list[torch.Tensor]] = {}
            for one in answers:
                groups.setdefault(one.key, []).append(one.tensor.detach())
            if all(_samples(one) < FEWEST for group in groups.values() for one in group):
                raise CannotReplayError("the batch has too few samples")
            means = {key: torch.stack([_mean(one) for one in group]).mean(0) for key, group in groups.items()}
            sizes = {key: _size(group) for key, group in groups.items()}
        known = means.keys() == self._last.keys() and all(
            means[key].shape == self._last[key].shape for key in means
        )
        carried = None
        start = means
        if known:
            with torch.no_grad():
                carried = play(calls, filled(answers, self._last), loss).detach().float().reshape(())
            start = self._last
        best, losses = descend(calls, answers, loss, start, sizes, LATER if known else FIRST)
        turned = None
        if not known:
            _, turned = descend(calls, answers, loss, start, sizes, FIRST, up=True)
        self._last = best
        varies = torch.stack([_variation(one.tensor.detach()) for one in answers]).max()
        return Replayed(again.detach().reshape(()), losses, carried, turned, varies)


def settled(losses: npt.NDArray[np.float64], carried: Sequence[float], factor: float) -> Values:
    """What a search says: the best constant answer's loss, or that it falls without an end.

    A constant fitted to a batch does better there than on other data, and one that was fitted to another
    batch does worse by as much: the mean of both is right.

    Args:
        losses: in the steps of the search.
        carried: of the constant that was best for the batch before, where there is one.
        factor: what the losses are multiplied by.

    Example:
        >>> settled(np.array([4.0, 2.0, 1.5, 1.5, 1.5, 1.5]), [1.7], 1.0)
        {'constant_loss': 1.6, 'constant_falls': 0.0}
        >>> settled(np.array([0.0, -1.0, -3.0, -7.0, -15.0, -31.0]), [], 1.0)
        {'constant_falls': 1.0}
    """
    broken = np.flatnonzero(~np.isfinite(losses))  # what runs away leaves all numbers behind
    finite = losses[: broken[0]] if broken.size else losses
    if not finite.size or not factor:
        return {}
    best = float(finite.min())
    early = float(finite[: max(2 * finite.size // 3, 1)].min())
    fall = float(finite[0]) - best
    if early - best > RESTS * max(abs(best), fall):
        return {"constant_falls": float(early - best > 0.5 * fall)}
    with_other = [one for one in carried if best <= one < math.inf]
    middle = (best + with_other[0]) / 2 if with_other else best
    return {"constant_loss": middle * factor, "constant_falls": 0.0}


def _mean(answer: torch.Tensor) -> torch.Tensor:
    """Over samples; of sequences (N, T, C) or (T, N, C) over both, since no place stands out."""
    return answer.mean((0, 1), keepdim=True) if answer.dim() == 3 else answer.mean(0, keepdim=True)


def _samples(answer: torch.Tensor) -> int:
    return answer.shape[0] * answer.shape[1] if answer.dim() == 3 else answer.shape[0]


def _size(group: Sequence[torch.Tensor]) -> torch.Tensor:
    """How large the numbers of answers are: the root of their mean square, at least a hundredth."""
    return torch.stack([one.square().mean().sqrt() for one in group]).mean().clamp(min=0.01)


def _variation(answer: torch.Tensor) -> torch.Tensor:
    """Variance over the samples / mean square."""
    moved = answer.float() - answer[:1].float()
    square = answer.float().square().mean()
    return torch.where(square > 0, moved.var(0, correction=0).mean() / square, torch.zeros_like(square))
