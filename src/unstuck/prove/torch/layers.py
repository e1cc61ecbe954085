# pyright: basic
# Modules are open dictionaries; PyTorch's stubs know little of what is in them.
"""Treatments of the chain of layers: a ReLU where two follow each other, another normalisation."""

from collections.abc import Sequence
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.names import children, named

MOST_GROUPS = 32
LEAST_CHANNELS = 4
"""Of a group, where there are as many."""


class InsertReLU(Intervention):
    """`insert=relu`: a ReLU behind every layer with weights that leads on to another with nothing in between.

    Behind the normalisation that follows the layer, where there is one.
    """

    nothing = "between any two layers of this program there is something non-linear already"

    _models: Sequence[Any] = ()

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Remember the models."""
        del optimizers
        self._models = models

    def begun(self) -> None:
        """Put them in, behind the recorder: what the layer gave and what became of it are told apart."""
        missing = set(self.plan.linear)
        for name, module in named(self._models):
            if name in self.plan.linear and not vars(module).get("_unstuck_relu"):
                vars(module)["_unstuck_relu"] = True
                module.register_forward_hook(_rectified)
                missing.discard(name)
                self.did(name)
        if missing and not self.applied:
            self.refuse(f"{min(missing)} is no module that could be followed by one")


def _rectified(_module: Any, _args: Any, output: Any) -> Any:
    return output.relu()


class GroupNorm(Intervention):
    """`norm=group`: a group normalisation in the place of every batch normalisation.

    Up to 32 groups of four channels at least. Scale and shift are the same parameters as before, so that
    optimisers hold them; it knows no running statistics, and does the same in evaluation mode.
    """

    nothing = "no model of this program has a batch normalisation that is a module"

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Exchange the modules."""
        import torch

        del optimizers
        kinds = {torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm}
        for name, holder, child, old in list(children(models)):
            if type(old) in kinds:
                vars(holder)["_modules"][child] = _in_groups(old)
                self.did(name)


def _in_groups(old: Any) -> Any:
    import torch

    new = torch.nn.GroupNorm(groups(old.num_features), old.num_features, eps=old.eps, affine=old.affine)
    if old.affine:
        new.weight, new.bias = old.weight, old.bias
    new.train(old.training)
    return new


def groups(channels: int) -> int:
    """Into how many groups channels are put: as many as divide them, each of four channels at least.

    Args:
        channels: at least 1.

    Example:
        >>> groups(64), groups(256), groups(12), groups(6), groups(7)
        (16, 32, 3, 1, 1)
    """
    fitting = [
        count for count in range(1, min(MOST_GROUPS, channels // LEAST_CHANNELS) + 1) if channels % count == 0
    ]
    return max(fitting, default=1)
