"""What answers depend on: a measured forward pass done once more with the inputs of other samples.

Nothing of the program is called again, only the operations of PyTorch that its models were made of, with
the same random numbers: see `tape`.
"""

import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import nn

from unstuck.sources.torch.constants import EXACT, TINY
from unstuck.sources.torch.layouts import FEWEST, Layout, axis_of, by_sample, layouts, of_extent, order
from unstuck.sources.torch.loss import Loss
from unstuck.sources.torch.passes import Passes, as_it_was
from unstuck.sources.torch.probing import FORMS, Again
from unstuck.sources.torch.scene import NotMeasured
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.tape import DRAWS, CannotReplayError, Noted, Tape, tensors
from unstuck.sources.torch.weights import Rows
from unstuck.trace.measure import ratio
from unstuck.trace.schedule import is_measured
from unstuck.trace.structure import INPUT

FIRST = 4
"""Before this step zero weights may still hide what depends on what."""
MOST_FAILURES = 2
MOST_MIXED = 2
"""Looks at whether samples mix: the program does it in each step, or in none."""
LATE = 25
"""Before this step it says little that a network does without an input."""
LARGE = 8
"""Numbers that each sample has in an input that a network cannot well do without."""
BETWEEN = ("scatter", "index_add", "segment_reduce", "spmm", "smm")
"""Begin the names of functions by which the nodes of a graph hear of each other."""


SPREADS = frozenset({"var", "std", "var_mean", "std_mean"})
"""Names of functions that a normalisation written by hand is made of."""


LOSSES = frozenset(form.__name__ for form in FORMS.values())
"""Names of the functions that compare answers with targets."""


def due(step: int) -> bool:
    """Whether a step is looked at: five for every factor of ten, from the fourth on.

    Example:
        >>> [step for step in range(100) if due(step)]
        [4, 6, 10, 16, 25, 40, 63]
    """
    return step >= FIRST and is_measured(step)


class Dependence:
    """Looks at a few steps of a training."""

    def __init__(self) -> None:
        """Nothing tried yet."""
        self._failed = self._mixed = 0
        self._done = False
        self.sizes: Collection[int] = ()
        """Samples of the batches that data loaders hand out, with the first axis for them."""

    @property
    def tired(self) -> bool:
        """Whether it failed too often to be tried again, or nothing is left to be measured."""
        return self._done or self._failed >= MOST_FAILURES

    def look(self, gather: Gather, tape: Tape, loss: torch.Tensor, rows: Rows, number: int) -> None:
        """Measure a step's batch, before its backward pass.

        Args:
            gather: brings the numbers.
            tape: with what the models did.
            loss: the number that `backward` is called on.
            rows: where the measurements go.
            number: of the step.
        """
        try:
            with torch.no_grad(), as_it_was(tape.start):
                self._look(gather, tape, loss, rows, number)
        except Exception:  # noqa: BLE001  (whatever the program does there may not work twice)
            self._failed += 1

    def _look(self, gather: Gather, tape: Tape, loss: torch.Tensor, rows: Rows, number: int) -> None:
        answer = next((one.tensor for one in tape.answers.values() if one.tensor.dim()), None)
        first = next((one for _, one in tape.inputs.values() if one.dim()), None)
        if answer is None or first is None:
            raise CannotReplayError("what enters or leaves the model has no samples")
        calls = tape.making(loss, answer)
        places = layouts(first, answer)
        if len(places) > 1 and places[0].extent in self.sizes and places[1].extent not in self.sizes:
            places = places[:1]
        scores, shape = _flat(tape, calls)
        passes = Passes(tape.start, calls, {id(loss), id(answer), id(scores)})
        own = passes.of({})
        numbers = [loss.detach(), own[id(loss)]]
        apart = (
            self._mixed < MOST_MIXED
            and not _in_pairs(answer, places)
            and not any(_between(tape, call, len(first)) for call in calls if call.inside)
        )
        several = bool(own_input(tape))
        shuffled = own_input(tape) if number >= LATE else ""
        self._done = not apart and not several
        mixtures = _mixtures(passes, places, own, first, answer, scores, shape) if apart else []
        for mixture in mixtures:
            numbers += mixture
        for place in places if shuffled else ():
            changed = {
                key: _dealt(one, place) for key, (name, one) in tape.inputs.items() if name == shuffled
            }
            new = passes.of(changed)
            differ = [(one != tape.inputs[key][1]).any() for key, one in changed.items()]
            was = own[id(answer)].double()
            numbers += [new[id(loss)], torch.linalg.vector_norm(_apart(new[id(answer)].double(), was))]
            spread = torch.linalg.vector_norm(_apart(was, was.mean(0)))
            numbers += [spread, torch.stack(differ).any()]
        ways, mixings = [len(one) for one in mixtures], sum(len(one) for one in mixtures)

        def use(found: Floats) -> None:
            seen, again, *rest = (float(one) for one in found)
            if not abs(again - seen) <= EXACT * abs(seen) + TINY:
                self._failed += 1
                return
            told = [_least(rest[sum(ways[:i]) : sum(ways[: i + 1])]) for i in range(len(ways))]
            if known := [one for one in told if one is not None]:
                rows[""]["probe.mixing"] = max(known)
                self._mixed += 1
                self._done = self._mixed >= MOST_MIXED and not several
            # what is the same for all samples (a mask, a grid of places) cannot be exchanged
            looks = (rest[i : i + 4] for i in range(mixings, len(rest), 4))
            exchanged = [look[:3] for look in looks if look[3]]
            if exchanged and seen and math.isfinite(seen):
                losses, changes, spreads = zip(*exchanged, strict=True)
                rows[f"{INPUT}.{shuffled}"] |= {
                    "shuffled.loss": max(losses) / seen,
                    "shuffled.answer": ratio(max(changes), max(spreads)),
                }

        gather.put(torch.stack([one.double().reshape(()) for one in numbers]), use)


