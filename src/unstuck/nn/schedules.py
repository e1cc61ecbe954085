"""Schedules: the learning rate as a function of the number of epochs or steps that were made before.

Names, arguments and values are PyTorch's (`torch.optim.lr_scheduler`). A schedule is a value that keeps no
state: the rate of any step can be asked at any time, so a training can be cut into slices and forked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.checks import real, whole

Counts = NDArray[np.int64]
Rates = NDArray[np.float64]


@dataclass(frozen=True)
class LRSchedule:
    """How a learning rate goes on; `per` says whether it counts epochs or steps (updates).

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> nn.StepLR(step_size=2, gamma=0.1).rates(0.5, np.arange(5)).round(4).tolist()
        [0.5, 0.5, 0.05, 0.05, 0.005]
    """

    per: Literal["epoch", "step"] = field(default="epoch", kw_only=True)

    def __post_init__(self) -> None:
        if self.per not in {"epoch", "step"}:
            msg = f"{self.type}: per must be 'epoch' or 'step', found {self.per!r}"
            raise UnstuckError(msg)
        self._check()

    @property
    def type(self) -> str:
        """Name of the schedule, as in PyTorch."""
        return type(self).__name__

    def rates(self, lr: float, count: Counts) -> Rates:
        """Learning rates after `count` epochs (or steps), where the optimiser's is `lr`."""
        raise NotImplementedError

    def _check(self) -> None:
        raise NotImplementedError

    def _positive(self, name: str, value: object) -> None:
        if real(f"{self.type}: {name}", value) <= 0:
            msg = f"{self.type}: {name} must be above 0, found {value!r}"
            raise UnstuckError(msg)

    def _milestones(self, values: Sequence[int]) -> None:
        known = isinstance(values, tuple | list)  # pyright: ignore[reportUnnecessaryIsInstance]  callers may pass anything
        whole_numbers = [whole(f"{self.type}: a milestone", value, 1) for value in values] if known else []
        if not whole_numbers or whole_numbers != sorted(set(whole_numbers)):
            msg = f"{self.type}: milestones must be a list of growing whole numbers, found {values!r}"
            raise UnstuckError(msg)
        object.__setattr__(self, "milestones", tuple(whole_numbers))


@dataclass(frozen=True)
class ConstantLR(LRSchedule):
    """lr times `factor` for the first `total_iters`, then lr."""

    factor: float = 1 / 3
    total_iters: int = 5

    def rates(self, lr: float, count: Counts) -> Rates:
        return np.where(count < self.total_iters, lr * self.factor, lr)

    def _check(self) -> None:
        self._positive("factor", self.factor)
        whole("ConstantLR: total_iters", self.total_iters, 1)


