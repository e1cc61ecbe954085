# pyright: basic
# PyTorch's optimisers are open dictionaries; their stubs know little of what is in them.
"""Ends a run that is lost for certain: no step makes numbers of weights that are NaN."""

import math
from contextlib import ExitStack
from typing import Any

from unstuck.sources.script.training import Recorder, StopTraining

EVERY = 10
"""Steps between two looks at the weights."""


class Hope:
    """Looks at the weights now and then. Two looks in a row must find them lost, and the loss as well.

    A program that notices NaN itself and goes back to older weights has done so by then.
    """

    def __init__(self, recorder: Recorder) -> None:
        """Nothing seen."""
        self._recorder = recorder
        self._steps: dict[int, int] = {}
        self._lost_before: set[int] = set()
        self.lost = False
        """Whether the run was ended."""

    def install(self, undo: ExitStack) -> None:
        """After every step, from now on."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        undo.callback(register_optimizer_step_post_hook(self._stepped).remove)

    def _stepped(self, optimizer: Any, *_: Any) -> None:
        key = id(optimizer)
        self._steps[key] = self._steps.get(key, 0) + 1
        if self._steps[key] % EVERY:
            return
        if not _lost(optimizer):
            self._lost_before.discard(key)
        elif key not in self._lost_before:
            self._lost_before.add(key)
        elif self._loss_is_lost():
            self.lost = True
            raise StopTraining

    def _loss_is_lost(self) -> bool:
        values = self._recorder.recording.series("loss").values
        return values.size > 0 and not any(math.isfinite(value) for value in values[-EVERY:])


def _lost(optimizer: Any) -> bool:
    import torch

    with torch.no_grad():
        held = (one for group in optimizer.param_groups for one in group["params"])
        return any(one.grad is not None and not bool(torch.isfinite(one).all()) for one in held)
