"""A treatment at work in a running program: what it is told, and what it tells of itself."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from unstuck.diagnose.remedies import Treatment
from unstuck.prove.torch.losses import Door
from unstuck.prove.torch.plan import Plan


class Intervention:
    """One treatment, carried out while a program runs.

    It is told three things, in this order: PyTorch is there (`install`), a training is about to begin
    (`begin`, before the first forward pass of each training), the program has ended (`end`). It counts in
    `applied` what it did; a program in which nothing was done has not been treated, and `refusal` says why.
    """

    nothing = "nothing in this program could be changed so"
    """Why nothing was done, where no better reason is known."""

    def __init__(self, treatment: Treatment, seed: int = 0) -> None:
        """Prepare.

        Args:
            treatment: what to change.
            seed: of the run; where something is drawn, it is drawn from this and from nothing else.
        """
        self.treatment = treatment
        self.seed = seed
        self.applied = 0
        """How often something was changed."""
        self.places: list[str] = []
        """What was changed: layers, losses, loaders; each once."""
        self.door: Door | None = None
        """Where losses can be changed on their way in."""
        self.plan = Plan()
        """What the watched run showed of the network."""
        self._refusal = ""

    def equip(self, door: Door, plan: Plan) -> None:
        """Give it what it works with."""
        self.door, self.plan = door, plan

    @property
    def refusal(self) -> str:
        """Why the program was not treated; empty when it was."""
        return self._refusal or ("" if self.applied else self.nothing)

    def refuse(self, why: str) -> None:
        """Say why this program cannot be treated. The first reason stands."""
        self._refusal = self._refusal or why

    def did(self, place: str = "") -> None:
        """Something was changed."""
        self.applied += 1
        if place and place not in self.places:
            self.places.append(place)

    def install(self, undo: ExitStack) -> None:
        """PyTorch has been imported, the program's own code has not run yet."""

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """A training begins: before its first forward pass, so that it is recorded as it is treated."""

    def begun(self) -> None:
        """Its recorder is attached: what comes last among the hooks may be put there now."""

    def failed(self, error: BaseException) -> None:
        """The program raised an error: is it because it cannot bear the change?"""

    def end(self) -> None:
        """The program has ended: a last look at what was done."""


class Combination(Intervention):
    """Several treatments together."""

    def __init__(self, parts: Sequence[Intervention]) -> None:
        """Combine."""
        super().__init__(parts[0].treatment, parts[0].seed)
        self.parts = tuple(parts)

    @property
    def refusal(self) -> str:
        """The first part's that was not carried out: a combination is whole or nothing."""
        return next((part.refusal for part in self.parts if part.refusal), "")

    def equip(self, door: Door, plan: Plan) -> None:
        """All parts."""
        for part in self.parts:
            part.equip(door, plan)

    def install(self, undo: ExitStack) -> None:
        """All parts, in their order."""
        for part in self.parts:
            part.install(undo)

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """All parts, in their order."""
        for part in self.parts:
            part.begin(models, optimizers)

    def begun(self) -> None:
        """All parts."""
        for part in self.parts:
            part.begun()

    def failed(self, error: BaseException) -> None:
        """All parts."""
        for part in self.parts:
            part.failed(error)

    def end(self) -> None:
        """All parts; what they did is counted together."""
        for part in self.parts:
            part.end()
        self.applied = sum(part.applied for part in self.parts)
        self.places = [place for part in self.parts for place in part.places]