@dataclass(frozen=True)
class StepLR(LRSchedule):
    """lr times `gamma` after every `step_size`."""

    step_size: int
    gamma: float = 0.1

    def rates(self, lr: float, count: Counts) -> Rates:
        return lr * np.power(float(self.gamma), count // self.step_size)

    def _check(self) -> None:
        whole("StepLR: step_size", self.step_size, 1)
        self._positive("gamma", self.gamma)


@dataclass(frozen=True)
class MultiStepLR(LRSchedule):
    """lr times `gamma` at each of the `milestones`."""

    milestones: Sequence[int]
    gamma: float = 0.1

    def rates(self, lr: float, count: Counts) -> Rates:
        return lr * np.power(float(self.gamma), np.searchsorted(self.milestones, count, side="right"))

    def _check(self) -> None:
        self._milestones(self.milestones)
        self._positive("gamma", self.gamma)


@dataclass(frozen=True)
class ExponentialLR(LRSchedule):
    """lr times `gamma` every time."""

    gamma: float

    def rates(self, lr: float, count: Counts) -> Rates:
        return lr * np.power(float(self.gamma), count)

    def _check(self) -> None:
        self._positive("gamma", self.gamma)


@dataclass(frozen=True)
class LinearLR(LRSchedule):
    """lr times a factor that goes from `start_factor` to `end_factor` within `total_iters`: a warm-up."""

    start_factor: float = 1 / 3
    end_factor: float = 1.0
    total_iters: int = 5

    def rates(self, lr: float, count: Counts) -> Rates:
        done = np.minimum(count, self.total_iters) / self.total_iters
        return lr * (self.start_factor + (self.end_factor - self.start_factor) * done)

    def _check(self) -> None:
        self._positive("start_factor", self.start_factor)
        if real("LinearLR: end_factor", self.end_factor) < 0:
            msg = f"LinearLR: end_factor must be at least 0, found {self.end_factor!r}"
            raise UnstuckError(msg)
        whole("LinearLR: total_iters", self.total_iters, 1)


@dataclass(frozen=True)
class CosineAnnealingLR(LRSchedule):
    """From lr to `eta_min` along half a cosine within `T_max`, then back up, and so on.

    References:
        Loshchilov & Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983
        (without the restarts).
    """

    T_max: int
    eta_min: float = 0.0

    def rates(self, lr: float, count: Counts) -> Rates:
        return self.eta_min + (lr - self.eta_min) * (1 + np.cos(np.pi * count / self.T_max)) / 2

    def _check(self) -> None:
        whole("CosineAnnealingLR: T_max", self.T_max, 1)
        if real("CosineAnnealingLR: eta_min", self.eta_min) < 0:
            msg = f"CosineAnnealingLR: eta_min must be at least 0, found {self.eta_min!r}"
            raise UnstuckError(msg)


@dataclass(frozen=True)
class OneCycleLR(LRSchedule):
    """Up from lr / `div_factor` to lr, down to lr / `div_factor` / `final_div_factor`, and there it stays.

    The optimiser's lr is what torch calls max_lr; its momentum is not cycled (torch: cycle_momentum=False).

    Args:
        total_steps: length of the whole cycle, in steps (or in epochs with per="epoch").
        pct_start: the part of it that goes up.
        anneal_strategy: "cos" or "linear".
        div_factor: how far below lr it starts.
        final_div_factor: how far below its start it ends.
        per: "step" (default) or "epoch".

    References:
        Smith & Topin (2019), "Super-convergence: very fast training of neural networks using large learning
        rates", arXiv:1708.07120.
    """

    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: Literal["cos", "linear"] = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    per: Literal["epoch", "step"] = field(default="step", kw_only=True)

    def rates(self, lr: float, count: Counts) -> Rates:
        start, last = lr / self.div_factor, self.total_steps - 1
        top = self.pct_start * self.total_steps - 1
        up = count / top if top > 0 else np.ones(count.shape)
        down = np.minimum((count - top) / (last - top), 1.0) if last > top else np.ones(count.shape)
        falling = self._between(lr, start / self.final_div_factor, down)
        return np.where(count <= top, self._between(start, lr, np.minimum(up, 1.0)), falling)

    def _between(self, start: float, end: float, part: Rates) -> Rates:
        done = (1 - np.cos(np.pi * part)) / 2 if self.anneal_strategy == "cos" else part
        return start + (end - start) * done

    def _check(self) -> None:
        whole("OneCycleLR: total_steps", self.total_steps, 1)
        if not 0 <= real("OneCycleLR: pct_start", self.pct_start) <= 1:
            msg = f"OneCycleLR: pct_start must lie in 0..1, found {self.pct_start!r}"
            raise UnstuckError(msg)
        if self.anneal_strategy not in {"cos", "linear"}:
            msg = f"OneCycleLR: anneal_strategy must be 'cos' or 'linear', found {self.anneal_strategy!r}"
            raise UnstuckError(msg)
        self._positive("div_factor", self.div_factor)
        self._positive("final_div_factor", self.final_div_factor)


@dataclass(frozen=True)
class SequentialLR(LRSchedule):
    """One schedule after another, each from its own beginning; the next begins at each of the `milestones`.

    All of them count what this one counts, whatever their own `per`.

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> warm = nn.SequentialLR([nn.LinearLR(0.25, total_iters=3), nn.StepLR(2, 0.5)], milestones=[3])
        >>> warm.rates(1.0, np.arange(8)).tolist()
        [0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5, 0.25]
    """

    schedulers: Sequence[LRSchedule]
    milestones: Sequence[int]

    def rates(self, lr: float, count: Counts) -> Rates:
        starts = (0, *self.milestones)
        which = np.searchsorted(self.milestones, count, side="right")
        parts = [
            part.rates(lr, np.maximum(count - start, 0))
            for part, start in zip(self.schedulers, starts, strict=True)
        ]
        return np.array(parts)[which, np.arange(count.size)]

    def _check(self) -> None:
        known = isinstance(self.schedulers, tuple | list)  # pyright: ignore[reportUnnecessaryIsInstance]  callers may pass anything
        for part in self.schedulers if known else [self.schedulers]:
            if not isinstance(part, LRSchedule):
                msg = f"SequentialLR: expected a list of schedules such as nn.StepLR(30), found {part!r}"
                raise UnstuckError(msg)
        self._milestones(self.milestones)
        if len(self.milestones) != len(self.schedulers) - 1:
            msg = (
                f"SequentialLR: {len(self.schedulers)} schedules need {len(self.schedulers) - 1} milestones, "
                f"found {len(self.milestones)}"
            )
            raise UnstuckError(msg)
        object.__setattr__(self, "schedulers", tuple(self.schedulers))
