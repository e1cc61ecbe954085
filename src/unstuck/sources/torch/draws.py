"""The first numbers of each weight tensor, before the first update: were some drawn from the same seed?"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from unstuck.sources.torch.params import Held, local
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.tensors import dense, real, single
from unstuck.sources.torch.weights import Rows
from unstuck.trace import draws


class _Begin(NamedTuple):
    """What comes over of one layer."""

    corner: Floats
    row: Floats
    bias: Floats | None


def note_draws(gather: Gather, held: Sequence[Held], rows: Rows) -> None:
    """Bring a few numbers of each weight over, for same_draws and unit_values."""
    biases = {one.layer: one.tensor for one in held if one.short == "bias"}
    found: dict[str, list[Floats]] = {}
    matrices = [
        one for one in held if one.is_weight and one.tensor.dim() > 1 and local(one.tensor).numel()
    ]  # of sharded ones some processes have nothing
    for one in matrices:
        units = _by_unit(one)
        bias = biases.get(one.layer)
        arrays = found.setdefault(one.row, [])
        gather.put(single(units[: draws.FIRST].flatten(1)[:, : draws.FIRST]).clone(), arrays.append)
        gather.put(single(units[0].reshape(-1)[: draws.ROW]).clone(), arrays.append)
        if bias is not None and tuple(bias.shape) == (units.shape[0],):
            gather.put(single(real(local(bias))[: draws.FIRST]).clone(), arrays.append)
    if not matrices:
        return

    def compare(_: Floats) -> None:
        begins = {
            row: _Begin(some[0], some[1], some[2] if len(some) > 2 else None) for row, some in found.items()
        }
        same = draws.same_draws({row: draws.starts(one.corner, one.bias) for row, one in begins.items()})
        for row, one in begins.items():
            rows[row] |= same[row] | {"unit_values": draws.unit_values(one.row, one.bias)}

    gather.put(local(matrices[-1].tensor).new_zeros(0, dtype=torch.float32), compare)


def _by_unit(one: Held) -> torch.Tensor:
    x = real(local(dense(one.tensor)))
    return x.t() if one.turned and x.dim() == 2 else x
