"""A program's own loss, computed once more with other answers than its model gave."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from unstuck.sources.torch.tape import Answer, CannotReplayError, Noted, Tape, tensors

KEEPS_STATISTICS = frozenset({"batch_norm", "instance_norm"})
"""Functions that change running statistics, their second and third argument."""
LONGEST = 500
"""Operations that are looked at in the past of what a loss reads."""


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
    return played(calls, given, constant=constant)[id(loss)]


def played(
    calls: Sequence[Noted], given: dict[int, torch.Tensor], *, constant: bool
) -> dict[int, torch.Tensor]:
    """The same, with all that is made on the way, by id of what was made."""
    now = dict(given)
    for call in calls:
        if call.func is torch.autograd.grad:
            now |= {id(one): torch.zeros_like(one) if constant else one.detach() for one in call.out}
            continue
        now |= redone(call, now)
    return now


def redone(call: Noted, now: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """One call once more: what it gives, by ids of what it gave.

    Args:
        call: that was noted.
        now: by id of noted tensors, what stands in their place.

    Raises:
        CannotReplayError: where it gives something else.
    """
    args, kwargs = _put(call.args, now), _put(call.kwargs, now)
    if call.name in KEEPS_STATISTICS:
        args = (args[0], *(_own(one) for one in args[1:3]), *args[3:])
        kwargs |= {name: _own(one) for name, one in kwargs.items() if name.startswith("running_")}
    if call.in_place:
        own = args[0].clone()
        call.func(own, *args[1:], **kwargs)
        return {id(call.out[0]): own}
    made = list(tensors(call.func(*args, **kwargs)))
    if len(made) != len(call.out):
        raise CannotReplayError("an operation gave something else")
    return {id(old): new for old, new in zip(call.out, made, strict=True)}


def _own(one: Any) -> Any:
    return one.clone() if isinstance(one, torch.Tensor) else one


def filled(
    answers: Sequence[Answer], constants: Mapping[tuple[Any, ...], torch.Tensor]
) -> dict[int, torch.Tensor]:
    """The constants in the places of the answers."""
    return {id(one.tensor): constants[one.key].detach().expand_as(one.tensor) for one in answers}


def _put(thing: Any, now: Mapping[int, torch.Tensor], depth: int = 4) -> Any:
    """Nested arguments with what stands in place of noted tensors."""
    if isinstance(thing, torch.Tensor):
        return now.get(id(thing), thing)
    if isinstance(thing, dict) and depth:
        return {key: _put(one, now, depth - 1) for key, one in thing.items()}
    if type(thing) in {tuple, list} and depth:
        return type(thing)(_put(one, now, depth - 1) for one in thing)
    return thing


def no_others(calls: Sequence[Noted], tape: Tape, answers: Sequence[Answer]) -> None:
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


def _reaches(fn: Any, roots: set[int]) -> bool:
    """Whether an operation's past holds one of some operations; yes where it is too long to tell."""
    waiting, seen = [fn], set[Any]()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        if id(one) in roots or len(seen) > LONGEST:
            return True
        seen.add(one)
        waiting.extend(child for child, _ in one.next_functions if child is not None)
    return False
