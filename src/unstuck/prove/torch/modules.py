# pyright: basic
# Modules and functions of PyTorch are replaced while a program runs; its stubs forbid that.
"""Treatments of what lies between the layers: another activation, a batch normalisation before it."""

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.names import PUT_IN, children, named
from unstuck.prove.torch.seeds import replaced

FUNCTIONS = {
    "ReLU": ("relu",),
    "LeakyReLU": ("leaky_relu",),
    "ELU": ("elu",),
    "GELU": ("gelu",),
    "SiLU": ("silu",),
    "Softplus": ("softplus",),
    "Sigmoid": ("sigmoid",),
    "Tanh": ("tanh",),
}
"""Type of an activation -> names of the functions that compute it, wherever PyTorch has them."""


def functions(kind: str) -> list[tuple[Any, str]]:
    """Where PyTorch has functions of one kind: `torch.nn.functional`, `torch`, and methods of a tensor."""
    import torch
    import torch.nn.functional

    owners = (torch.nn.functional, torch, torch.Tensor)
    return [(owner, name) for name in FUNCTIONS[kind] for owner in owners if hasattr(owner, name)]


class Activation(Intervention):
    """`activation=NAME[@LAYER]`: hidden activations are replaced, modules and functions alike.

    Modules are swapped before the first forward pass. Functions (`F.relu`, `torch.relu`, `x.relu()`) lead to
    the new one all the time; where the network's answer passes through the same kind of function, they
    cannot be told apart, and the treatment is refused.
    """

    nothing = "no hidden activation was seen in this program"

    def install(self, undo: ExitStack) -> None:
        """Replace the functions, before the program can take them by name."""
        import torch

        modules = {kind for kind in FUNCTIONS if hasattr(torch.nn, kind)}
        self._new = getattr(torch.nn, self.treatment.value)
        self._active = False
        wanted = self._wanted()
        if not wanted:
            return
        if all(kind == self.treatment.value for kind in wanted.values()):
            self.refuse(f"the hidden activations are {self.treatment.value} already")
            return
        self._swapped: set[int] = set()
        originals = {
            kind: [(owner, name, getattr(owner, name)) for owner, name in functions(kind)]
            for kind in sorted(modules & set(wanted.values()) - {self.treatment.value})
        }
        self._compute = self._new()
        for kind, places in originals.items():
            for owner, name, original in places:
                replaced(undo, owner, name, self._instead(kind, original))

    def _wanted(self) -> dict[str, str]:
        target = self.treatment.target
        return {name: kind for name, kind in self.plan.hidden.items() if target in {None, name, kind}}

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Swap the modules; let the functions work where hidden activations are no modules."""
        del optimizers
        wanted = self._wanted()
        if not wanted or self._refusal:
            return
        known: set[str] = set()
        for name, holder, child, old in list(children(models)):
            if name in wanted and type(old).__name__ == wanted[name] != self.treatment.value:
                new = self._new()
                new.train(old.training)
                vars(holder)["_modules"][child] = new
                known.add(name)
                self.did(name)
        self._functional = {kind for name, kind in wanted.items() if name not in known and "." not in name}
        self._functional -= {self.treatment.value}
        both = self._functional & set(self.plan.last.values())
        if both:
            kind = min(both)
            self.refuse(f"its answer passes through a {kind} too, which cannot be told from the hidden ones")
        elif self.treatment.target not in {None, *self._functional} and not known:
            self.refuse(f"{self.treatment.target} is a function, and single calls cannot be told apart")
        self._active = bool(self._functional) and not both

    def _instead(self, kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if not self._active or kind not in self._functional or self._inside:
                return original(*args, **kwargs)
            self._inside = True
            try:
                given = args[0] if args else kwargs["input"]
                self.did(f"{kind} (function)")
                return self._compute(given)
            finally:
                self._inside = False

        return function

    _inside = False


class Normalise(Intervention):
    """`insert=batch_norm`: a batch normalisation before every hidden activation.

    It stands behind the layer that feeds the activation, follows its mode (training or evaluation), and its
    scale and shift join the optimiser that holds the layer's weights. A program that stores and loads its
    weights while it runs does not store these.
    """

    nothing = "no hidden activation of this program follows a layer that could be normalised"

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Put them in."""
        for name, module in named(models):
            if name in self.plan.before and not vars(module).get("_unstuck_norm"):
                self._put(name, module, optimizers)

    def _put(self, path: str, layer: Any, optimizers: Sequence[Any]) -> None:
        import torch

        kind = type(layer).__name__
        size = getattr(layer, "out_channels", None) or getattr(layer, "out_features", None)
        weight = getattr(layer, "weight", None)
        if size is None or weight is None:
            self.refuse(f"{path} is no plain Linear or convolution")
            return
        axes = next((n for n in (3, 2) if f"{n}d" in kind), 1)
        norm: Any = getattr(torch.nn, f"BatchNorm{axes}d")(size).to(weight.device, weight.dtype)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        own = [group for group in groups if any(one is weight for one in group["params"])]
        group = next(iter([*own, *groups]), None)  # frozen layers are held by none
        if group is None:
            self.refuse("there is no optimiser that could train it")
            return
        if any(type(one).__name__ == "Adagrad" for one in optimizers):
            self.refuse("Adagrad takes no parameters once it is made")
            return
        vars(norm)[PUT_IN] = True
        group["params"] += list(norm.parameters())
        vars(layer)["_unstuck_norm"] = norm  # no child of the layer: the program's own names stay

        def behind(_layer: Any, _args: Any, output: Any) -> Any:
            norm.train(layer.training)
            if axes > 1 or kind.startswith("Conv") or output.dim() == 2:
                return norm(output)
            return norm(output.flatten(0, -2)).reshape(output.shape)  # sequences: features come last

        layer.register_forward_hook(behind)
        self.did(path)
