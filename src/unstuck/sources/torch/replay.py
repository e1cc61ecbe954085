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

from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.tape import Answer, CannotReplayError, Noted, Tape, tensors
from unstuck.sources.torch.weights import Rows
from unstuck.trace.measure import Values

FIRST, LATER = 80, 30
"""Steps of the search: at the first time, and from the last constant on."""
GROWS, SHRINKS = 1.3, 0.5
"""How the step of each number changes where its slope keeps or turns its sign (Riedmiller & Braun, 1993)."""
LARGEST = 1 << 20
"""Numbers in all answers together, at most."""
FEWEST = 4
MOST_FAILURES = 3
EXACT, TINY = 1e-4, 1e-9
"""Difference of a loss that is computed again, relative and absolute, that rounding explains."""
ROUNDING = 1e-6
"""Sum of the samples' slopes / sum of their sizes that rounding explains."""
RESTS = 0.01
"""Fall in the last third of a search / the loss, from which on it has not come to its end."""
"""Samples of a batch, at least."""


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
    """Searches the best constant answers, batch after batch.

    References:
        Riedmiller & Braun (1993), "A direct adaptive method for faster backpropagation learning: the RPROP
        algorithm", IEEE International Conference on Neural Networks. It needs the slopes' signs only, so
        neither the size of a loss nor its corners matter.
    """

    def __init__(self) -> None:
        """No batch seen yet."""
        self._last: dict[tuple[Any, ...], torch.Tensor] = {}
        self._failed = self._endless = 0

    @property
    def tired(self) -> bool:
        """Whether it failed too often to be tried again."""
        return max(self._failed, self._endless) >= MOST_FAILURES

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
        _no_others(calls, tape, answers)
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
                carried = play(calls, _filled(answers, self._last), loss).detach().float().reshape(())
            start = self._last
        best, losses = _descend(calls, answers, loss, start, sizes, LATER if known else FIRST)
        turned = None
        if not known:
            _, turned = _descend(calls, answers, loss, start, sizes, FIRST, up=True)
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


def play(
    calls: Sequence[Noted], given: dict[int, torch.Tensor], loss: torch.Tensor, *, constant: bool = True
) -> torch.Tensor:
    """Do it once more with other answers.

    Args:
        calls: in their order.
        given: by id of the answer, what stands in its place.
        loss: the number that was made.
        constant: whether they depend on no input, so that slopes with respect to one are 0; otherwise slopes
            are as they were.
    """
    now = dict(given)
    for call in calls:
        if call.func is torch.autograd.grad:
            now |= {id(one): torch.zeros_like(one) if constant else one.detach() for one in call.out}
            continue
        args, kwargs = _put(call.args, now), _put(call.kwargs, now)
        if call.in_place:
            own = args[0].clone()
            call.func(own, *args[1:], **kwargs)
            now[id(call.out[0])] = own
            continue
        made = list(tensors(call.func(*args, **kwargs)))
        if len(made) != len(call.out):
            raise CannotReplayError("an operation gave something else")
        now |= {id(old): new for old, new in zip(call.out, made, strict=True)}
    return now[id(loss)]


