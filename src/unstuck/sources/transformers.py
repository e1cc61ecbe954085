"""Watches a training by Hugging Face's `Trainer`: `trainer.add_callback(TransformersCallback())`.

Importing this module imports Transformers, as the program does that uses it.
"""

# pyright: reportMissingImports=none, reportUntypedBaseClass=none
# (it is an optional package)

from typing import TYPE_CHECKING, Any

from unstuck.sources.callback import WatchingCallback

if TYPE_CHECKING:
    _Callback = object
else:
    try:
        from transformers import TrainerCallback as _Callback
    except ImportError:
        raise ImportError(
            "TransformersCallback needs the package transformers: pip install 'transformers[torch]'"
        ) from None


class TransformersCallback(WatchingCallback, _Callback):
    """Records what Hugging Face's `Trainer` trains; the numbers of the training stay the same.

    The trainer clips gradients before it tells its callbacks of a step: gradients are taken by the
    recorder's own hooks, before the clipping, and what the clipping left of them is `clip_ratio`. This only
    says when a training starts and ends. No event tells a callback of an exception: after one, `close` takes
    the hooks away.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:  # noqa: ARG002  (the signature is the trainer's)
        """Model and optimiser are there, perhaps wrapped."""
        optimizer = objects.get("optimizer")
        self.start(objects["model"], [] if optimizer is None else [optimizer])

    def on_train_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:  # noqa: ARG002  (see above)
        """Close, and print the findings."""
        self.end()
