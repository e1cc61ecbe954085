"""A loss that refuses what it is given: its arguments, as they stand in the traceback."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.nn import functional

from unstuck.trace.measure import Values
from unstuck.trace.structure import LossFacts

LOSSES = {"cross_entropy": "CrossEntropyLoss", "nll_loss": "NLLLoss"}
"""Functions that refuse labels, and the losses that they are."""
HOME = functional.__file__


@dataclass(frozen=True)
class Refusal:
    """What a loss was given when it raised."""

    loss: str
    prediction: torch.Tensor
    target: torch.Tensor
    ignore_index: int
    reduction: str

    @classmethod
    def of(cls, error: BaseException | None) -> Self | None:
        """What the loss was given that raised an error.

        Args:
            error: with its traceback; None gives None.

        Returns:
            None when it was raised elsewhere.
        """
        link = None if error is None else error.__traceback__
        while link is not None and link.tb_next is not None:
            link = link.tb_next
        frame = None if link is None else link.tb_frame
        if frame is None or frame.f_code.co_name not in LOSSES or not _is_home(frame.f_code.co_filename):
            return None
        given: dict[str, Any] = frame.f_locals
        prediction, target = given.get("input"), given.get("target")
        if not isinstance(prediction, torch.Tensor) or not isinstance(target, torch.Tensor):
            return None
        if not prediction.is_floating_point() or prediction.is_meta or target.is_meta:
            return None
        return cls(
            LOSSES[frame.f_code.co_name],
            prediction,
            target,
            int(given.get("ignore_index", -100)),
            str(given.get("reduction", "mean")),
        )

    def facts(self, source: str) -> LossFacts:
        """For the structure; `source` names the operation that feeds the loss."""
        return LossFacts(
            input=source,
            input_shape=tuple(self.prediction.shape),
            target_shape=tuple(self.target.shape),
            target_dtype=str(self.target.dtype).removeprefix("torch."),
            reduction=self.reduction,
        )

    def measured(self) -> Values:
        """What can be said of targets and predictions."""
        target = self.target.detach().cpu().double().numpy().reshape(-1)
        target = target[target != self.ignore_index]
        scores = self.prediction.detach().cpu().double().numpy()
        values: Values = {}
        with np.errstate(all="ignore"):
            if target.size:
                values |= {
                    "target.min": float(target.min()),
                    "target.max": float(target.max()),
                    "target.mean": float(target.mean()),
                    "target.std": float(target.std()),
                }
            if scores.size:
                values |= {"output.min": float(scores.min()), "output.max": float(scores.max())}
        return values


def _is_home(file: str) -> bool:
    return file == HOME or Path(file) == Path(HOME)
