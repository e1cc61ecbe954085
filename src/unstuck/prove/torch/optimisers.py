# pyright: basic
# PyTorch's optimisers are open dictionaries; their stubs know little of what is in them.
"""Treatments of the optimiser: another one, or the same with other numbers."""

import functools
import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.rates import Rate
from unstuck.prove.torch.seeds import replaced

NUMBERS = ("momentum", "dampening", "betas", "eps", "alpha", "rho", "lr_decay", "momentum_decay")
"""What an optimiser computes its steps with, beside the rate and the decay of weights."""
USUAL_MOMENTUM = 0.9


class Numbers(Intervention):
    """`optimizer=default` and `optimizer=no_decay`: the same optimiser with other numbers.

    They are set before the first step and again before every later one, where a schedule (of the momentum,
    say) has changed them. What state the optimiser has stays.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing changed yet."""
        super().__init__(*args, **kwargs)
        no_decay = self.treatment.value == "no_decay"
        self._wanted = _without_decay if no_decay else _usual
        self.nothing = (
            "no optimiser of this program has a weight decay"
            if no_decay
            else "its numbers are the usual ones"
        )

    def install(self, undo: ExitStack) -> None:
        """Before every step."""
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        undo.callback(register_optimizer_step_pre_hook(lambda optimizer, *_: self._set(optimizer)).remove)

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Before the first."""
        del models
        for optimizer in optimizers:
            self._set(optimizer)

    def _set(self, optimizer: Any) -> None:
        for group in optimizer.param_groups:
            wanted = self._wanted(optimizer, group)
            different = {name: value for name, value in wanted.items() if group[name] != value}
            group.update(different)
            for name in different:
                self.did(f"{type(optimizer).__name__} {name}")


def _without_decay(_optimizer: Any, group: dict[str, Any]) -> dict[str, Any]:
    return {"weight_decay": 0.0} if group.get("weight_decay") else {}


def _usual(optimizer: Any, group: dict[str, Any]) -> dict[str, Any]:
    """What its class takes when nothing is said; a momentum that is wanted is 0.9."""
    given = inspect.signature(type(optimizer).__init__).parameters
    names = [name for name in NUMBERS if name in given and name in group]
    usual = {name: given[name].default for name in names}
    if group.get("momentum"):
        usual["momentum"] = USUAL_MOMENTUM
    return {name: value for name, value in usual.items() if value is not inspect.Parameter.empty}


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
        from torch.optim.optimizer import Optimizer, register_optimizer_step_pre_hook

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
        undo.callback(register_optimizer_step_pre_hook(self._mend).remove)

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
        rates = [group.get("lr") for group in optimizer.param_groups]
        first = max((float(rate) for rate in rates if rate is not None), default=0.0)
        if kind in {torch.optim.Adam, torch.optim.AdamW}:
            self.refuse(f"its optimiser is {kind.__name__} already")
        elif first == 0:
            self.refuse(f"{kind.__name__} has no learning rate to begin with")
        elif kind is torch.optim.LBFGS:
            self.refuse("LBFGS searches along lines of its own, and its program is written for that")
        else:
            optimizer.__class__ = torch.optim.Adam
            optimizer._patch_step_function()  # noqa: SLF001  (its hooks: else only the first Adam that is made has them)
            for mark in ("_step_supports_amp_scaling", "_need_device_dtype_check_for_fused"):
                vars(optimizer).pop(mark, None)  # of a fused one, whose step divides by the scale itself
            optimizer.state.clear()  # of Adagrad, which has some from the start
            for target in (optimizer.defaults, *optimizer.param_groups):
                self._number(target)
            self._first[id(optimizer)] = first
            self.did(kind.__name__)

    def _number(self, target: dict[str, Any]) -> None:
        kept = {name: target[name] for name in ("lr", "weight_decay", "maximize") if name in target}
        target.update({**self._usual, **kept, "decoupled_weight_decay": False})

    def _mend(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """What a program loads from a checkpoint, or adds, may still be its own optimiser's."""
        if id(optimizer) not in self._first:
            return
        for group in optimizer.param_groups:
            if not group.keys() >= self._usual.keys():
                self._number(group)
            for one in group["params"]:
                if one in optimizer.state and "exp_avg_sq" not in optimizer.state[one]:
                    del optimizer.state[one]

    def failed(self, error: BaseException) -> None:
        """A program that looks into its optimiser finds Adam there."""
        if isinstance(error, (KeyError, AttributeError)) and self.applied:
            self.refuse(f"this program counts on its own optimiser ({type(error).__name__}: {error})")


class _Scaled(Rate):
    """Adam's rate instead of that which the program's optimiser began with."""

    def __init__(self, treatment: Any, seed: int, first: dict[int, float]) -> None:
        super().__init__(treatment, seed)
        self._first = first

    def factor(self, optimizer: Any) -> float:
        first = self._first.get(id(optimizer))
        return 1.0 if first is None else Adam.rate / first
