"""Probes inside a training that is only watched: its batch and its loss, as far as they can be made again."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from unstuck.sources.torch.calls import (
    _tensors as tensors_in,  # pyright: ignore[reportPrivateUsage]  (the one walk over nested tensors)
)
from unstuck.sources.torch.loss import Loss
from unstuck.sources.torch.probes import PROBES, Probe, run_probes
from unstuck.sources.torch.scene import Given, NotMeasured
from unstuck.trace.recording import Recording
from unstuck.trace.schedule import is_close

CLOSE = 1e-3
"""A loss that is computed again must equal the one that was seen, up to this share."""

FIRST_AGAIN = 40
"""Before this step, the probes of the first step still stand."""

FORMS: Final[dict[str, Callable[..., torch.Tensor]]] = {
    "CrossEntropyLoss": functional.cross_entropy,
    "NLLLoss": functional.nll_loss,
    "MSELoss": functional.mse_loss,
    "L1Loss": functional.l1_loss,
    "BCELoss": functional.binary_cross_entropy,
    "BCEWithLogitsLoss": functional.binary_cross_entropy_with_logits,
    "SmoothL1Loss": functional.smooth_l1_loss,
    "HuberLoss": functional.huber_loss,
}
"""Losses that can be computed again from a prediction and a target."""

LATER: Final[dict[str, Probe]] = {"rates": PROBES["rates"]}
"""Probes that say something else later in a training: the right learning rate changes on the way."""


def due(step: int) -> bool:
    """Whether probes are run at a step: the first, and from the fortieth on with every close look.

    Example:
        >>> [step for step in range(2000) if due(step)]
        [0, 40, 251, 1585]
    """
    return is_close(step) and (step == 0 or step >= FIRST_AGAIN)


class Again:
    """A loss computed again: takes a model's output and targets, as the program's own did."""

    def __init__(self, seen: Loss) -> None:
        """Keep what is needed of a loss that was found in the graph.

        Args:
            seen: as `find_loss` gives it, before its backward pass.

        Raises:
            NotMeasured: for a loss that cannot be made of prediction and target alone.
        """
        if seen.type not in FORMS or not seen.plain or seen.reduction not in {"mean", "sum"}:
            raise NotMeasured(f"the loss ({seen.type}) has parts that cannot be computed again")
        if seen.target is None:
            raise NotMeasured("the targets are not kept by PyTorch")
        self.form = FORMS[seen.type]
        self.options: dict[str, Any] = {"reduction": seen.reduction}
        if seen.ignore_index is not None and not seen.target.is_floating_point():
            self.options["ignore_index"] = _signed(seen.ignore_index)
        self.shape = tuple(seen.input_shape)
        self.factors = [(divide, _plain(factor)) for divide, factor in seen.factors]

    def __call__(self, output: Any, targets: torch.Tensor) -> torch.Tensor:
        """The loss of an output, of which the first tensor of the right size counts."""
        loss = self.form(self.prediction(output), targets, **self.options)
        for divide, factor in self.factors:
            loss = loss / factor if divide else loss * factor
        return loss

    def prediction(self, output: Any) -> torch.Tensor:
        """The tensor that enters the loss; the batch may be of another size than the one that was seen."""
        each = math.prod(self.shape[1:])
        for one in tensors_in(output):
            if one.is_floating_point() and one.dim() and each and one.numel() % each == 0:
                return one if one.shape[1:] == self.shape[1:] else one.reshape(-1, *self.shape[1:])
        raise NotMeasured("what enters the loss is no output of the model")


class Probing:
    """Remembers the latest batch of a training, and runs probes on it.

    While probes run, whoever watches the training must look away: they train the model and put it back.
    """

    def __init__(self, models: Mapping[str, nn.Module], recording: Recording, warnings: list[str]) -> None:
        """Prepare.

        Args:
            models: by the prefix of their layers' names.
            recording: where the quantities go.
            warnings: where the reasons go why something was not measured.
        """
        self.models, self.recording, self.warnings = models, recording, warnings
        self.busy = False
        """Whether probes are running."""
        self._handle: Any = None
        self._given: Given | None = None
        self._again: Again | None = None
        self._targets: Any = None
        self._because = "no loss was seen that they could be run on"

    def attach(self) -> None:
        """Remember what the model is given from now on."""
        if len(self.models) != 1:
            self._because = "several models are trained"
        elif self._handle is None:
            model = next(iter(self.models.values()))
            self._handle = model.register_forward_pre_hook(self._called, with_kwargs=True)

    def detach(self) -> None:
        """Take the hook off, and let go of the batch."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._given = self._again = self._targets = None

    def _called(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        if not self.busy and torch.is_grad_enabled():
            self._given = (args, kwargs)

    def loss(self, seen: Loss, scores: torch.Tensor | None, value: torch.Tensor) -> None:
        """A loss whose `backward` is about to run; what it needs is kept, its graph is not.

        Args:
            seen: what was found in the graph.
            scores: the tensor that enters it, where that is known.
            value: the number that `backward` is called on, not multiplied for half precision.
        """
        self._again = None
        try:
            again = Again(seen)
            self._check(again, seen, scores, float(value))
        except NotMeasured as reason:
            self._because = reason.because
            return
        self._again, self._targets = again, None if seen.target is None else seen.target.detach()

    def _check(self, again: Again, seen: Loss, scores: torch.Tensor | None, value: float) -> None:
        """Whether it gives the number that was seen."""
        if scores is None or seen.target is None:
            raise NotMeasured("what enters the loss is out of sight")
        with torch.no_grad():
            computed = float(again(scores, seen.target))
        if not math.isclose(computed, value, rel_tol=CLOSE, abs_tol=1e-6):
            raise NotMeasured(
                f"the loss cannot be computed again: found {value:.4g}, "
                f"a plain {seen.type} gives {computed:.4g}"
            )

    def run(self, step: int, optimizer: Any, probes: Mapping[str, Probe] | None = None) -> None:
        """Run probes at the present weights, on the latest batch.

        Args:
            step: whose weights these are.
            optimizer: that trains the model.
            probes: by name; by default all at the first step, and later those of `LATER`.
        """
        if self._again is None or self._given is None:
            self._note([f"the probes were not run, because {self._because}"])
            return
        probes = PROBES if probes is None and step == 0 else LATER if probes is None else probes
        model = next(iter(self.models.values()))
        self.busy = True
        try:
            skipped = run_probes(
                model, self._again, self._given, self._targets, optimizer, self.recording, step, probes=probes
            )
        finally:
            self.busy = False
        self._note(skipped)

    def _note(self, sentences: Sequence[str]) -> None:
        """Keep each sentence once."""
        self.warnings += [one for one in sentences if one not in self.warnings]


def _signed(number: int) -> int:
    """A whole number of 64 bits that the graph shows without its sign."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _plain(factor: Any) -> Any:
    return factor.detach() if isinstance(factor, torch.Tensor) else factor
