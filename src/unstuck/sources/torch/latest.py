"""What the look at one output tells of the next one, so that less of that is to be read."""

import weakref
from typing import Any, NamedTuple

import torch
from torch import nn

from unstuck.sources.torch.looks import Look, look, rectified


class Latest(NamedTuple):
    """The output that was looked at last."""

    output: weakref.ref[torch.Tensor]
    version: int
    axis: int
    look: Look

    def feeds(self, module: nn.Module, given: Any) -> bool:
        """Whether this output, unchanged, is all that a module was called with."""
        args, kwargs = given
        if len(args) != 1 or kwargs or args[0] is not self.output():
            return False
        in_place = bool(getattr(module, "inplace", False))
        return args[0]._version == self.version + in_place  # noqa: SLF001  (how often it was changed in place)


def look_after(
    module: nn.Module,
    kind: str,
    given: Any,
    result: torch.Tensor,
    axis: int,
    latest: Latest | None,
    *,
    weighted: bool,
) -> Look | None:
    """A look at an output, with what is known from the look before.

    Args:
        module: that made it.
        kind: its type.
        given: what it was called with: (positional, named).
        result: the output.
        axis: where its units are.
        latest: the look before, if there was one in this forward pass.
        weighted: whether the module has parameters.

    Returns:
        The look; None for what `look` does not take.
    """
    bounded = False
    if (
        latest is not None
        and latest.axis == axis
        and (type(module) is nn.ReLU or kind.startswith("BatchNorm"))
    ):
        fed = latest.feeds(module, given)
        if fed and type(module) is nn.ReLU:
            return rectified(
                latest.look, result, axis
            )  # of a large output, to copy some numbers takes many times as long
        # over a finite batch, no distance to the mean exceeds the root of its size times the deviation
        bounded = fed and module.training
    return look(result, kind, axis, weighted=weighted, bounded=bounded)
