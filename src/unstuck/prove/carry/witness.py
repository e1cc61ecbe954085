# pyright: basic
# Models, optimisers and losses are the user's own; their stubs know little of what is in them.
"""Watches one run of a PyTorch program for all that the engine would need to repeat it.

Whatever it sees that the engine could not do the same way is a reason, and the first reason stands: a run is
either repeated as it was, or not at all.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from unstuck.errors import UnstuckError
from unstuck.nn.layers.kinds import arguments
from unstuck.prove.carry.seen import Facts, Seen, Step
from unstuck.prove.torch.losses import Door, Given
from unstuck.prove.torch.names import PUT_IN
from unstuck.prove.torch.seeds import replaced

LOSSES = {
    "mse_loss": "MSELoss",
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
}
USUAL = {
    "reduction": "mean",
    "weight": None,
    "pos_weight": None,
    "ignore_index": -100,
    "label_smoothing": 0.0,
    "size_average": None,
    "reduce": None,
}
"""Options of losses, with the one value that the engine has."""
OPTIMIZERS = {
    "SGD": ("momentum", "weight_decay", "nesterov"),
    "Adam": ("betas", "eps", "weight_decay", "amsgrad"),
    "AdamW": ("betas", "eps", "weight_decay", "amsgrad"),
}
"""What the engine's optimisers are told, besides the rate."""
FIXED: dict[str, dict[str, object]] = {
    "SGD": {"dampening": 0, "maximize": False},
    "Adam": {"maximize": False, "decoupled_weight_decay": False},
    "AdamW": {"maximize": False, "decoupled_weight_decay": True},
}
"""What else PyTorch's compute with, and what it must be."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
ROOM = 256 * 2**20
"""Bytes of batches that are kept."""


class Witness:
    """Sees one training, from its first weights to its last step."""

    def __init__(self, door: Door) -> None:
        """Nothing seen.

        Args:
            door: of the losses.
        """
        self.door = door
        self._why_not = ""
        self._facts = Facts()
        self._state: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._targets: list[Any] = []
        self._known: dict[str, int] = {}
        self._size = 0
        self._steps: list[Step] = []
        self._model: Any = None
        self._optimizer: Any = None
        self._norms: list[Any] = []
        """Put in by `insert=batch_norm`."""
        self._passes: list[tuple[Any, Any]] = []
        self._losses: list[Given] = []
        self._roots: list[Any] = []
        self._clips: list[tuple[str, float]] = []

    def refuse(self, why: str) -> None:
        """Say what the engine could not repeat; the first reason stands."""
        self._why_not = self._why_not or why

    # ---- where it stands

    def install(self, undo: ExitStack) -> None:
        """Look at losses, at what `backward` is called on, and at PyTorch's clipping."""
        import torch

        look = self.door.look

        def both(given: Given) -> None:
            self._losses.append(given)
            if look is not None:
                look(given)

        self.door.look = both
        replaced(undo, torch.autograd, "backward", self._behind(torch.autograd.backward))
        for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
            for name, what in (("clip_grad_norm_", "norm"), ("clip_grad_value_", "value")):
                if hasattr(owner, name):
                    replaced(undo, owner, name, self._clipping(what, getattr(owner, name)))

    def _behind(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
            self._roots.append(tensors)
            original(tensors, *args, **kwargs)

        return backward

    def _clipping(self, what: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def clip(parameters: Any, limit: float, *args: Any, **kwargs: Any) -> Any:
            held = [parameters] if hasattr(parameters, "grad") else list(parameters)
            mine = {id(one) for one in self._trained()}
            if mine - {id(one) for one in held}:
                self.refuse("it clips the gradients of some parameters and not of others")
            if what == "norm" and float(args[0] if args else kwargs.get("norm_type", 2.0)) != 2.0:
                self.refuse("it clips by another norm than the Euclidean one")
            self._clips.append((what, float(limit)))
            return original(held, limit, *args, **kwargs)

        return clip

    def _trained(self) -> list[Any]:
        return [] if self._model is None else [one for one in self._model.parameters() if one.requires_grad]

    # ---- the training

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """A training is about to begin: treatments have been carried out, nobody else looks yet."""
        models = [one for one in models if PUT_IN not in vars(one)]
        alone = len(models) == 1 and len(optimizers) == 1
        again = alone and models[0] is self._model and optimizers[0] is self._optimizer
        if not models or again:  # what a treatment has put in begins later
            return
        if self._model is not None:
            self.refuse("it trains more than once")
            return
        if len(models) != 1 or len(optimizers) != 1:
            self.refuse(f"it has {len(models)} models and {len(optimizers)} optimisers")
            return
        self._model, self._optimizer = model, _ = models[0], optimizers[0]
        self._twin(model)
        self._numbered(model, optimizers[0])
        if not self._why_not:
            model.register_forward_hook(self._after_forward)
            optimizers[0].register_step_pre_hook(self._before_step)

    def _twin(self, model: Any) -> None:
        """The engine's network, as layers and weights."""
        from unstuck.nn import from_torch

        for name, module in model.named_modules():
            norm = vars(module).get("_unstuck_norm")
            own = ("_forward_hooks",) if norm is not None else ()
            self._norms += [] if norm is None else [norm]
            if any(getattr(module, kind, None) for kind in HOOKS if kind not in own):
                self.refuse(f"functions are hooked to {name or 'the model'}, and what they do is not known")
        try:
            network = from_torch(model)
        except UnstuckError as error:
            self.refuse(str(error).removeprefix("from_torch: "))
            return
        kinds = {layer.type for layer in network.layers.values()}
        if "Dropout" in kinds:
            self.refuse("the draws of its dropout cannot be repeated")
        if not model.training:
            self.refuse("its model begins in evaluation mode")
        self._facts = msgspec.structs.replace(
            self._facts,
            layers=[(name, layer.type, arguments(layer)) for name, layer in network.layers.items()],
            normalised=bool(self._norms),
        )
        self._state = {name: np.array(value) for name, value in network.state.items()}

    def _numbered(self, model: Any, optimizer: Any) -> None:
        import torch

        kind = type(optimizer).__name__
        if kind not in OPTIMIZERS or type(optimizer) is not getattr(torch.optim, kind):
            self.refuse(f"the engine has no {kind} of this form; it has {', '.join(OPTIMIZERS)}")
            return
        if optimizer.state:
            self.refuse("its optimiser has begun already")
        held = {id(one) for group in optimizer.param_groups for one in group["params"]}
        parameters = dict(model.named_parameters())
        norms = {id(one) for norm in self._norms for one in norm.parameters()}
        if held - norms - {id(one) for one in parameters.values()}:
            self.refuse("its optimiser holds parameters that are not the model's")
        plain = isinstance(model, torch.nn.Sequential)
        frozen = [
            name if plain else f"0.{name}"  # a single layer is called so in the engine
            for name, one in parameters.items()
            if id(one) not in held or not one.requires_grad
        ]
        self._facts = msgspec.structs.replace(
            self._facts, frozen=tuple(frozen), optimizer=kind, numbers=self._numbers(optimizer)
        )

    def _numbers(self, optimizer: Any) -> dict[str, Any]:
        """What it computes with besides the rate: the same in all groups."""
        kind = type(optimizer).__name__
        told: list[dict[str, Any]] = []
        for group in optimizer.param_groups:
            for name, needed in FIXED[kind].items():
                if group.get(name, needed) != needed:
                    self.refuse(f"{kind} with {name}={group[name]!r} is none of the engine's")
            told.append({name: group[name] for name in OPTIMIZERS[kind]})
        if any(one != told[0] for one in told):
            self.refuse("its optimiser has groups of parameters with different numbers")
        return {name: list(one) if isinstance(one, tuple) else one for name, one in told[0].items()}

    # ---- one step

    def _after_forward(self, model: Any, args: Any, output: Any) -> None:
        import torch

        if not torch.is_grad_enabled() or not getattr(output, "requires_grad", False):
            return
        if len(args) != 1 or not isinstance(args[0], torch.Tensor):
            self.refuse("its model is given more than one tensor")
            return
        if not model.training:
            self.refuse("it trains in evaluation mode")
        self._passes.append((args[0].detach().clone(), output))

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        passes, losses, roots, clips = self._passes, self._losses, self._roots, self._clips
        self._passes, self._losses, self._roots, self._clips = [], [], [], []
        if self._why_not:
            return
        if callable(args[1] if len(args) > 1 else kwargs.get("closure")):
            self.refuse("its steps compute their gradients themselves, by a closure")
        elif len(passes) != 1 or len(roots) != 1:
            self.refuse(f"a step is made from {len(passes)} forward and {len(roots)} backward passes")
        elif len(losses) != 1:
            self.refuse(
                f"{len(losses)} loss functions of PyTorch are called for a step, where the engine has one"
            )
        elif self._numbers(optimizer) != self._facts.numbers:
            self.refuse("the numbers of its optimiser change on the way")
        else:
            self._keep(*passes[0], losses[0], roots[0], self._rate(optimizer), clips)

    def _rate(self, optimizer: Any) -> float:
        rates = {float(group["lr"]) for group in optimizer.param_groups}
        if len(rates) > 1:
            self.refuse("its optimiser has groups of parameters with different rates")
        return rates.pop()

    def _keep(
        self, given: Any, output: Any, loss: Given, root: Any, rate: float, clips: list[tuple[str, float]]
    ) -> None:
        target = self._target(output, loss)
        norms, values = ({limit for what, limit in clips if what == kind} for kind in ("norm", "value"))
        if len(norms) > 1 or len(values) > 1 or (norms and values):
            self.refuse("its gradients are clipped in two ways")
        if self._why_not or target is None:
            return
        number = self._batch(given.cpu().numpy(), target)
        value = float(root.detach())
        self._steps.append(
            Step(
                batch=number,
                lr=rate,
                clip_norm=next(iter(norms), None),
                clip_value=next(iter(values), None),
                loss=value if math.isfinite(value) else None,
            )
        )

    def _target(self, output: Any, loss: Given) -> Any:
        """The targets as the engine's loss takes them; None with a reason where it would not."""
        kind = LOSSES.get(loss.name)
        options = {name: value for name, value in loss.options.items() if value != USUAL.get(name)}
        if kind is None or options:
            told = ", ".join(f"{name}={value!r}"[:40] for name, value in options.items())
            self.refuse(f"the engine has no {loss.name}" + (f" with {told}" if options else ""))
        elif self._facts.loss not in {"", kind}:
            self.refuse("it changes its loss on the way")
        elif loss.input.data_ptr() != output.data_ptr() or loss.input.numel() != output.numel():
            self.refuse("something stands between its model's answer and the loss")
        elif kind in {"CrossEntropyLoss", "NLLLoss"}:
            if loss.input.dim() == 2 and loss.target.dim() == 1 and not loss.target.is_floating_point():
                self._facts = msgspec.structs.replace(self._facts, loss=kind)
                return loss.target.detach().cpu().numpy().astype(np.int64)
            self.refuse("its targets are no labels, one a sample")
        elif loss.target.shape != loss.input.shape:
            self.refuse(f"targets {tuple(loss.target.shape)} meet answers {tuple(loss.input.shape)}")
        else:
            self._facts = msgspec.structs.replace(self._facts, loss=kind)
            return loss.target.detach().double().cpu().numpy().reshape(output.shape[0], -1)
        return None

    def _batch(self, given: Any, target: Any) -> int:
        """The number of a batch: that of an equal one, where there was one."""
        given, target = np.ascontiguousarray(given), np.ascontiguousarray(target)
        mark = hashlib.sha256(given.tobytes() + target.tobytes()).hexdigest()
        if mark not in self._known:
            self._size += given.nbytes + target.nbytes
            if self._size > ROOM:
                self.refuse(f"its batches together are larger than {ROOM >> 20} MB")
                return 0
            self._known[mark] = len(self._inputs)
            self._inputs.append(given.copy())
            self._targets.append(target.copy())
        return self._known[mark]

    # ---- what it saw

    @property
    def seen(self) -> Seen:
        """All of it."""
        if not self._steps:
            self.refuse("no step of an optimiser was seen")
        facts = msgspec.structs.replace(self._facts, why_not=self._why_not, steps=tuple(self._steps))
        found = Seen(facts, self._state, tuple(self._inputs), tuple(self._targets))
        return found if not self._why_not else replace(found, state={}, inputs=(), targets=())
