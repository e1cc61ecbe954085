# pyright: basic
# PyTorch's optimisers are open dictionaries; their stubs know little of what is in them.
"""Treatments of what happens between the gradient and the weights: clipping, old gradients, batches."""

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.seeds import replaced


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


class ClipOff(Intervention):
    """`clip=off`: PyTorch's clipping functions leave the gradients as they are, and still tell their norm."""

    nothing = "this program clips no gradients by PyTorch's functions"

    def install(self, undo: ExitStack) -> None:
        """Replace them, before the program can take them by name."""
        import torch

        for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
            for name in ("clip_grad_norm_", "clip_grad_norm", "clip_grads_with_norm_", "clip_grad_value_"):
                if hasattr(owner, name):
                    replaced(undo, owner, name, self._harmless(name, getattr(owner, name)))

    def _harmless(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def clip(*args: Any, **kwargs: Any) -> Any:
            given: Any = args[0] if args else kwargs.get("parameters")
            given = [given] if hasattr(given, "grad") else list(given)
            held = [one.grad for one in given if one.grad is not None]
            kept = [one.detach().clone() for one in held]
            result = original(given, *args[1:], **{k: v for k, v in kwargs.items() if k != "parameters"})
            self._put_back(name, held, kept)
            return result

        return clip

    def _put_back(self, name: str, held: list[Any], kept: list[Any]) -> None:
        import torch

        with torch.no_grad():
            for gradient, before in zip(held, kept, strict=True):
                if not torch.equal(gradient, before):
                    gradient.copy_(before)
                    self.did(name)


class Batch(Intervention):
    """`batch*N`: a step is made with the mean gradient of N steps of the program, N - 1 steps are left out.

    That is what a batch N times as large would give, where samples do not meet within a batch (as they do in
    a batch normalisation). The samples and their order stay, and schedules go on by the program's own steps.
    An optimiser that finds no gradients makes no step, so they are out of its sight while they are gathered.
    """

    nothing = "no optimiser of this program made a step with gradients"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing gathered."""
        super().__init__(*args, **kwargs)
        self._count: dict[int, int] = {}
        self._sums: dict[int, Any] = {}
        self._own: dict[int, list[tuple[Any, Any]]] = {}
        self._before: Any = None
        self._after: Any = None

    def install(self, undo: ExitStack) -> None:
        """From the first training on."""
        undo.callback(self._stop)

    def begun(self) -> None:
        """Behind the recorder: it sees the program's gradients, and which steps were made."""
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        self._stop()
        self._before = register_optimizer_step_pre_hook(self._gather)
        self._after = register_optimizer_step_post_hook(self._return)

    def _stop(self) -> None:
        for handle in (self._before, self._after):
            if handle is not None:
                handle.remove()

    def _gather(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        import torch

        if callable(args[1] if len(args) > 1 else kwargs.get("closure")):
            self.refuse("its steps compute their gradients themselves, by a closure")
            return
        if type(optimizer).__name__ == "SparseAdam":
            self.refuse("SparseAdam takes no means of gradients")
            return
        held = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        scale = getattr(optimizer, "grad_scale", None)  # of half precision: the step divides by it
        scale = 1.0 if scale is None else float(scale)
        count = self._count[id(optimizer)] = self._count.get(id(optimizer), 0) + 1
        self._own[id(optimizer)] = [(one, one.grad) for one in held]
        turn = count % int(self.treatment.factor) == 0
        with torch.no_grad():
            for one in held:
                sums = self._sums.get(id(one))
                sums = one.grad / scale if sums is None else sums + one.grad / scale
                one.grad = sums * (scale / self.treatment.factor) if turn else None
                self._sums[id(one)] = None if turn else sums
        self.did(type(optimizer).__name__)

    def _return(self, optimizer: Any, *_: Any) -> None:
        for one, gradient in self._own.pop(id(optimizer), ()):
            one.grad = gradient


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
