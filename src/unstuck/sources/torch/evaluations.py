"""Whether what a network learned holds for the samples that its program evaluates it with.

Passes through a model without gradients, between updates, are an evaluation. What the program makes of the
answers there, be it an accuracy or a loss, is noted, and looked at when the evaluation is through.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from unstuck.sources.torch.calls import (
    _tensors as tensors_in,  # pyright: ignore[reportPrivateUsage]  (the one walk over nested tensors)
)
from unstuck.sources.torch.fits import Fits, Pass, fits, together
from unstuck.sources.torch.layouts import layouts
from unstuck.sources.torch.loaders import samples_of
from unstuck.sources.torch.modules import sealed
from unstuck.sources.torch.tape import Call, CannotReplayError, Tape
from unstuck.trace.recording import Recording

PLACE = "evaluation"
"""Begins the names of rows: one for each number that a program makes between two updates."""
GROWTH = 1.25
"""An evaluation is looked at when the training has become longer by this factor."""
MOST_PASSES = 8
"""Batches of one data loader that are looked at, at most."""
MOST_PLACES = 6
"""Rows for one evaluation, at most."""
MOST_NUMBERS = 1 << 22
"""Numbers in the answers that are kept at a time, and in what is made of them."""
PATIENCE = 1000
"""Calls of functions after a model's answer that are listened to."""


