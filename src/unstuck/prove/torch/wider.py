# pyright: basic
# Modules are open dictionaries of tensors; PyTorch's stubs know little of them.
"""The treatment of how many units a network has."""

from collections.abc import Sequence
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.names import named
from unstuck.prove.torch.seeds import mixed

SIZES = (("out_features", "in_features"), ("out_channels", "in_channels"))


class Wider(Intervention):
    """`width*F`: every hidden layer of a plain network gets F times as many units before it begins.

    Each weight stays the same parameter with more numbers in it, so that optimisers hold it as before. They
    are drawn from those that were there, times the square root of old over new inputs: whatever law they
    came from, sums over inputs are as large as before. A program that counts on its sizes elsewhere cannot
    run with it, and is told so.
    """

    nothing = "no layer of this program could be made wider"
    _made = False

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Look whether all of it can be done, then do it."""
        wide = self.plan.widths
        if wide.why_not or self._made:
            self.refuse(wide.why_not)
            return
        modules = dict(named(models))
        needed = (*wide.units, *wide.inputs, *wide.norms)
        reason = next(filter(None, (_unfit(name, modules.get(name)) for name in needed)), "")
        if any(optimizer.state for optimizer in optimizers):
            reason = reason or "its optimiser has begun already"
        if reason:
            self.refuse(reason)
            return
        self._made = True
        for name in dict.fromkeys((*wide.units, *wide.inputs)):
            self._widen(name, modules[name], units=name in wide.units, inputs=name in wide.inputs)
        for name in wide.norms:
            self._widen_norm(name, modules[name])

    def _times(self, size: int) -> int:
        return max(round(size * self.treatment.factor), 1)

    def _widen(self, name: str, layer: Any, *, units: bool, inputs: bool) -> None:
        shape = list(layer.weight.shape)
        fan = shape[1]
        shape[0], shape[1] = (
            self._times(size) if more else size for size, more in zip(shape[:2], (units, inputs), strict=True)
        )
        self._fill(f"{name}.weight", layer.weight, shape, (fan / shape[1]) ** 0.5)
        if layer.bias is not None and units:
            self._fill(f"{name}.bias", layer.bias, shape[:1], (fan / shape[1]) ** 0.5)
        for out, into in SIZES:
            if hasattr(layer, out):
                setattr(layer, out, self._times(getattr(layer, out)) if units else getattr(layer, out))
                setattr(layer, into, self._times(getattr(layer, into)) if inputs else getattr(layer, into))
        if units:
            self.did(name)

    def _widen_norm(self, name: str, norm: Any) -> None:
        for tensors in (norm._parameters, norm._buffers):  # noqa: SLF001  (both kinds, by name)
            for key, tensor in tensors.items():
                if tensor is not None and tensor.dim() == 1:
                    self._fill(f"{name}.{key}", tensor, [self._times(tensor.shape[0])], 1.0)
        for key in ("num_features", "num_channels"):
            if hasattr(norm, key):
                setattr(norm, key, self._times(getattr(norm, key)))
        if hasattr(norm, "normalized_shape"):
            norm.normalized_shape = (self._times(norm.normalized_shape[0]),)

    def _fill(self, what: str, tensor: Any, shape: list[int], factor: float) -> None:
        """More numbers like those that are there."""
        import torch

        generator = torch.Generator()
        generator.manual_seed(mixed(("width", what), self.seed))
        old = tensor.detach().reshape(-1)
        chosen = torch.randint(old.numel(), tuple(shape), generator=generator).to(old.device)
        tensor.data = old[chosen] * factor


def _unfit(name: str, module: Any) -> str:
    """Why one module cannot be changed so; empty where it can."""
    if module is None:
        return f"{name} is no module whose size could be changed"
    shape = getattr(module, "normalized_shape", ())
    if len(shape) > 1:
        return f"{name} normalises over more than the units"
    if getattr(module, "groups", 1) != 1:
        return f"{name} is a convolution in groups"
    weight = getattr(module, "weight", None)
    if weight is not None and "weight" not in module._parameters:  # noqa: SLF001  (parametrised: made of others)
        return f"the weight of {name} is made of others"
    return ""
