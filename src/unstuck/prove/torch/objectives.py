# pyright: basic
# Functions of torch.autograd are replaced while a program runs; their stubs forbid that.
"""Treatments of what is made small: a mean instead of a sum, the other sign, other weights of the classes.

A loss function of PyTorch is changed at its door. A loss that a program writes by hand is a number on which
it calls `backward`: that number can be multiplied there.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from unstuck.prove.torch.inputs import Extent
from unstuck.prove.torch.intervention import Intervention
from unstuck.prove.torch.losses import BOUNDARY, DISTANCES, SCORES, Given
from unstuck.prove.torch.names import named
from unstuck.prove.torch.outputs import AtTheLoss
from unstuck.prove.torch.roots import summed

_POWERS = {"MSELoss": 2, "L1Loss": 1}
"""Losses of differences, and how they grow with these."""


class AtTheRoot(Intervention):
    """Multiplies the number that `backward` is called on, before a recorder looks at it."""

    nothing = "this program calls no backward on a single number"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing changed yet."""
        super().__init__(*args, **kwargs)
        self._newest: object = None

    def install(self, undo: ExitStack) -> None:
        """From the first training on, until the program has ended."""
        import torch

        original = torch.autograd.backward
        undo.callback(setattr, torch.autograd, "backward", original)

    def begun(self) -> None:
        """In front of the recorder, which replaces the same function; of several, the newest counts."""
        import torch

        self._newest = mark = object()
        torch.autograd.backward = self._in_front(torch.autograd.backward, mark)

    def _in_front(self, original: Callable[..., Any], mark: object) -> Callable[..., Any]:
        import torch

        @functools.wraps(original)
        def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
            one = tensors if isinstance(tensors, torch.Tensor) else None
            if mark is self._newest and one is not None and one.numel() == 1 and one.grad_fn is not None:
                factor = self.multiple(one)
                if factor != 1:
                    self.did("backward")
                    tensors = one * factor
            original(tensors, grad_tensors, *args, **kwargs)

        return backward

    def multiple(self, root: Any) -> float:
        """By what the number is multiplied."""
        del root
        return 1.0


class Negated(AtTheRoot):
    """`loss=negated`: the program goes down where it went up."""

    def multiple(self, root: Any) -> float:
        """The other sign."""
        del root
        return -1.0


class Mean(AtTheRoot):
    """`loss=mean`: `reduction="sum"` becomes "mean"; a sum that is written by hand is divided by its terms.

    A sum is told from others by its graph: it is that of a loss of PyTorch, or of squared or absolute
    differences.
    """

    nothing = "no loss of this program is a sum that could be seen (a mean already, or of another form)"

    def install(self, undo: ExitStack) -> None:
        """At both places."""
        super().install(undo)
        if self.door is not None:
            self.door.changes.append(self._change)

    def _change(self, given: Given) -> Given:
        asked = given.options.get("reduction")
        if asked != "sum" and given.options.get("size_average") is not False:
            return given
        kept = {name: one for name, one in given.options.items() if name not in {"size_average", "reduce"}}
        self.did(given.name)
        return replace(given, options={**kept, "reduction": "mean"})

    def multiple(self, root: Any) -> float:
        """One over the number of terms."""
        terms = summed(root.grad_fn)
        return 1 / terms if terms > 1 else 1.0


