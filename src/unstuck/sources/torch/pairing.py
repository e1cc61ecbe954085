"""Whether what a step learns of its own samples holds for any others: does each target belong to its sample?

The answers for a batch are compared with the targets of other samples of it, before an update and after it.
What the update ties together in this batch makes the answers fit their own targets better than others'.
Where a later batch shows nothing of that, step after step, the pairs were learned by heart and nothing else.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from unstuck.sources.torch.constants import EXACT, TINY
from unstuck.sources.torch.layouts import Layout, exchanged, layouts
from unstuck.sources.torch.passes import Passes, as_it_was
from unstuck.sources.torch.replay import play
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.tape import CannotReplayError, Noted, Start, Tape
from unstuck.sources.torch.weights import Rows
from unstuck.trace.structure import INPUT

MOST_FAILURES = 2
FITS = 2.0
"""Loss for the targets of others / for their own, from which on answers belong to their samples."""


class _Seen(NamedTuple):
    """A step's batch, until its update is done."""

    start: Start
    calls: list[Noted]
    loss: torch.Tensor
    answers: list[torch.Tensor]
    first: torch.Tensor
    place: Layout
    apart: str
    """An input that is looked at by itself: others' stand in its place, and targets stay; "" for none."""
    before: list[torch.Tensor]
    """The loss as it was; of each batch's others."""

    @property
    def inside(self) -> bool:
        """Whether the model computes its loss itself, from targets that are one of its inputs."""
        return any(call.inside and any(one is self.loss for one in call.out) for call in self.calls)


class Pairing:
    """Looks at a few steps of a training."""

    def __init__(self) -> None:
        """Nothing tried yet."""
        self._failed = 0
        self._known = self._done = False
        self._seen: _Seen | None = None

    @property
    def tired(self) -> bool:
        """Whether it failed too often to be tried again, or answers fit their samples: then all is said."""
        return self._done or self._failed >= MOST_FAILURES

    def before(self, tape: Tape, loss: torch.Tensor, apart: str) -> None:
        """Look at a step's batch before its backward pass.

        Args:
            tape: with what the models did.
            loss: the number that `backward` is called on.
            apart: name of an input that is to be looked at by itself; "" for none.
        """
        self._seen = None
        try:
            with torch.no_grad(), as_it_was(tape.start):
                self._seen = self._look(tape, loss, apart)
        except Exception:  # noqa: BLE001  (whatever the program does there may not work twice)
            self._failed += 1

    def _look(self, tape: Tape, loss: torch.Tensor, apart: str) -> _Seen:
        answers = [one.tensor for one in tape.answers.values() if one.tensor.dim()]
        first = next((one for _, one in tape.inputs.values() if one.dim()), None)
        if not answers or first is None:
            raise CannotReplayError("what enters or leaves the model has no samples")
        calls = tape.making(loss, *answers)
        place = layouts(first, answers[0])[0]
        seen = _Seen(tape.start, calls, loss, answers, first, place, apart, [])
        if self._known and not apart and not seen.inside:
            # a pass done once more gives the same: what the models answered is at hand
            mine = {id(one): one.detach() for one in answers}
            return seen._replace(before=[loss.detach(), loss.detach(), _of_others(seen, mine)])
        return seen._replace(before=[loss.detach(), *_losses(seen)])

    def after(self, gather: Gather, rows: Rows) -> None:
        """Look at it once more, after its update.

        Args:
            gather: brings the numbers.
            rows: where the measurements go.
        """
        seen, self._seen = self._seen, None
        if seen is None:
            return
        try:
            with torch.no_grad(), as_it_was(seen.start):
                numbers = [*seen.before, *_losses(seen)]
        except Exception:  # noqa: BLE001
            self._failed += 1
            return

        def use(found: Floats) -> None:
            was, own, *rest = (float(one) for one in found)
            if not abs(own - was) <= EXACT * abs(was) + TINY:
                self._failed += 1
                return
            self._known = True
            ways = len(rest) // 2
            others, (now, *others_now) = rest[:ways], rest[ways:]
            if not own > 0:
                return
            self._done = all(one >= FITS * own for one in others)
            places = ["", f"{INPUT}.{seen.apart}"]
            for layer, one, one_now in zip(places, others, others_now, strict=False):
                if one == own:
                    continue  # whose target it is makes no difference at all
                rows[layer] |= {
                    "pairs.loss": one / own,
                    "pairs.learned": ((one_now - now) - (one - own)) / own,
                    "pairs.fall": (own - now) / own,
                }

        gather.put(torch.stack([one.double().reshape(()) for one in numbers]), use)

    def forget(self) -> None:
        """Let go of the batch."""
        self._seen = None


def _losses(seen: _Seen) -> list[torch.Tensor]:
    """The loss at the present weights; with the answers of others; with one input of others."""
    passes = Passes(seen.start, seen.calls, {id(seen.loss), *map(id, seen.answers)})
    own = passes.of({})

    def with_others(name: str) -> torch.Tensor:
        changed = {
            key: exchanged(one.detach(), seen.first, seen.place)
            for key, (known, one) in seen.start.inputs.items()
            if known == name
        }
        return passes.of(changed)[id(seen.loss)]

    others = with_others(_first_name(seen.start)) if seen.inside else _of_others(seen, own)
    return [own[id(seen.loss)], others, *([with_others(seen.apart)] if seen.apart else [])]


def _first_name(start: Start) -> str:
    return next(name for name, _ in start.inputs.values())


def _of_others(seen: _Seen, own: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """The loss where each sample has the answers of another."""
    after = [call for call in seen.calls if not call.inside]
    given = {id(one): exchanged(own[id(one)], seen.first, seen.place) for one in seen.answers}
    return play(after, given, seen.loss, constant=False)
