"""The loss of every step, left on its device until numbers come over anyway."""

from collections.abc import Callable, Sequence

import torch

from unstuck.sources.torch.stats import Floats, Gather

CHUNK = 256
"""So many single numbers become one tensor."""


class Losses:
    """Losses of steps whose numbers were not looked at yet."""

    def __init__(self) -> None:
        """None yet."""
        self._now: list[torch.Tensor] = []
        self._steps: list[int] = []
        self._values: list[torch.Tensor] = []
        self._chunks: list[tuple[list[int], torch.Tensor]] = []
        self._mask: tuple[bool, ...] = ()

    @property
    def count(self) -> int:
        """Losses of the current step so far."""
        return len(self._now)

    def note(self, loss: torch.Tensor) -> None:
        """A number that `backward` is called on, detached; of it a copy is kept."""
        self._now.append(loss.clone() if loss.dim() == 0 else loss.reshape(()).clone())

    def drop(self) -> None:
        """The current step did not come to an update."""
        self._now.clear()

    def learn(self, ours: Sequence[bool]) -> None:
        """Which of a step's backward passes reached our parameters: so it will be until the next look."""
        self._mask = tuple(ours)

    def end(self, step: int) -> None:
        """The step is over: its loss is the sum of those that its gradient is made of."""
        now, self._now = self._now, []
        if len(now) == len(self._mask) and any(self._mask):
            now = [loss for loss, ours in zip(now, self._mask, strict=True) if ours]
        if not now:
            return
        self._values.append(now[0] if len(now) == 1 else torch.stack([loss.to(now[0]) for loss in now]).sum())
        self._steps.append(step)
        if len(self._values) >= CHUNK:
            self._pack()

    def put(self, gather: Gather, use: Callable[[list[int], Floats], None]) -> None:
        """Bring all over."""
        self._pack()
        for steps, values in self._chunks:
            gather.put(values, lambda numbers, steps=steps: use(steps, numbers))
        self._chunks = []

    @property
    def waiting(self) -> bool:
        """Whether there is something to bring over."""
        return bool(self._values or self._chunks)

    def _pack(self) -> None:
        if self._values:
            alike = [value.float() if value.dtype != torch.float64 else value for value in self._values]
            self._chunks.append((self._steps, torch.stack([value.to(alike[0].device) for value in alike])))
            self._values, self._steps = [], []
