"""Finds what trains with Keras in a program: a model that begins `fit`, an optimiser that makes a step."""

import contextlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

from unstuck.sources.script.locations import Places, made_at
from unstuck.sources.script.patches import Undo, after, before

Begin = Callable[[Any, Any, bool], None]
"""Told of a model, of the optimiser that trains it, and whether it has made a step already."""


class KerasWatch:
    """Hears of Keras models that train, once the program has imported Keras.

    `fit` and `train_on_batch` make the model's training function first: then its layers are there, and no
    step has been made. In a loop of the program's own, the first step of an optimiser tells which model it
    trains; that one is heard of when the step has been made.
    """

    def __init__(
        self, layers: Places, optimizers: Places, begin: Begin, failed: Callable[[Exception], None]
    ) -> None:
        """Prepare.

        Args:
            layers: gets the place of every layer that is made.
            optimizers: and of every optimiser.
            begin: called before a training begins; may be called again for the same.
            failed: told of what went wrong in here: the program hears nothing of it.
        """
        self._layers, self._optimizers, self._begin, self._failed = layers, optimizers, begin, failed
        self._stepped_once = Places()
        self.used = False
        """Whether the program made a layer."""

    def install(self) -> Undo:
        """Begin to listen; the result ends it."""
        keras = sys.modules["keras"]
        undo = contextlib.ExitStack()
        optimizer, model = keras.optimizers.Optimizer, keras.Model
        undo.callback(after(_home(keras.layers.Layer, "__init__"), "__init__", self._note_layer))
        undo.callback(after(_home(optimizer, "__init__"), "__init__", self._note_optimizer))
        making = "make_train_function"
        undo.callback(before(_home(model, making), making, self._about_to_train))
        own = [vars(keras.optimizers).get("LossScaleOptimizer", optimizer), optimizer]
        homes = {id(home): home for home in (_home(one, "apply") for one in own)}
        for home in homes.values():
            undo.callback(after(home, "apply", self._stepped))
        return undo.close

    def _note_layer(self, layer: Any) -> None:
        self.used = True
        self._layers.note(layer, made_at(layer))

    def _note_optimizer(self, optimizer: Any) -> None:
        self._optimizers.note(optimizer, made_at(optimizer))

    def _about_to_train(self, model: Any) -> None:
        try:
            self._begin(model, model.optimizer, False)  # noqa: FBT003  (no step yet)
        except Exception as error:  # noqa: BLE001  (a program is never disturbed by being watched)
            self._failed(error)

    def _stepped(self, optimizer: Any) -> None:
        if optimizer in self._stepped_once:
            return
        self._stepped_once.note(optimizer, None)
        try:
            trained = getattr(core(optimizer), "_trainable_variables", None) or []
            model = smallest(self._layers.alive(), trained)
            if model is not None:
                self._begin(model, optimizer, True)  # noqa: FBT003  (its first step is made)
        except Exception as error:  # noqa: BLE001  (see above)
            self._failed(error)


def is_layer(thing: Any) -> bool:
    """Whether it is a layer or a model of Keras; on the backend PyTorch it is a module of PyTorch too."""
    kind = getattr(getattr(sys.modules.get("keras"), "layers", None), "Layer", None)
    return isinstance(kind, type) and issubclass(type(thing), kind)


def smallest(layers: Iterable[Any], variables: list[Any]) -> Any:
    """The model with the fewest weights among those that hold all of some variables; None if none does."""
    wanted = {id(variable) for variable in variables}
    found: list[tuple[int, Any]] = []
    for layer in layers:
        if hasattr(layer, "compute_loss"):
            held = {id(variable) for variable in layer.trainable_variables}
            if wanted and wanted <= held:
                found.append((len(held), layer))
    return min(found, key=lambda one: one[0])[1] if found else None


def core(optimizer: Any) -> Any:
    """The optimiser itself, without the wrapper that scales losses for half precision."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _home(kind: type, name: str) -> type:
    """The class that a method is inherited from."""
    return next(base for base in kind.__mro__ if name in vars(base))
