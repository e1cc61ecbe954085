"""When a run of a script counts as a success: fixed before the first run of a trial."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from unstuck.diagnose.bounds import load_bounds
from unstuck.errors import UnstuckError

Quantity = Literal["loss", "accuracy", "balanced accuracy", "squared error"]
BETTER = 0.8
"""A run is clearly better than the unchanged program's best when at most this part of its loss is left."""
CONDITION = re.compile(r"\s*(loss|accuracy)\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


class Ended(Protocol):
    """What is asked of a run."""

    @property
    def crashed(self) -> bool:
        """Whether it came to no regular end."""
        ...

    @property
    def loss(self) -> float | None:
        """Over the last tenth of its batches; None where it is not finite."""
        ...

    @property
    def start(self) -> float | None:
        """Of its first batch."""
        ...

    @property
    def accuracy(self) -> float | None:
        """Over the last tenth of its batches."""
        ...

    @property
    def balanced(self) -> float | None:
        """Mean over the classes of the share of right answers, over the same."""
        ...

    @property
    def squared_error(self) -> float | None:
        """The same."""
        ...

    @property
    def constant(self) -> float | None:
        """Loss of the best constant prediction."""
        ...


@dataclass(frozen=True)
class Bound:
    """One condition: `quantity` `relation` `value`."""

    quantity: Quantity
    relation: Literal["<", "<=", ">", ">="]
    value: float

    def holds(self, run: Ended) -> bool:
        """Whether a run meets it; what was not measured meets nothing."""
        found = {
            "loss": run.loss,
            "accuracy": run.accuracy,
            "balanced accuracy": run.balanced,
            "squared error": run.squared_error,
        }[self.quantity]
        if found is None or not math.isfinite(found):
            return False
        if found == self.value:
            return "=" in self.relation
        return (found < self.value) == self.relation.startswith("<")

    def __str__(self) -> str:
        """As it is printed."""
        return f"{self.quantity} {self.relation} {self.value:.4g}"


@dataclass(frozen=True)
class Success:
    """The criterion of a trial."""

    bounds: tuple[Bound, ...]
    """All must hold, over the last tenth of a run's batches."""
    falls: bool = False
    """Whether the loss must also have fallen to a part of its own start: where nothing else is known."""
    to_zero: bool = False
    """Whether it must have come nearer to 0 instead: where its sign is in question."""
    because: str = ""
    """Where the bound comes from."""

    def met(self, run: Ended) -> bool:
        """Whether a run is a success. One that crashed never is."""
        if run.crashed or not all(bound.holds(run) for bound in self.bounds):
            return False
        if not self.falls:
            return True
        if run.loss is None or run.start is None:
            return False
        if self.to_zero:
            return abs(run.loss) < BETTER * abs(run.start)
        return run.loss < BETTER * run.start

    def __str__(self) -> str:
        """In words, after "a run succeeds when"."""
        parts = [str(bound) for bound in self.bounds]
        if self.falls:
            how = "nearer to 0 than" if self.to_zero else "below"
            parts.append(f"its loss ends {how} {BETTER:g} of where it began")
        return f"it ends regularly and {' and '.join(parts)} over the last tenth of its batches"

    @property
    def quantities(self) -> frozenset[Quantity]:
        """What it asks for."""
        return frozenset(bound.quantity for bound in self.bounds)


def parse_success(text: str) -> Success:
    """The user's own criterion.

    Args:
        text: such as `loss<0.1` or `accuracy>=0.9,loss<1`.

    Raises:
        UnstuckError: anything else.

    Example:
        >>> print(parse_success("loss<0.1"))
        it ends regularly and loss < 0.1 over the last tenth of its batches
    """
    bounds: list[Bound] = []
    for part in text.split(","):
        match = CONDITION.fullmatch(part)
        if match is None:
            raise UnstuckError(f'--success {text!r}: expected such as "loss<0.1" or "accuracy>=0.9"')
        quantity, relation, value = match.groups()
        bounds.append(Bound(quantity, relation, float(value)))  # pyright: ignore[reportArgumentType]  (as matched)
    return Success(tuple(bounds), because="it was given")


def default_success(
    pilot: Sequence[Ended], *, alters_loss: bool, by_class: bool = False, alters_sign: bool = False
) -> Success:
    """The criterion where the user gave none, from a few runs of the unchanged program that are not judged.

    Where these do not beat the best constant prediction, beating it is success. Where they do, a run must be
    clearly better than the best of them: 80 % of its loss, or of its errors. The trial's own runs have other
    seeds, so that a change that does nothing passes as often as the unchanged program.

    Args:
        pilot: runs of the unchanged program.
        alters_loss: whether some treatment changes what the loss means. Then answers are judged, not losses.
        by_class: whether some treatment is about classes of different frequency. Then each class counts the
            same, as always answering the commonest one would else look right.
        alters_sign: whether some treatment turns the loss round. Where no answers were seen, a loss must then
            come nearer to 0: further below it is where a loss with the wrong sign goes.
    """
    ended = [run for run in pilot if not run.crashed]
    if by_class and any(run.balanced is not None for run in ended):
        return _of_classes(ended)
    if alters_loss:
        answers = _of_answers(ended)
        return replace(answers, to_zero=alters_sign and answers.falls)
    learned = load_bounds().outcome.learned
    losses = [run.loss for run in ended if run.loss is not None]
    constants = [run.constant for run in pilot if run.constant is not None]
    if constants:
        constant = min(constants)
        bound = constant - (1 - learned) * abs(constant)
        if len(losses) < len(pilot) or any(loss >= bound for loss in losses):
            return Success((Bound("loss", "<", bound),), because="the best constant prediction, less 5 %")
    if len(losses) == len(pilot) and losses:
        best = min(losses)
        return Success(
            (Bound("loss", "<", best - (1 - BETTER) * abs(best)),),
            because=f"the unchanged program reached {best:.4g}; a fifth less is clearly better",
        )
    return Success((), falls=True, because="no run of the unchanged program ended with a loss")


def _of_classes(ended: Sequence[Ended]) -> Success:
    best = max(run.balanced for run in ended if run.balanced is not None)
    why = f"the unchanged program is right in {best:.1%}, each class alike; a fifth fewer errors are better"
    return Success((Bound("balanced accuracy", ">=", 1 - BETTER * (1 - best)),), because=why)


def _of_answers(ended: Sequence[Ended]) -> Success:
    accuracies = [run.accuracy for run in ended if run.accuracy is not None]
    errors = [run.squared_error for run in ended if run.squared_error is not None]
    if accuracies:
        best = max(accuracies)
        wanted = 1 - BETTER * (1 - best)
        why = f"the unchanged program is right in {best:.1%}; a fifth fewer errors are clearly better"
        return Success((Bound("accuracy", ">=", wanted),), because=why)
    if errors:
        best = min(errors)
        why = f"the unchanged program reached {best:.4g}; a fifth less is clearly better"
        return Success((Bound("squared error", "<", BETTER * best),), because=why)
    return Success((), falls=True, because="no run of the unchanged program showed its answers")
