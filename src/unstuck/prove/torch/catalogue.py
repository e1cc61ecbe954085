"""Which treatments a running PyTorch program can take, and who carries each out."""

from collections.abc import Iterable, Sequence
from typing import Final

from unstuck.diagnose.remedies import Treatment, parse
from unstuck.prove.success import Ended, Success, default_success
from unstuck.prove.torch.inputs import Scale, Shuffle
from unstuck.prove.torch.intervention import Combination, Intervention
from unstuck.prove.torch.layers import GroupNorm, InsertReLU
from unstuck.prove.torch.modes import Dropout, Mode
from unstuck.prove.torch.modules import Activation, Normalise
from unstuck.prove.torch.objectives import Balanced, Mean, Negated, Standardised
from unstuck.prove.torch.optimisers import Adam, Numbers
from unstuck.prove.torch.outputs import Loss, Output, Target
from unstuck.prove.torch.rates import Constant, Rate, WarmUp
from unstuck.prove.torch.steps import Batch, Clip, ClipOff, ZeroGrad
from unstuck.prove.torch.weights import Bias, Init, Members
from unstuck.prove.torch.wider import Wider

_BY_KIND: Final[dict[str, type[Intervention]]] = {
    "lr": Rate,
    "clip": Clip,
    "zero_grad": ZeroGrad,
    "init": Init,
    "bias": Bias,
    "activation": Activation,
    "insert": Normalise,
    "output": Output,
    "loss": Loss,
    "target": Target,
    "dropout": Dropout,
    "batch": Batch,
    "width": Wider,
}
_BY_ID: Final[dict[str, type[Intervention]]] = {
    "optimizer=adam": Adam,
    "optimizer=add_parameters": Members,
    "optimizer=unfreeze": Members,
    "optimizer=default": Numbers,
    "optimizer=no_decay": Numbers,
    "schedule=constant": Constant,
    "schedule=warmup": WarmUp,
    "clip=off": ClipOff,
    "insert=relu": InsertReLU,
    "norm=group": GroupNorm,
    "mode=train": Mode,
    "loss=mean": Mean,
    "loss=negated": Negated,
    "weights=balanced": Balanced,
    "target=standardise": Standardised,
    "data=standardise": Scale,
    "data=-1..1": Scale,
    "order=shuffle": Shuffle,
}
_NEVER: Final = {
    "layer=make_once": "which layers a program makes, and when, stands in its own text",
    "data=drop_nonfinite": "a sample cannot be left out once it is in a batch",
    "order=reshuffled": "another shuffle is the trial's own sham change",
}
SEEDING: Final = "draws=independent"
"""The treatment that is carried out by the run's seeds, see `seeds.Seeding`."""
ALTERS_LOSS: Final = ("loss", "output", "target", "weights")
"""Kinds of treatments after which the loss means something else."""


def refusal(treatment: str) -> str:
    """Why no PyTorch program can take a treatment; empty where one may.

    Raises:
        UnstuckError: the id cannot be read.
    """
    for part in parts(treatment):
        reason = _NEVER.get(str(part)) or _NEVER.get(part.kind)
        if reason:
            return reason
        if str(part) != SEEDING and _made_by(part) is None:
            return "it cannot be carried out while a program runs"
    return ""


def usual_success(pilot: Sequence[Ended], treatments: Iterable[str]) -> Success:
    """The criterion that is fair to all of a trial's treatments, see `default_success`.

    Args:
        pilot: runs of the unchanged program that are not judged.
        treatments: ids of what is tried.
    """
    tried = [part for one in treatments for part in parts(one)]
    return default_success(
        pilot,
        alters_loss=any(part.kind in ALTERS_LOSS for part in tried),
        by_class=any(part.kind == "weights" for part in tried),
        alters_sign=any(str(part) == "loss=negated" for part in tried),
    )


def parts(treatment: str) -> list[Treatment]:
    """The single treatments of an id such as `lr*0.1+clip=1`."""
    return [parse(part) for part in treatment.split("+")]


def intervention(treatment: str, seed: int) -> Intervention | None:
    """What carries a treatment out in a running program; None for one that the run's seeds carry out.

    Args:
        treatment: its id, or several with `+` between them.
        seed: of the run.
    """
    made = [kind(part, seed) for part in parts(treatment) if (kind := _made_by(part)) is not None]
    return Combination(made) if len(made) > 1 else next(iter(made), None)


def _made_by(part: Treatment) -> type[Intervention] | None:
    return _BY_ID.get(str(part)) or _BY_KIND.get(part.kind)
