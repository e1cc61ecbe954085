# pyright: basic
# Modules and functions of PyTorch are changed while a program runs; its stubs forbid that.
"""Treatments of what is different in training: how much is dropped, and whether the model is in that mode."""

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.names import named
from unstuck.prove.torch.seeds import replaced

SHARE = {
    "dropout": "p",
    "dropout1d": "p",
    "dropout2d": "p",
    "dropout3d": "p",
    "alpha_dropout": "p",
    "feature_alpha_dropout": "p",
    "scaled_dot_product_attention": "dropout_p",
}
"""Functions of `torch.nn.functional` that drop numbers -> the name of the share."""


class Dropout(Intervention):
    """`dropout=P`: whatever drops a larger share of its numbers drops the share P; what drops less stays.

    Modules keep their share in `p` (recurrent layers and attention in `dropout`); functions are given theirs.
    """

    nothing = "nothing in this program drops more than that share of its numbers"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Read the share."""
        super().__init__(*args, **kwargs)
        self.share = float(self.treatment.value)

    def install(self, undo: ExitStack) -> None:
        """Functions, before the program can take them by name."""
        import torch.nn.functional as functions

        for name, share in SHARE.items():
            replaced(undo, functions, name, self._milder(name, share, getattr(functions, name)))

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Modules, so that what is compiled and what reads its share finds it changed."""
        del optimizers
        for name, module in named(models):
            for attribute in ("p", "dropout"):
                share = vars(module).get(attribute)
                drops = attribute == "dropout" or "Dropout" in type(module).__name__
                if drops and isinstance(share, float) and self.share < share <= 1:
                    setattr(module, attribute, self.share)
                    self.did(name)

    def _milder(self, name: str, share: str, original: Callable[..., Any]) -> Callable[..., Any]:
        names = list(_names(original))
        place = names.index(share) if share in names else None

        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("training", True) is False:
                return original(*args, **kwargs)
            if place is not None and len(args) > place:
                if args[place] > self.share:
                    self.did(f"{name} (function)")
                    args = (*args[:place], self.share, *args[place + 1 :])
            elif kwargs.get(share, 0.0 if share == "dropout_p" else 0.5) > self.share:
                self.did(f"{name} (function)")
                kwargs = {**kwargs, share: self.share}
            return original(*args, **kwargs)

        return function


def _names(function: Callable[..., Any]) -> Sequence[str]:
    try:
        return [*inspect.signature(function).parameters]
    except ValueError:  # one that is compiled
        return ("query", "key", "value", "attn_mask", "dropout_p")


class Mode(Intervention):
    """`mode=train`: forward passes that train are made in training mode; the mode is then put back.

    Which these are shows afterwards only: a backward pass follows. So a forward pass in evaluation mode is
    made in training mode when the one before it was followed by a backward pass. The first one stays as it
    is, and so does what is validated: without gradients always, with them from its second batch on. Parts
    that alone are in evaluation mode (a frozen normalisation) are meant to be.
    """

    nothing = "this program never trains a model that is in evaluation mode as a whole"

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Stand at the door of each model."""
        import torch

        del optimizers
        for model in outermost(models):
            if isinstance(model, torch.nn.Module) and not vars(model).get("_unstuck_mode"):
                vars(model)["_unstuck_mode"] = True
                switch = _Switch(self)
                model.register_forward_pre_hook(switch.enter, prepend=True)
                model.register_forward_hook(switch.leave, always_call=True)


class _Switch:
    """The mode of one model."""

    def __init__(self, owner: Mode) -> None:
        self.owner = owner
        self.trains = False
        """Whether a backward pass has followed the last forward pass in evaluation mode."""
        self.switched: list[Any] = []
        self.listening: Any = None

    def enter(self, model: Any, _args: Any) -> None:
        import torch

        if model.training or not torch.is_grad_enabled():
            return
        if self.trains:
            self.switched = [one for one in model.modules() if not one.training]
            for one in self.switched:
                one.training = True
            self.owner.did("model.train()")
        self._listen(model)

    def leave(self, *_: Any) -> None:
        for one in self.switched:
            one.training = False
        self.switched = []

    def _listen(self, model: Any) -> None:
        """For a gradient that arrives at one of its parameters."""
        self.trains = False
        if self.listening is not None:
            self.listening.remove()
        one = next((one for one in model.parameters() if one.requires_grad), None)
        if one is not None:
            self.listening = one.register_hook(self._trained)

    def _trained(self, _gradient: Any) -> None:
        self.trains = True


def outermost(models: Sequence[Any]) -> list[Any]:
    """The models themselves, or what `torch.compile` has put around them: there a door is not compiled."""
    import gc

    compiled = {
        id(vars(one).get("_modules", {}).get("_orig_mod")): one
        for one in gc.get_objects()
        if type(one).__name__ == "OptimizedModule"
    }
    return [compiled.get(id(model), model) for model in models]
