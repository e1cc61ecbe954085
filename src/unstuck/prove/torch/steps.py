# pyright: basic
# PyTorch's optimisers are open dictionaries; their stubs know little of what is in them.
"""Treatments of what happens between the gradient and the weights: learning rate, clipping, old gradients."""

import functools
import inspect
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.seeds import replaced


class Rate(Intervention):
    """`lr*F`: every step is made with F times the learning rate.

    The rate is multiplied right before a step and put back right after it, so that schedulers, warm-ups and
    whatever else computes rates sees its own numbers, and acts as on the unchanged program.
    """

    nothing = "no optimiser of this program made a step with a learning rate"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing changed yet."""
        super().__init__(*args, **kwargs)
        self._kept: dict[int, list[Any]] = {}
        self._after: Any = None

    def install(self, undo: ExitStack) -> None:
        """Before every other hook: a recorder is to see the rate that is used."""
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        undo.callback(register_optimizer_step_pre_hook(self._raise).remove)
        self._listen_last()
        undo.callback(self._stop)

    def begun(self) -> None:
        """After every other hook, for the same reason."""
        self._listen_last()

    def _stop(self) -> None:
        self._after.remove()

    def _listen_last(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        if self._after is not None:
            self._after.remove()
        self._after = register_optimizer_step_post_hook(self._restore)

    def _raise(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        self._restore(optimizer)  # of a step that was left by an exception
        rates = [group.get("lr") for group in optimizer.param_groups]
        if any(rate is None for rate in rates):
            self.refuse(f"{type(optimizer).__name__} finds its learning rate by itself")
            return
        self._kept[id(optimizer)] = [rate.clone() if hasattr(rate, "clone") else rate for rate in rates]
        for group in optimizer.param_groups:
            _set_rate(group, group["lr"] * self.factor(optimizer))
        self.did(type(optimizer).__name__)

    def factor(self, optimizer: Any) -> float:
        """By which an optimiser's rate is multiplied."""
        del optimizer
        return self.treatment.factor

    def _restore(self, optimizer: Any, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._kept.pop(id(optimizer), ()), strict=False):
            _set_rate(group, rate)


def _set_rate(group: dict[str, Any], rate: Any) -> None:
    """A rate that is a tensor keeps its place in memory: compiled steps read it there."""
    if hasattr(group["lr"], "copy_"):
        group["lr"].copy_(rate)
    else:
        group["lr"] = rate


class Clip(Intervention):
    """`clip=V`: gradients are scaled down to a norm of V before every step, all of an optimiser together."""

    nothing = "no optimiser of this program made a step with gradients"

    def install(self, undo: ExitStack) -> None:
        """Right before every step: after whatever the program does to its gradients itself."""
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        undo.callback(register_optimizer_step_pre_hook(self._before).remove)

    def _before(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(closure):
            self._clip(optimizer)
            return None

        @functools.wraps(closure)
        def clipped(*given: Any, **named: Any) -> Any:
            result = closure(*given, **named)
            self._clip(optimizer)
            return result

        if len(args) > 1:
            return (args[0], clipped, *args[2:]), kwargs
        return args, {**kwargs, "closure": clipped}

    def _clip(self, optimizer: Any) -> None:
        import torch

        held = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        if not held:
            return
        scale = getattr(
            optimizer, "grad_scale", None
        )  # of half precision, where the step itself divides by it
        largest = self.treatment.factor * (float(scale) if scale is not None else 1.0)
        torch.nn.utils.clip_grad_norm_(held, largest)
        self.did(type(optimizer).__name__)


class ZeroGrad(Intervention):
    """`zero_grad`: after every step the gradients of all that the optimiser holds are 0.

    So gradients of several backward passes for one step are still summed, and what a program reads of its
    gradients before the step is there.
    """

    nothing = "no optimiser of this program made a step with gradients"

    def install(self, undo: ExitStack) -> None:
        """After every step."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        undo.callback(register_optimizer_step_post_hook(self._after).remove)

    def _after(self, optimizer: Any, *_: Any) -> None:
        import torch

        with torch.no_grad():
            for group in optimizer.param_groups:
                for one in group["params"]:
                    if one.grad is not None:
                        one.grad.zero_()
        self.did(type(optimizer).__name__)


class Adam(Intervention):
    """`optimizer=adam`: the program's optimiser becomes Adam with its usual rate of 1e-3.

    The object stays the same, so that schedulers and closures keep theirs: a schedule's shape acts on Adam's
    rate, as a multiple of what the program began with.
    """

    nothing = "this program has no optimiser that could become Adam"
    rate = 1e-3

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing changed yet."""
        super().__init__(*args, **kwargs)
        self._first: dict[int, float] = {}
        self._rates: Rate | None = None

    def install(self, undo: ExitStack) -> None:
        """Change optimisers as soon as they are made, before a scheduler looks at them."""
        import torch
        from torch.optim.optimizer import Optimizer

        self._usual = {
            name: given.default
            for name, given in inspect.signature(torch.optim.Adam.__init__).parameters.items()
            if given.default is not inspect.Parameter.empty
        }
        for kind in vars(torch.optim).values():
            if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer:
                replaced(undo, kind, "__init__", self._made(kind, kind.__init__))
        self._rates = _Scaled(self.treatment, self.seed, self._first)
        self._rates.install(undo)

    def begun(self) -> None:
        """See `Rate`."""
        if self._rates is not None:
            self._rates.begun()

    def _made(self, kind: type, original: Any) -> Any:
        @functools.wraps(original)
        def make(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            if type(optimizer) is kind:  # not on the way to a subclass
                self._change(optimizer)

        return make

    def _change(self, optimizer: Any) -> None:
        import torch

        kind = type(optimizer)
        rate = optimizer.param_groups[0].get("lr")
        if kind in {torch.optim.Adam, torch.optim.AdamW}:
            self.refuse(f"its optimiser is {kind.__name__} already")
        elif rate is None or float(rate) == 0:
            self.refuse(f"{kind.__name__} has no learning rate to begin with")
        elif kind is torch.optim.LBFGS:
            self.refuse("LBFGS searches along lines of its own, and its program is written for that")
        else:
            optimizer.__class__ = torch.optim.Adam
            optimizer._patch_step_function()  # noqa: SLF001  (its hooks: else only the first Adam that is made has them)
            optimizer.state.clear()  # of Adagrad, which has some from the start
            for target in (optimizer.defaults, *optimizer.param_groups):
                kept = {name: target[name] for name in ("lr", "weight_decay") if name in target}
                target.update({**self._usual, **kept, "decoupled_weight_decay": False})
            self._first[id(optimizer)] = float(rate)
            self.did(kind.__name__)


class _Scaled(Rate):
    """Adam's rate instead of that which the program's optimiser began with."""

    def __init__(self, treatment: Any, seed: int, first: dict[int, float]) -> None:
        super().__init__(treatment, seed)
        self._first = first

    def factor(self, optimizer: Any) -> float:
        first = self._first.get(id(optimizer))
        return 1.0 if first is None else Adam.rate / first
