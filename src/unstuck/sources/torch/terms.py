"""The terms that a program's loss is a sum of, each with the answers of other samples as well."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch

from unstuck.sources.torch.constants import EXACT, TINY
from unstuck.sources.torch.dependence import LOSSES
from unstuck.sources.torch.layouts import FEWEST, order
from unstuck.sources.torch.replay import LONGEST, played
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.tape import CannotReplayError, Noted, Tape
from unstuck.sources.torch.weights import Rows

MOST: Final = 8
"""Terms that a loss is taken apart into, at most."""
MOST_FAILURES: Final = 2
PLACE: Final = "loss."
"""Begins the names of the rows of terms."""
_SUMS: Final = frozenset({"add", "__add__", "__radd__", "add_", "__iadd__", "iadd"})
_DIFFERENCES: Final = frozenset({"sub", "__sub__", "sub_", "__isub__", "subtract"})
_TURNED: Final = frozenset({"rsub", "__rsub__"})
_PRODUCTS: Final = frozenset({"mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply"})
_QUOTIENTS: Final = frozenset({"div", "__truediv__", "div_", "__itruediv__", "true_divide"})


class Term(NamedTuple):
    """A part of a loss."""

    name: str
    tensor: torch.Tensor
    factor: float
    """With which it enters the loss."""


class Terms:
    """Looks at the loss of measured steps."""

    def __init__(self) -> None:
        """Nothing tried yet."""
        self._failed = 0
        self._own: dict[str, bool] = {}
        """By name of a term: whether a function of the program's own lies behind it."""
        self.done = False
        """Whether the loss is known to be no sum."""

    @property
    def tired(self) -> bool:
        """Whether nothing is left to be measured, or it failed too often to be tried again."""
        return self.done or self._failed >= MOST_FAILURES

    def look(self, gather: Gather, tape: Tape, loss: torch.Tensor, rows: Rows, *, taken_apart: bool) -> None:
        """Measure a step's batch, before its backward pass.

        Args:
            gather: brings the numbers.
            tape: with what was done to the answers.
            loss: the number that `backward` is called on.
            rows: where the measurements go.
            taken_apart: whether the loss is to be taken apart, too.
        """
        try:
            wanted = _wanted(tape, loss)
            for name, one in forgotten(tape, wanted):
                row = rows[f"{PLACE}{name}"]
                gather.put(
                    one.detach().reshape(()), lambda x, row=row: row.__setitem__("term.forgotten", float(x))
                )
            for name in twice(tape, wanted):
                rows[f"{PLACE}{name}"]["term.twice"] = 1.0
            if self.tired or not taken_apart:
                return
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self._look(gather, tape, loss, rows)
        except Exception:  # noqa: BLE001  (whatever the program does there may not work twice)
            self._failed += 1

    def _look(self, gather: Gather, tape: Tape, loss: torch.Tensor, rows: Rows) -> None:
        calls = tape.needed(loss)
        found = terms(calls, loss)
        if not 2 <= len(found) <= MOST:
            self._failed += 1
            return
        read = {one for call in calls for one in call.reads}
        answers = [one.tensor for number, one in tape.answers.items() if number in read]
        counts = {len(one) if one.dim() else 0 for one in answers}
        if len(counts) != 1 or min(counts) < FEWEST:
            raise CannotReplayError("the answers have no axis of samples")
        others = order(min(counts), loss.device)
        own = played(calls, {id(one): one.detach() for one in answers}, constant=False)
        given = {id(one): one.detach().index_select(0, others) for one in answers}
        changed = played(calls, given, constant=False)
        numbers = [loss.detach(), own[id(loss)]]
        for one in found:
            if one.name not in self._own:
                self._own[one.name] = _has_own_function(one.tensor.grad_fn)
            numbers += [one.tensor.detach(), changed.get(id(one.tensor), one.tensor)]

        def use(told: Floats) -> None:
            was, again, *rest = (float(one) for one in told)
            if not abs(again - was) <= EXACT * abs(was) + TINY:
                self._failed += 1
                return
            for one, value, other in zip(found, rest[::2], rest[1::2], strict=True):
                rows[f"{PLACE}{one.name}"] |= {
                    "term.loss": value,
                    "term.others": other,
                    "term.factor": one.factor,
                    "term.slope": float(one.tensor.requires_grad),
                    "term.own": float(self._own[one.name]),
                }

        gather.put(torch.stack([one.double().reshape(()) for one in numbers]), use)