class _Listening(Tape):
    """A tape that lets go of what grows large, and does not mind what is added to a place elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.left = PATIENCE
        self._numbers = 0

    def forget(self) -> None:
        super().forget()
        self._numbers = 0

    def _before(self, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        self.left -= 1
        trains = torch.is_grad_enabled() and any(one.requires_grad for one in tensors_in((args, kwargs)))
        self.on = self.left > 0 and not trains
        return super()._before(name, args, kwargs) if self.on else None

    def _note(self, func: Any, name: str, args: Any, kwargs: dict[str, Any], seen: Call, out: Any) -> None:
        elsewhere = seen.target is not None and seen.target._is_view() and seen.before is not None  # noqa: SLF001
        if elsewhere or self.broken:
            return
        super()._note(func, name, args, kwargs, seen, out)
        self._numbers += sum(one.numel() for one in tensors_in(out))
        if self._numbers > MOST_NUMBERS:
            self.forget()
            self.broken, self.on = "too large", False


class Evaluations:
    """Looks at the evaluations between the steps of a training."""

    def __init__(self, recording: Recording, failed: Callable[[str, Exception], None]) -> None:
        """Nothing seen yet.

        Args:
            recording: where the rows go.
            failed: called with an exception of ours; it must not raise.
        """
        self.number = 0
        """Updates so far."""
        self._recording, self._failed = recording, failed
        self._tape = _Listening()
        self._handles: list[Any] = []
        self._passes: list[Pass] = []
        self._depth = 0
        self._rounds, self._round, self._looked = 0, -1, 0
        """Evaluations so far; updates before the present one, and before the last that was looked at."""
        self._wanted = False
        self._places = 0
        self._answered = self._lost_answers = 0
        """Samples that the present evaluation answered, and those whose answer is not a number."""
        self._full = False
        """Whether enough was seen of the present loader."""
        self._loader: weakref.ref[Any] | None = None
        """The iterator that handed out a batch last."""
        self._batch, self._fresh = 0, False
        """Samples of that batch, and whether no model has been given it yet."""
        self._pooled = False
        """Whether passes are of batches that a data loader handed out, one after the other."""
        self._given: torch.Tensor | None = None
        self._first: torch.Tensor | None = None
        self._version = -1
        """The first parameter, and how often it had been changed after the last update."""
        self._optimised: Callable[[], set[int] | None] = lambda: None
        self._off: Callable[[], bool] = lambda: True

    # ---- hooks

    def attach(
        self,
        models: Mapping[str, nn.Module],
        optimised: Callable[[], set[int] | None],
        off: Callable[[], bool],
    ) -> None:
        """Listen to models, from here on.

        Args:
            models: by prefix.
            optimised: ids of the parameters that are trained; None where that is not known.
            off: whether nothing is to be looked at now.
        """
        self._optimised, self._off = optimised, off
        self._first = next((one for model in models.values() for one in model.parameters()), None)
        for model in models.values():
            if not sealed(model):
                self._handles.append(model.register_forward_pre_hook(self._enter, with_kwargs=True))
                self._handles.append(model.register_forward_hook(self._exit, always_call=True))

    def detach(self) -> None:
        """Take all hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._forget()

    def _enter(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling() or self._off():
            return
        self._depth += 1
        if self._depth > 1:
            return
        try:
            self._given = None
            if torch.is_grad_enabled():
                self.finish()
                return
            self._tape.pause()
            given = next((one for one in tensors_in((args, kwargs)) if one.dim()), None)
            if given is not None and self._begins(model, len(given)) and self._trained(model):
                self._given = given
        except Exception as error:  # noqa: BLE001  (nothing of ours may stop a program)
            self._lost(error)

    def _exit(self, _model: nn.Module, _args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or self._off():
            return
        self._depth = max(self._depth - 1, 0)
        given, self._given = (self._given, None) if not self._depth else (None, self._given)
        if given is None:
            return
        try:
            self._ended(given, [one for one in tensors_in(output) if one.is_floating_point() and one.dim()])
        except CannotReplayError:
            return  # where its samples lie is not known
        except Exception as error:  # noqa: BLE001  (nothing of ours may stop a program)
            self._lost(error)

    def stepped(self, number: int) -> None:
        """So many updates were made."""
        self.number = number
        if self._first is not None:
            self._version = self._first._version  # noqa: SLF001

    def handed(self, iterator: Any, data: Any) -> None:
        """A data loader's iterator hands out a batch."""
        if self._loader is None or self._loader() is not iterator:
            self.finish()
            self._loader, self._full = weakref.ref(iterator), False
        self._batch, self._fresh = samples_of(data), True

    # ---- one evaluation

    def _begins(self, model: nn.Module, samples: int) -> bool:
        """Whether the pass that begins is looked at."""
        if self.number != self._round:
            self.finish()
            self._round, self._places, self._full = self.number, 0, False
            self._answered = self._lost_answers = 0
            self._rounds += 1
            # what comes with nearly every step, as if to train, may be a part of the training
            rare = self._rounds <= self.number / 4 or (self.number > 0 and not model.training)
            self._wanted = rare and self.number >= GROWTH * self._looked
            self._looked = self.number if self._wanted else self._looked
        if not self._wanted or self._put_back:
            return False
        pooled, self._fresh = self._fresh or samples == self._batch, False
        if pooled != self._pooled:
            self.finish()
            self._pooled = pooled
        elif len(self._passes) >= MOST_PASSES:
            self.finish()
            self._full = pooled
        return not (pooled and self._full) and self._places < MOST_PLACES

    @property
    def _put_back(self) -> bool:
        """Whether the weights are not those that the training left: the best so far, or their average."""
        return self._first is not None and self._first._version != self._version  # noqa: SLF001  (it has no other name)

    def _trained(self, model: nn.Module) -> bool:
        known = self._optimised()
        return known is None or any(id(one) in known for one in model.parameters())

    def _ended(self, given: torch.Tensor, answers: list[torch.Tensor]) -> None:
        held = sum(one.numel() for known in self._passes for one in known.answers)
        much = held + sum(one.numel() for one in answers) > MOST_NUMBERS
        if not answers or much or not self._tape.may_listen:
            return
        self._look_for_nan(answers[0])
        first = torch.empty(given.shape, device="meta")
        self._passes.append(Pass(first, answers, layouts(first, answers[0])[0]))
        self._tape.left = PATIENCE
        self._tape.answered(len(self._passes), answers, graded=False)

    def _look_for_nan(self, answer: torch.Tensor) -> None:
        """How many samples got an answer that is not a number, in this evaluation so far."""
        if not answer.numel():
            return
        try:
            lost = int(torch.isnan(answer.detach()).reshape(len(answer), -1).any(1).sum())
        except RuntimeError:  # inside of vmap nobody may look at numbers
            return
        self._answered, self._lost_answers = self._answered + len(answer), self._lost_answers + lost
        share = self._lost_answers / self._answered
        self._recording.add_row(self.number - 1, "", {"evaluation.nan": share})

    def finish(self) -> None:
        """All passes of a loader, or of an evaluation, are through: look at what was made of them."""
        if not self._passes:
            return
        try:
            self._tape.pause()
            with torch.no_grad():
                self._keep(fits(self._tape, self._passes))
        except Exception as error:  # noqa: BLE001  (nothing of ours may stop a program)
            self._lost(error)
        self._forget()

    def _keep(self, found: list[Fits]) -> None:
        """Put it into the recording; what is made of one batch after the other belongs together."""
        found = [together(found)] if self._pooled and found else found
        for one in found[: MOST_PLACES - self._places]:
            self._places += 1
            values = {"evaluation.fit": one.best, "evaluation.samples": float(one.samples)}
            self._recording.add_row(self.number - 1, f"{PLACE}.{self._places}", values)

    def _forget(self) -> None:
        self._passes.clear()
        self._tape.forget()

    def _lost(self, error: Exception) -> None:
        self._forget()
        self._wanted = False
        self._failed("an evaluation", error)
