"""The units of a layer beside each other: a block of its weights and gradients comes over for it."""

from collections.abc import Sequence

import torch

from unstuck.sources.torch.params import Held, local
from unstuck.sources.torch.stats import Floats, Gather
from unstuck.sources.torch.tensors import dense, real, single
from unstuck.sources.torch.weights import Rows
from unstuck.trace import measure
from unstuck.trace.measure import Values

CLOSE_NUMBERS = 1 << 12
"""Entries of a layer that its units are compared by."""


def compare_units(gather: Gather, held: Sequence[Held], rows: Rows, *, grads: bool) -> None:
    """Compare the units of each layer: a block of its weights and gradients comes over for it."""
    biases = {one.layer: one for one in held if one.short == "bias"}
    for one in held:
        if not one.is_weight or one.tensor.dim() == 0:
            continue
        bias = biases.get(one.layer)
        units = one.tensor.shape[1 if one.turned and one.tensor.dim() == 2 else 0]
        if bias is not None and tuple(bias.tensor.shape) != (units,):
            bias = None
        found: list[Floats | None] = []
        nothing = local(one.tensor).new_zeros(0, dtype=torch.float32)
        taken = [one.tensor, bias.tensor if bias else None]
        if grads:
            taken += [one.tensor.grad, bias.tensor.grad if bias else None]
        for i, tensor in enumerate(taken):
            if tensor is None:
                gather.put(nothing, lambda _, f=found: f.append(None))
            else:
                turned = one.turned and i % 2 == 0
                gather.put(_block(dense(tensor), one.tensor, turned=turned).clone(), found.append)
        gather.put(nothing, lambda _, f=found, row=one.row, n=units: rows[row].update(_compare(f, n)))


def _compare(found: list[Floats | None], units: int) -> Values:
    """unit_spread, distinct_units and grad_spread of a block of rows."""
    weight, bias, grad, bias_grad = [*found, None, None][:4]
    if weight is None:
        return {}
    values = measure.unit_stats(weight, bias, grad, bias_grad)
    distinct = values["distinct_units"]
    if distinct is not None and len(weight) < units and distinct > 1:
        values["distinct_units"] = float(round(distinct / len(weight) * units))
    return values


def _block(tensor: torch.Tensor, weight: torch.Tensor, *, turned: bool) -> torch.Tensor:
    """Units × some of their inputs; a bias as (units,). The same entries for weight and gradient."""
    x = real(local(tensor))
    x = x.t() if turned and x.dim() == 2 else x
    x = single(x)
    units = weight.shape[1 if turned and weight.dim() == 2 else 0]
    x = x[:: -(-units // 1024)] if units > 1024 else x
    if x.dim() < 2:
        return x
    x = x.flatten(1)
    each = max(CLOSE_NUMBERS // max(x.shape[0], 1), 1)
    return x[:, :: -(-x.shape[1] // each)] if x.shape[1] > each else x
