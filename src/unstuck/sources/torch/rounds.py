"""Which optimisers train our parameters, and when a step of the training is complete."""

from collections.abc import Callable, Sequence
from typing import Any

from unstuck.sources.torch.params import Held, optimised


def inner(optimizer: Any) -> Any:
    """The optimiser itself, without the wrappers of training libraries."""
    for _ in range(8):
        inside = getattr(optimizer, "optimizer", None)
        if inside is None or not hasattr(inside, "param_groups"):
            break
        optimizer = inside
    return optimizer


class Rounds:
    """Counts steps. With several optimisers that take turns, a step is a round in which each steps once.

    Example:
        >>> rounds = Rounds(["D", "G"])
        >>> [rounds.stepped(name) for name in ("D", "G", "D", "G")]
        [False, True, False, True]
    """

    def __init__(self, optimizers: Sequence[Any]) -> None:
        """Begin with the optimisers that are known."""
        self.known = list(optimizers)
        self._strangers: dict[int, Any] = {}
        self._done: list[Any] = []
        self._expected = list(optimizers)

    def add(self, optimizer: Any) -> None:
        """One more."""
        if not any(one is optimizer for one in self.known):
            self.known.append(optimizer)
            self._expected.append(optimizer)

    def ours(self, optimizer: Any, owned: Callable[[], set[int]]) -> bool:
        """Whether it is known, or holds a parameter of ours (then it is from now on)."""
        if any(one is optimizer for one in self.known):
            return True
        if self._strangers.get(id(optimizer)) is optimizer:
            return False
        mine = owned()
        if any(id(tensor) in mine for group in optimizer.param_groups for tensor in group["params"]):
            self.add(optimizer)
            return True
        self._strangers[id(optimizer)] = optimizer
        return False

    @property
    def optimised(self) -> set[int] | None:
        """Ids of all tensors that some optimiser holds; None when none is known."""
        return optimised(self.known) if self.known else None

    def held(self, optimizer: Any, params: Sequence[Held]) -> list[Held]:
        """Parameters that an optimiser's step concerns: its own, and with the first one those of none."""
        own = optimised([optimizer])
        if not self.first(optimizer):
            return [one for one in params if id(one.tensor) in own]
        others = own if len(self.known) == 1 else optimised(self.known)
        return [one for one in params if (number := id(one.tensor)) in own or number not in others]

    @property
    def all_step(self) -> bool:
        """Whether each of those that are known steps in every round."""
        return len(self._expected) == len(self.known)

    @property
    def between(self) -> bool:
        """Whether no optimiser has stepped in this round yet."""
        return not self._done

    def first(self, optimizer: Any) -> bool:
        """Whether it is the first to step in this round."""
        return not self._done or self._done[0] is optimizer

    def stepped(self, optimizer: Any) -> bool:
        """An optimiser has stepped; whether this completes the round.

        One that steps twice while others wait sets the pace from then on.
        """
        if any(one is optimizer for one in self._done):
            self._expected = [optimizer]
        else:
            self._done.append(optimizer)
        if all(any(one is done for done in self._done) for one in self._expected):
            self._done = []
            return True
        return False