def _mixtures(
    passes: "Passes",
    places: Sequence[Layout],
    own: dict[int, torch.Tensor],
    first: torch.Tensor,
    answer: torch.Tensor,
    scores: torch.Tensor | None,
    shape: tuple[int, ...],
) -> list[list[torch.Tensor]]:
    """Changes of the answers, and of what enters the loss: of replaced samples and of the others, in turn.

    For each of the two, and for each of the axes on which samples may lie.
    """
    made: dict[Layout, dict[int, torch.Tensor]] = {}

    def change(
        result: torch.Tensor, place: Layout, rows: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[torch.Tensor]:
        if place not in made:
            given = passes.start.inputs.items()
            made[place] = passes.of({number: _ends_replaced(one, place) for number, (_, one) in given})
        apart = _apart(rows(made[place][id(result)]), rows(own[id(result)])).double()
        return [torch.linalg.vector_norm(apart[[0, -1]]), torch.linalg.vector_norm(apart[1:-1])]

    found = [
        [
            one
            for place in places
            for one in change(answer, place, lambda x, place=place: by_sample(x, first, place))
        ]
    ]
    if scores is not None and len(scores) == math.prod(shape):
        found.append(
            [
                one
                for axis, extent in enumerate(shape)
                for place in of_extent(first, extent)
                for one in change(
                    scores, place, lambda x, axis=axis: x.reshape(*shape, -1).movedim(axis, 0).flatten(1)
                )
            ]
        )
    return [one for one in found if one]


def _in_pairs(answer: torch.Tensor, places: Sequence[Layout]) -> bool:
    """Whether every sample is set against all samples of the batch, on purpose: (N, N) scores of pairs."""
    square = answer.dim() > 1 and answer.shape[0] == answer.shape[1]
    return square and any(place.extent == answer.shape[0] for place in places)


def _apart(new: torch.Tensor, was: torch.Tensor) -> torch.Tensor:
    """The difference, and 0 where one of them is no number: what a mask took out is minus infinity."""
    return torch.where(new.isfinite() & was.isfinite(), new - was, 0.0)


def _least(changes: Sequence[float]) -> float | None:
    """The least mixture over the axes on which samples may lie; None where a sample's own answer stays."""
    pairs = list(zip(changes[::2], changes[1::2], strict=True))
    return min(others / own for own, others in pairs) if all(own > 0 for own, _ in pairs) else None


def _flat(tape: Tape, calls: Sequence[Noted]) -> tuple[torch.Tensor | None, tuple[int, ...]]:
    """What enters a loss as rows, and the first two extents of its targets before they were made flat."""
    for call in reversed(calls):
        told = [one for one in (*call.args, *call.kwargs.values()) if isinstance(one, torch.Tensor)]
        if not call.inside and call.name in LOSSES and len(told) > 1 and id(told[1]) in tape.shapes:
            return told[0], tuple(tape.shapes[id(told[1])][1][:2])
    return None, ()


def dealt(
    gather: Gather, seen: Loss, scores: torch.Tensor | None, batch: torch.Tensor | None, rows: Rows
) -> None:
    """The loss of the same answers against the targets of other samples, where that can be computed.

    Args:
        gather: brings the numbers.
        seen: the loss.
        scores: what enters it, where that is at hand.
        batch: what the model was given, with samples on its first axis; None where that is not known.
        rows: where the measurements go.
    """
    target = seen.target
    if scores is None or target is None or not target.dim() or seen.type not in FORMS:
        return
    count, extent = len(target), 0 if batch is None or not batch.dim() else len(batch)
    samples = extent if extent and count % extent == 0 else count
    if samples < FEWEST:
        return
    try:
        again = Again(seen)
        with torch.no_grad():
            # every position of a sequence keeps its place
            others = target.reshape(samples, -1)[order(samples, target.device)].reshape(target.shape)
            differ = (others != target).float().mean()
            pair = again(scores, target), again(scores, others)
    except (NotMeasured, RuntimeError, ValueError, IndexError):
        return

    def use(found: Floats) -> None:
        own, other, apart = (float(one) for one in found)
        if own > 0 and math.isfinite(other) and apart > 0:
            rows[""]["dealt.loss"] = other / own

    gather.put(torch.stack([one.float().reshape(()) for one in (*pair, differ)]), use)


# ---- samples


def _ends_replaced(one: torch.Tensor, place: Layout) -> torch.Tensor:
    """The first and the last sample are others."""
    axis = axis_of(one, place)
    if axis is None:
        return one
    new, middle = one.detach().clone(), place.extent // 2
    new.select(axis, 0).copy_(one.detach().select(axis, middle))
    new.select(axis, -1).copy_(one.detach().select(axis, middle - 1))
    return new


def _dealt(one: torch.Tensor, place: Layout) -> torch.Tensor:
    """Every sample is another."""
    axis = axis_of(one, place)
    return one if axis is None else one.detach().index_select(axis, order(place.extent, one.device))


def told_before(gather: Gather, tape: Tape, target: torch.Tensor | None, rows: Rows) -> None:
    """Which of several inputs holds the targets, one place later: a decoder is told what it should have said.

    Args:
        gather: brings the numbers.
        tape: with what the models were given.
        target: of the loss, flattened or not.
        rows: where the measurements go.
    """
    if target is None or target.is_floating_point() or len(tape.inputs) < 2:
        return
    for name, one in tape.inputs.values():
        if one.dim() != 2 or one.is_floating_point() or one.numel() != target.numel() or min(one.shape) < 2:
            continue
        if one.device != target.device:
            continue
        wanted, places = target.detach().reshape(one.shape), enumerate(one.shape)
        shares = [(one.narrow(i, 1, n - 1) == wanted.narrow(i, 0, n - 1)).float().mean() for i, n in places]
        row = rows[f"{INPUT}.{name}"]
        gather.put(torch.stack(shares).max(), lambda x, row=row: row.__setitem__("forced", float(x)))


def own_input(tape: Tape) -> str:
    """The first of several inputs, if a network cannot well do without it; else ""."""
    names = list(dict.fromkeys(name for name, _ in tape.inputs.values()))
    return names[0] if len(names) > 1 and _is_large(tape, names[0]) else ""


def _is_large(tape: Tape, name: str) -> bool:
    """Whether an input has many numbers for each sample."""
    own = [one for known, one in tape.inputs.values() if known == name]
    return all(one.dim() > 1 and one.numel() >= LARGE * len(one) and one.dtype != torch.bool for one in own)


def _between(tape: Tape, call: Noted, count: int) -> bool:
    """Whether a call lets samples hear of each other as it is meant: nodes of a graph, or a normalisation.

    So do random numbers of which one sample may take more than before, and leave others to the next.
    """
    # whole numbers that are put in order (as for packed sequences) are no messages
    if call.name.startswith(BETWEEN) and any(one.is_floating_point() for one in call.out):
        return True
    if call.name.rstrip("_") in DRAWS:
        return True
    if call.name in SPREADS:
        over = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
        return (
            over is None
            or isinstance(over, bool)
            or 0 in (over if isinstance(over, (tuple, list)) else (over,))
        )
    for one in tensors((call.args, call.kwargs)):
        told = id(one) in tape.inputs or (id(one) not in call.reads and not isinstance(one, nn.Parameter))
        if one.layout != torch.strided or (told and one.dim() == 2 and tuple(one.shape) == (count, count)):
            return True
    return False
