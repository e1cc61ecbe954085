"""A loss that refuses what it is given: its arguments, as they stand in the traceback."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unstuck.sources.torch.graph import LIMIT
from unstuck.trace.measure import Values
from unstuck.trace.structure import LossFacts

LOSSES = {"cross_entropy": "CrossEntropyLoss", "nll_loss": "NLLLoss", "binary_cross_entropy": "BCELoss"}
"""Functions that refuse labels or answers, and the losses that they are."""
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

    def reaches(self, parameters: Collection[int]) -> bool:
        """Whether the prediction was computed from one of these parameters, as far as a graph tells.

        Args:
            parameters: their ids.
        """
        waiting = [self.prediction.grad_fn] if self.prediction.grad_fn is not None else []
        seen = set[Any](waiting)
        while waiting and len(seen) < LIMIT:
            fn = waiting.pop()
            if id(getattr(fn, "variable", None)) in parameters:
                return True
            below = [child for child, _ in fn.next_functions if child is not None and child not in seen]
            seen.update(below)
            waiting += below
        return False

    def facts(self, source: str) -> LossFacts:
        """For the structure; `source` names the operation that feeds the loss."""
        return LossFacts(
            input=source,
            input_shape=tuple(self.prediction.shape),
            target_shape=tuple(self.target.shape),
            target_dtype=str(self.target.dtype).removeprefix("torch."),
            reduction=self.reduction,
        )

    @property
    def is_lost(self) -> bool:
        """Whether the prediction is no number."""
        return not bool(torch.isfinite(self.prediction).all())

    @property
    def by_numbers(self) -> bool:
        """Whether some class number has no output, or a probability is none: other reasons may raise, too."""
        labels = self._labels()
        if self.loss == "BCELoss":
            given = [labels, self.prediction.detach().cpu().double().numpy()]
            return any(not bool(((one >= 0) & (one <= 1)).all()) for one in given)
        classes = self.prediction.shape[1] if self.prediction.ndim > 1 else self.prediction.numel()
        return bool(((labels < 0) | (labels >= classes)).any())

    def _labels(self) -> NDArray[np.float64]:
        target = self.target.detach().cpu().double().numpy().reshape(-1)
        return target[target != self.ignore_index]

    def measured(self) -> Values:
        """What can be said of targets and predictions."""
        target = self._labels()
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