class Standardised(AtTheLoss, AtTheRoot):
    r"""`target=standardise`: targets of mean 0 and standard deviation 1, by the first 1024 samples.

    Each column of a table has its own. The answers are judged in the units of the program's own targets.

    The targets of a loss that is written by hand cannot be reached. There the answers p of the last layer
    become s p + m, with the mean m and the standard deviation s of the targets in the watched run, and the
    loss is divided by s^2 (squared differences) or s (absolute ones): the gradients are the same,

    $$\frac{1}{s^2} (s p + m - t)^2 = \Bigl(p - \frac{t - m}{s}\Bigr)^2$$
    """

    remembers = False
    nothing = (
        "no loss of PyTorch for quantities is called, and no loss by hand of squared or absolute differences "
        "from a last layer was seen"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """No target seen."""
        super().__init__(*args, **kwargs)
        self._extents: dict[Any, Extent] = {}

    def install(self, undo: ExitStack) -> None:
        """At both places."""
        AtTheLoss.install(self, undo)
        AtTheRoot.install(self, undo)

    def begin(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        """Where the loss is written by hand: the last layer's answers."""
        del optimizers
        plan = self.plan
        if not plan.by_hand or plan.target is None or plan.last or plan.loss not in _POWERS:
            return
        middle, spread = plan.target
        if abs(middle) < 0.1 and abs(spread - 1) < 0.1:  # standardised already
            return
        for name, module in named(models):
            if name == plan.answer and not vars(module).get("_unstuck_answers"):
                vars(module)["_unstuck_answers"] = True
                module.register_forward_hook(lambda _module, _args, output: output * spread + middle)
                self._scaled = True
                self.did(name)

    _scaled = False

    def multiple(self, root: Any) -> float:
        """One over the targets' spread, to the loss's power."""
        del root
        spread = self.plan.target[1] if self.plan.target is not None else 1.0
        return spread ** -_POWERS[self.plan.loss] if self._scaled else 1.0

    def change(self, given: Given) -> Given:
        """Other targets, where they are quantities."""
        import torch

        target = given.target
        if given.name not in DISTANCES or not isinstance(target, torch.Tensor) or not target.dim():
            return given
        extent = self._extents.setdefault((given.name, target.shape[1:]), Extent())
        axes = [0] if target.dim() <= 2 else list(range(target.dim()))
        if torch.is_grad_enabled():
            extent.learn(target, axes)
        if not extent.count:
            return given
        middle, spread = (one.to(target.device, given.input.dtype) for one in extent.of("standardise"))
        scaled = (target - middle) / spread
        if torch.allclose(scaled, target.to(scaled), rtol=1e-3, atol=1e-3):
            return given
        own = given.input.detach() * spread + middle if given.input.shape == target.shape else None
        judged = None if own is None else (own, target)
        return replace(given, target=scaled.to(given.input.dtype), judged=judged)


class Balanced(AtTheLoss):
    """`weights=balanced`: each class weighs by the inverse of its frequency, by all labels seen so far.

    n samples, of which n_c are of class c, of C classes that were seen: its weight is n / (C n_c).
    """

    remembers = False
    nothing = "no loss of PyTorch for classes is called with labels whose frequencies differ"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """No label seen."""
        super().__init__(*args, **kwargs)
        self._counts: dict[int, Any] = {}

    def change(self, given: Given) -> Given:
        """Other weights, where the program gives none."""
        import torch

        if given.name in SCORES:
            whole = isinstance(given.target, torch.Tensor) and not given.target.is_floating_point()
            if not whole or given.input.dim() < 2:
                return given
            labels, classes, name = given.target, given.input.shape[1], "weight"
        elif given.name in BOUNDARY:
            labels, classes = (given.target > 0.5).long(), 2
            name = "pos_weight" if given.name.endswith("logits") else "weight"
        else:
            return given
        if given.options.get(name) is not None:
            self.refuse("it weighs its classes already")
            return given
        weights = self._weights(labels, classes).to(given.input.device, given.input.dtype)
        if float(weights.max() - weights.min()) < 0.1:
            return given
        if name == "pos_weight":
            weights = weights[1] / weights[0]
        elif given.name in BOUNDARY:
            weights = weights[labels]
        return replace(given, options={**given.options, name: weights})

    def _weights(self, labels: Any, classes: int) -> Any:
        import torch

        flat = labels.detach().reshape(-1)
        seen = torch.bincount(flat[(flat >= 0) & (flat < classes)], minlength=classes).double().cpu()
        known = self._counts.get(classes)
        if torch.is_grad_enabled():
            self._counts[classes] = known = seen if known is None else known + seen
        if known is None:
            return torch.ones(classes)
        present = known > 0
        weights = known.sum() / (present.sum().clamp_min(1) * known.clamp_min(1))
        return torch.where(present, weights, 1.0)