def _descend(
    calls: Sequence[Noted],
    answers: Sequence[Answer],
    loss: torch.Tensor,
    start: dict[tuple[Any, ...], torch.Tensor],
    sizes: dict[tuple[Any, ...], torch.Tensor],
    steps: int,
    *,
    up: bool = False,
) -> tuple[dict[tuple[Any, ...], torch.Tensor], torch.Tensor]:
    """Rprop on the constants, to the smallest loss or to the largest; all numbers stay on the device."""
    keys = list(start)
    now = [start[key].clone() for key in keys]
    best, lowest = [one.clone() for one in now], torch.full((), math.inf, device=loss.device)
    pace = [torch.ones_like(one) * sizes[key] * 0.1 for key, one in zip(keys, now, strict=True)]
    signs = [torch.zeros_like(one) for one in now]
    losses: list[torch.Tensor] = []
    for _ in range(steps):
        with torch.enable_grad():
            filled = _filled(answers, dict(zip(keys, now, strict=True)))
            free = [filled[id(one.tensor)].requires_grad_() for one in answers]
            number = play(calls, filled, loss).reshape(())
            number = -number if up else number
            if not number.requires_grad:
                losses.append(number.detach().float())
                break
            slopes = _slopes(answers, torch.autograd.grad(number, free, allow_unused=True), now, keys)
        value = number.detach().float()
        losses.append(value)
        with torch.no_grad():
            better = value < lowest
            lowest = torch.where(better, value, lowest)
            best = [torch.where(better, a, b) for a, b in zip(now, best, strict=True)]
            for i, sign in enumerate(slopes):
                turned = sign * signs[i]
                pace[i] = pace[i] * torch.where(
                    turned > 0, GROWS, torch.where(turned < 0, SHRINKS, torch.ones_like(turned))
                )
                now[i] = now[i] - sign * pace[i]
                signs[i] = torch.where(turned < 0, torch.zeros_like(sign), sign)
    return dict(zip(keys, best, strict=True)), torch.stack(losses)


def _slopes(
    answers: Sequence[Answer],
    found: Sequence[Any],
    now: Sequence[torch.Tensor],
    keys: Sequence[tuple[Any, ...]],
) -> list[torch.Tensor]:
    """Signs of each constant's slopes; 0 where those of the samples cancel up to rounding."""
    total = [torch.zeros_like(one) for one in now]
    sizes = [torch.zeros_like(one) for one in now]
    for answer, slope in zip(answers, found, strict=True):
        if slope is None:
            continue
        at, known = keys.index(answer.key), torch.nan_to_num(slope)
        total[at] += known.sum_to_size(total[at].shape)
        sizes[at] += known.abs().sum_to_size(total[at].shape)
    return [
        torch.where(one.abs() > ROUNDING * size, one.sign(), torch.zeros_like(one))
        for one, size in zip(total, sizes, strict=True)
    ]


def _filled(
    answers: Sequence[Answer], constants: dict[tuple[Any, ...], torch.Tensor]
) -> dict[int, torch.Tensor]:
    """The constants in the places of the answers."""
    return {id(one.tensor): constants[one.key].detach().expand_as(one.tensor) for one in answers}


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


def _put(thing: Any, now: dict[int, torch.Tensor], depth: int = 4) -> Any:
    """Nested arguments with what stands in place of noted tensors."""
    if isinstance(thing, torch.Tensor):
        return now.get(id(thing), thing)
    if isinstance(thing, dict) and depth:
        return {key: _put(one, now, depth - 1) for key, one in thing.items()}
    if type(thing) in {tuple, list} and depth:
        return type(thing)(_put(one, now, depth - 1) for one in thing)
    return thing


def _no_others(calls: Sequence[Noted], tape: Tape, answers: Sequence[Answer]) -> None:
    """Whatever else the calls read must not depend on the model in ways that were not noted.

    Raises:
        CannotReplayError: if it does.
    """
    roots = {id(one.tensor.grad_fn) for one in answers}
    noted = {id(one) for call in calls for one in call.out} | set(tape.answers)
    for call in calls:
        if call.func is torch.autograd.grad:
            inputs = [*tensors(call.args[1:2]), *tensors(call.kwargs.get("inputs"))]
            if any(one.grad_fn is not None or isinstance(one, torch.nn.Parameter) for one in inputs):
                raise CannotReplayError("it takes a slope that is not with respect to data")
    for one in (one for call in calls for one in tensors((call.args, call.kwargs))):
        if id(one) not in noted and one.grad_fn is not None and _reaches(one.grad_fn, roots):
            raise CannotReplayError("a part of it was made out of sight")


def _reaches(fn: Any, roots: set[int], most: int = 500) -> bool:
    """Whether an operation's past holds one of some operations; yes where it is too long to tell."""
    waiting, seen = [fn], set[Any]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        if id(one) in roots or len(seen) > most:
            return True
        seen.add(one)
        waiting.extend(child for child, _ in one.next_functions if child is not None)
    return False