def forgotten(tape: Tape, wanted: set[int]) -> list[tuple[str, torch.Tensor]]:
    """Losses of answers that the number which is differentiated has nothing to do with, by their names.

    Args:
        tape: with what was done to the answers.
        wanted: ids of all that the number was made of.
    """
    found: list[tuple[str, torch.Tensor]] = []
    for call in tape.calls:
        own = [one for one in call.reads if one in tape.answers]
        made = call.out[0]
        if call.inside or call.name not in LOSSES or not own or not made.requires_grad or made.numel() != 1:
            continue
        if id(made) not in wanted and not wanted.intersection(own):
            found.append((call.name, made))
    return found


def twice(tape: Tape, wanted: set[int]) -> list[str]:
    """Losses that compare one answer with two different targets, while another such answer is not used.

    Args:
        tape: with what was done to the answers.
        wanted: ids of all that the number was made of.
    """
    idle = [one.tensor for number, one in tape.answers.items() if number not in wanted]
    seen: dict[int, torch.Tensor] = {}
    found: list[str] = []
    for call in tape.calls:
        if call.inside or call.name not in LOSSES or id(call.out[0]) not in wanted or len(call.args) < 2:
            continue
        answer, target = call.args[:2]
        known = seen.setdefault(id(answer), target)
        alike = id(answer) in tape.answers and any(one.shape == answer.shape for one in idle)
        if alike and known.shape == target.shape and not torch.equal(known, target):
            found.append(call.name)
    return found


def _wanted(tape: Tape, loss: torch.Tensor) -> set[int]:
    """Ids of all that a number was made of, outside of models."""
    wanted = {id(loss)}
    for call in reversed([one for one in tape.calls if not one.inside]):
        if any(id(one) in wanted for one in call.out):
            wanted |= set(call.reads)
    return wanted


def terms(calls: Sequence[Noted], loss: torch.Tensor) -> list[Term]:
    """What a number is a sum of, with factors that are numbers; that number alone where it is none.

    Args:
        calls: that made it, in their order.
        loss: the number.

    Example:
        >>> terms([], torch.ones(()))[0].name
        'loss'
    """
    made = {id(one): call for call in calls for one in call.out}
    found: list[Term] = []
    waiting: list[tuple[torch.Tensor, float]] = [(loss, 1.0)]
    while waiting:
        one, factor = waiting.pop(0)
        call = made.get(id(one))
        parts = _parts(call, factor) if call is not None and not call.in_place else None
        if parts is None:
            name = call.name.strip("_") if call is not None else "loss"
            times = sum(other.name.partition(" ")[0] == name for other in found) + 1
            found.append(Term(name if times == 1 else f"{name} {times}", one, factor))
        else:
            waiting += parts
        if len(found) + len(waiting) > MOST:
            break
    known = set(made)
    return [one for one in found if id(one.tensor) in known or one.name == "loss"]


def _parts(call: Noted, factor: float) -> list[tuple[torch.Tensor, float]] | None:
    """The tensors that a call adds up, with their factors; None where it does something else."""
    if len(call.args) < 2 or call.out[0].numel() != 1:
        return None
    first, second = call.args[:2]
    if call.name in _SUMS | _DIFFERENCES | _TURNED:
        alpha = call.kwargs.get("alpha", 1)
        signs = (-1.0, 1.0) if call.name in _TURNED else (1.0, -1.0 if call.name in _DIFFERENCES else 1.0)
        sides = [(first, factor * signs[0]), (second, factor * signs[1] * alpha)]
        return [(one, times) for one, times in sides if isinstance(one, torch.Tensor) and one.numel() == 1]
    if call.name in _PRODUCTS:
        for one, other in ((first, second), (second, first)):
            if isinstance(one, torch.Tensor) and one.numel() == 1 and (times := _number(other)) is not None:
                return [(one, factor * times)]
    if call.name in _QUOTIENTS and isinstance(first, torch.Tensor) and (by := _number(second)):
        return [(first, factor / by)] if first.numel() == 1 else None
    return None


def _has_own_function(fn: Any) -> bool:
    """Whether somebody's own `autograd.Function` lies behind an operation: it may turn gradients round."""
    waiting, seen = [fn], set[Any]()
    while waiting and len(seen) < LONGEST:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        if isinstance(one, torch.autograd.function.BackwardCFunction):
            return True
        seen.add(one)
        waiting.extend(child for child, _ in one.next_functions)
    return False


def _number(thing: Any) -> float | None:
    """A factor that is a plain number."""
    return float(thing) if isinstance(thing, (int, float)) else None
