# pyright: basic
# PyTorch's optimisers are open dictionaries; their stubs know little of what is in them.
"""Treatments of the learning rate: a multiple of it, a schedule undone, a warm-up."""

import math
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention

WARM = 0.05
"""Part of the steps over which a warm-up rises."""


class Rate(Intervention):
    """`lr*F`: every step is made with F times the learning rate.

    The rate is multiplied right before a step and put back right after it, so that schedulers, warm-ups and
    whatever else computes rates sees its own numbers, and acts as on the unchanged program.
    """

    nothing = "no optimiser of this program made a step with a learning rate"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing changed yet."""
        super().__init__(*args, **kwargs)
        self._kept: dict[int, list[Any]] = {}
        self._after: Any = None

    def install(self, undo: ExitStack) -> None:
        """Before every other hook: a recorder is to see the rate that is used."""
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        undo.callback(register_optimizer_step_pre_hook(self._raise).remove)
        self._listen_last()
        undo.callback(self._stop)

    def begun(self) -> None:
        """After every other hook, for the same reason."""
        self._listen_last()

    def _stop(self) -> None:
        self._after.remove()

    def _listen_last(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        if self._after is not None:
            self._after.remove()
        self._after = register_optimizer_step_post_hook(self._restore)

    def _raise(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self._restore(optimizer)  # of a step that was left by an exception
        rates = [group.get("lr") for group in optimizer.param_groups]
        if any(rate is None for rate in rates):
            self.refuse(f"{type(optimizer).__name__} finds its learning rate by itself")
            return
        self._kept[id(optimizer)] = [rate.clone() if hasattr(rate, "clone") else rate for rate in rates]
        for group, new in zip(optimizer.param_groups, self.rates(optimizer, rates), strict=True):
            _set_rate(group, new)

    def rates(self, optimizer: Any, rates: list[Any]) -> list[Any]:
        """The rates that a step is made with.

        Args:
            optimizer: it is about to step.
            rates: of its groups, as the program set them.
        """
        self.did(type(optimizer).__name__)
        return [rate * self.factor(optimizer) for rate in rates]

    def factor(self, optimizer: Any) -> float:
        """By which an optimiser's rate is multiplied."""
        del optimizer
        return self.treatment.factor

    def _restore(self, optimizer: Any, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._kept.pop(id(optimizer), ()), strict=False):
            _set_rate(group, rate)


def _set_rate(group: dict[str, Any], rate: Any) -> None:
    """A rate that is a tensor keeps its place in memory: compiled steps read it there."""
    if hasattr(group["lr"], "copy_"):
        group["lr"].copy_(rate)
    else:
        group["lr"] = rate


class Constant(Rate):
    """`schedule=constant`: a rate stays at the largest that it has had so far; each group has its own.

    So a warm-up is still one, and what lowers the rate after it (a scheduler, a line in the loop) does not.
    """

    nothing = "the learning rate of this program never falls"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """No rate seen."""
        super().__init__(*args, **kwargs)
        self._largest: dict[int, list[float]] = {}

    def rates(self, optimizer: Any, rates: list[Any]) -> list[Any]:
        """The largest so far."""
        own = [float(rate) for rate in rates]
        known = self._largest.get(id(optimizer), own)
        known = [*known, *own[len(known) :]]  # a group that was added
        self._largest[id(optimizer)] = largest = [*map(max, own, known)]
        if largest != own:
            self.did(type(optimizer).__name__)
        return [
            rate * 0 + top if hasattr(rate, "clone") else top
            for rate, top in zip(rates, largest, strict=True)
        ]


class WarmUp(Rate):
    """`schedule=warmup`: the rate rises in a straight line over the first 5 % of the steps, two at least."""

    nothing = "no optimiser of this program made a step with a learning rate"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """No step seen."""
        super().__init__(*args, **kwargs)
        self._steps: dict[int, int] = {}

    def rates(self, optimizer: Any, rates: list[Any]) -> list[Any]:
        """A part of them at first."""
        if self.plan.steps < 1:
            self.refuse("it is not known how many steps it makes")
            return rates
        step = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        part = step / max(math.ceil(WARM * self.plan.steps), 2)
        if part >= 1:
            return rates
        self.did(type(optimizer).__name__)
        return [rate * part for rate in rates]
