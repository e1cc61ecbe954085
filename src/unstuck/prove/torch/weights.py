# pyright: basic
# Modules are open dictionaries of tensors; PyTorch's stubs know little of them.
"""Treatments of what a training starts from: weights, biases, and which parameters train."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.names import named
from unstuck.prove.torch.plan import Plan
from unstuck.prove.torch.seeds import mixed, replaced
from unstuck.sources.script.models import loose
from unstuck.trace.structure import NORMALISING

_NO_DRAW = (*NORMALISING, "Embedding", "EmbeddingBag")


class Weight(NamedTuple):
    """A weight of a layer, or one that stands alone and that an operation makes a layer of."""

    layer: str
    kind: str
    name: str
    module: Any
    """That holds it."""
    tensor: Any
    turned: bool
    """Whether it lies as (inputs, units), for `x @ w`."""


def weighted(models: Sequence[Any], plan: Plan) -> Iterator[Weight]:
    """The weights of all layers.

    Those of normalisations and embeddings are left out, and whatever has fewer than two axes. A tensor of
    another name is a weight where the watched run has shown it as one.
    """
    from unstuck.sources.torch.modules import lies_turned  # imports PyTorch, which the program has by then

    seen: set[int] = set()
    for path, module in named(models):
        kind = type(module).__name__
        for name, tensor in module._parameters.items():  # noqa: SLF001  (named_parameters has no place for the layer)
            if tensor is None or id(tensor) in seen:
                continue
            alone = f"{path}.{name}" if f"{path}.{name}" in plan.weights else name
            shape = plan.weights.get(alone) if alone != name or path == kind else None
            if tensor.dim() > 1 and (shape or "weight" in name) and kind not in _NO_DRAW:
                seen.add(id(tensor))
                reversed_ = shape is not None and tuple(tensor.shape) != tuple(shape)
                turned = tensor.dim() == 2 and (reversed_ or lies_turned(module))
                yield Weight(
                    alone if shape else path, "Linear" if shape else kind, name, module, tensor, turned
                )


class Init(Intervention):
    """`init=SCHEME[*GAIN][@LAYER]`: weights are drawn anew before the first forward pass.

    They are drawn from a generator of their own, so that nothing else of the program's draws changes; each
    weight keeps its place in memory, so that optimisers hold it as before.
    """

    nothing = "no layer of this program has weights that could be drawn"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing drawn yet."""
        super().__init__(*args, **kwargs)
        self._drawn: set[int] = set()
        self._kept: list[Any] = []  # ids are those of living tensors only
        self._optimizers: list[Any] = []

    def install(self, undo: ExitStack) -> None:
        """Tensors that no module owns are found at the first backward pass: too late to draw them."""
        from torch.optim.optimizer import Optimizer

        if not any(name.startswith("parameter_") for name in self.plan.weights):
            return
        made = Optimizer.__init__

        @functools.wraps(made)
        def make(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            made(optimizer, *args, **kwargs)
            self._optimizers.append(optimizer)
            self.begin([loose(self._optimizers)], self._optimizers)

        replaced(undo, Optimizer, "__init__", make)

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Draw all weights that the treatment is about."""
        del optimizers
        target = self.treatment.target
        everything = list(weighted(models, self.plan))
        found = [one for one in everything if target in {None, one.layer, one.kind}]
        if not found and target is not None and not self._drawn:
            known = dict.fromkeys([one.layer for one in everything])
            self.refuse(f"no layer or type of layer {target!r} has weights; there are {', '.join(known)}")
        for one in found:
            if id(one.tensor) not in self._drawn:
                self._draw(one)

    def _draw(self, one: Weight) -> None:
        import torch

        path, tensor = one.layer, one.tensor
        before = tensor.detach().clone()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(mixed(("init", path, one.name), self.seed))
            try:
                shape = (*reversed(tensor.shape),) if one.turned else tensor.shape
                drawn = _drawn(self.treatment.value, shape, one.module)
                drawn = drawn.t() if one.turned else drawn
            except (ValueError, RuntimeError, NotImplementedError) as error:
                self.refuse(f"{path}: {error}")
                return
            tensor.copy_((drawn * self.treatment.factor).to(tensor))
        self._drawn.add(id(tensor))
        self._kept.append(tensor)
        if not torch.equal(before, tensor.detach()):
            self.did(path)

    @property
    def refusal(self) -> str:
        """As for all; weights that came out as they were have not been treated."""
        if self._drawn and not self.applied:
            return self._refusal or "these weights are drawn so already"
        return super().refusal


def _drawn(scheme: str, shape: Any, module: Any) -> Any:
    """New numbers for a weight; fans as PyTorch counts them."""
    import torch
    from torch.nn import init

    tensor = torch.empty(shape)
    schemes = {
        "zeros": init.zeros_,
        "ones": init.ones_,
        "identity": init.eye_,
        "dirac": init.dirac_,
        "uniform": functools.partial(init.uniform_, a=-1.0, b=1.0),
        "normal": init.normal_,
        "glorot_uniform": init.xavier_uniform_,
        "glorot_normal": init.xavier_normal_,
        "he_uniform": functools.partial(init.kaiming_uniform_, nonlinearity="relu"),
        "he_normal": functools.partial(init.kaiming_normal_, nonlinearity="relu"),
        "lecun_uniform": functools.partial(init.kaiming_uniform_, nonlinearity="linear"),
        "lecun_normal": functools.partial(init.kaiming_normal_, nonlinearity="linear"),
        "orthogonal": init.orthogonal_,
        "default": functools.partial(init.kaiming_uniform_, a=5**0.5),
    }
    if scheme not in schemes:
        raise NotImplementedError(f"a PyTorch program cannot be initialised by {scheme} while it runs")
    if scheme == "default" and not hasattr(module, "reset_parameters"):
        raise NotImplementedError(f"PyTorch has no default for the weights of {type(module).__name__}")
    return schemes[scheme](tensor)


class Bias(Intervention):
    """`bias=VALUE[@LAYER]`: biases are set before the first forward pass."""

    nothing = "no layer of this program has biases"

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Set all biases that the treatment is about; those of normalisations stay."""
        import torch

        del optimizers
        target = self.treatment.target
        for path, module in named(models):
            kind = type(module).__name__
            for name, tensor in module._parameters.items():  # noqa: SLF001  (as above)
                wanted = "bias" in name and kind not in NORMALISING and target in {None, path, kind}
                if wanted and tensor is not None and not bool((tensor == self.treatment.factor).all()):
                    with torch.no_grad():
                        tensor.fill_(self.treatment.factor)
                    self.did(path)
        if not self.applied:
            self.refuse("there are no such biases, or they have this value already")


class Members(Intervention):
    """`optimizer=add_parameters` and `optimizer=unfreeze`: the optimiser gets what it lacks."""

    nothing = "the optimiser holds all parameters, and all of them train"

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Parameters that no optimiser holds join the first group of the first optimiser."""
        held = {
            id(one) for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]
        }
        unfreeze = self.treatment.value == "unfreeze"
        for model in models:
            for path, one in model.named_parameters():
                if unfreeze and not one.requires_grad and one.is_floating_point():
                    one.requires_grad_(requires_grad=True)
                    self.did(path)
                if one.requires_grad and id(one) not in held and optimizers:
                    optimizers[0].param_groups[0]["params"].append(one)
                    held.add(id(one))
                    self.did(path)
