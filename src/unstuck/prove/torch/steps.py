# pyright: basic
# PyTorch's optimisers are open dictionaries; their stubs know little of what is in them.
"""Treatments of what happens between the gradient and the weights: learning rate, clipping, old gradients."""

import functools
import inspect
from collections.abc import Sequence
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
            _set_rate(group, group["lr"] * self.treatment.factor)
        self.did(type(optimizer).__name__)

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
        self._waiting: list[Any] = []
        self._first: dict[int, float] = {}
        self._kept: dict[int, list[Any]] = {}
        self._after: Any = None

    def install(self, undo: ExitStack) -> None:
        """Note optimisers when they are made; change them before a scheduler looks at them."""
        from torch.optim.lr_scheduler import LRScheduler
        from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

        made, scheduled = Optimizer.__init__, LRScheduler.__init__

        @functools.wraps(made)
        def make(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            made(optimizer, *args, **kwargs)
            self._waiting.append(optimizer)

        @functools.wraps(scheduled)
        def schedule(scheduler: Any, *args: Any, **kwargs: Any) -> None:
            self._change()
            scheduled(scheduler, *args, **kwargs)

        replaced(undo, Optimizer, "__init__", make)
        replaced(undo, LRScheduler, "__init__", schedule)
        undo.callback(register_optimizer_step_pre_hook(self._raise).remove)
        self.begun()
        undo.callback(self._stop)

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """All optimisers are complete now."""
        del models
        self._waiting += [one for one in optimizers if id(one) not in self._first]
        self._change()

    def begun(self) -> None:
        """Put the rates back after every other hook."""
        from torch.optim.optimizer import register_optimizer_step_post_hook

        if self._after is not None:
            self._after.remove()
        self._after = register_optimizer_step_post_hook(self._restore)

    def _stop(self) -> None:
        self._after.remove()

    def _change(self) -> None:
        import torch

        waiting, self._waiting = self._waiting, []
        for optimizer in waiting:
            kind = type(optimizer)
            if id(optimizer) in self._first:
                continue
            rate = optimizer.param_groups[0].get("lr")
            if kind is torch.optim.Adam:
                self.refuse("its optimiser is Adam already")
            elif optimizer.state or "step" in vars(optimizer):
                self.refuse("its optimiser has made steps before it could be changed")
            elif rate is None or float(rate) == 0 or kind.__module__.partition(".")[0] != "torch":
                self.refuse(f"{kind.__name__} cannot become Adam: it is not one of PyTorch's with a rate")
            else:
                optimizer.__class__ = torch.optim.Adam
                usual = inspect.signature(torch.optim.Adam.__init__).parameters
                for target in (optimizer.defaults, *optimizer.param_groups):
                    for name in set(usual) - {"self", "params"}:
                        if name not in {"lr", "weight_decay"} or name not in target:
                            target[name] = usual[name].default
                    target["decoupled_weight_decay"] = False
                self._first[id(optimizer)] = float(rate)
                self.did(kind.__name__)

    def _raise(self, optimizer: Any, *_: Any) -> None:
        self._restore(optimizer)
        first = self._first.get(id(optimizer))
        if first is not None:
            self._kept[id(optimizer)] = [group["lr"] for group in optimizer.param_groups]
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * self.rate / first

    def _restore(self, optimizer: Any, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._kept.pop(id(optimizer), ()), strict=False):
            group["lr"] = rate
