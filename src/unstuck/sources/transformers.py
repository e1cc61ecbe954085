"""Watches a training by Hugging Face's `Trainer`: `trainer.add_callback(TransformersCallback())`.

Importing this module imports Transformers, as the program does that uses it.
"""

# pyright: reportMissingImports=none, reportUntypedBaseClass=none
# (it is an optional package)

import os
from typing import TYPE_CHECKING, Any

from unstuck.errors import UnstuckError
from unstuck.sources.callback import Watching

if TYPE_CHECKING:
    _Callback = object
else:
    try:
        from transformers import TrainerCallback as _Callback
    except ImportError:
        _Callback = object


class TransformersCallback(_Callback):
    """Records what Hugging Face's `Trainer` trains; the numbers of the training stay the same.

    The trainer clips gradients before it tells its callbacks of a step: gradients are taken by the
    recorder's own hooks, before the clipping. This only says when a training starts and ends. No event tells
    a callback of an exception: after one, `close` takes the hooks away.
    """

    def __init__(
        self,
        *,
        folder: str | os.PathLike[str] | None = None,
        every: int | None = None,
        probe: bool = False,
        goal: str | None = None,
        report: bool = True,
    ) -> None:
        """Prepare.

        Args:
            folder: where to store the recording while it runs.
            every: measure every so many steps instead of the usual schedule.
            probe: whether to run what needs extra computations at the end.
            goal: what counts as learned, such as "loss<0.1".
            report: whether to print the findings at the end, on stderr.

        Raises:
            UnstuckError: when Transformers is not installed.
        """
        if not hasattr(_Callback, "on_train_begin"):
            raise UnstuckError(
                "TransformersCallback needs the package transformers: pip install 'transformers[torch]'"
            )
        super().__init__()
        self.watching = Watching(folder=folder, every=every, probe=probe, goal=goal, report=report)

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong with the last training: a `Diagnosis`."""
        return self.watching.diagnose(**options)

    def close(self) -> None:
        """Stop watching, after an exception; else the end of the training does it."""
        self.watching.close()

    def on_train_begin(self, args: Any, state: Any, control: Any, **objects: Any) -> None:  # noqa: ARG002  (the signature is the trainer's)
        """Model and optimiser are there, perhaps wrapped."""
        optimizer = objects.get("optimizer")
        self.watching.start(objects["model"], [] if optimizer is None else [optimizer])

    def on_train_end(self, args: Any, state: Any, control: Any, **objects: Any) -> None:  # noqa: ARG002  (see above)
        """Close, and print the findings."""
        self.watching.end()
