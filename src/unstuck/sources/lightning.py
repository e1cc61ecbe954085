"""Watches a training by Lightning: `Trainer(callbacks=[LightningCallback()])`.

Importing this module imports Lightning, as the program does that uses it.
"""

# pyright: reportMissingImports=none, reportUntypedBaseClass=none
# (it is an optional package, of two names)

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from unstuck.errors import UnstuckError
from unstuck.sources.callback import Watching


def _base() -> Any:
    """Lightning's `Callback`: of the package that the program has imported, else of the one that is there."""
    known = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(known, key=lambda name: name not in sys.modules):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name).Callback
    return object


if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = _base()


class LightningCallback(_Callback):
    """Records what Lightning's `Trainer` fits; the numbers of the training stay the same.

    Manual and automatic optimisation, several optimisers, accumulation, clipping and precision plugins are
    the recorder's business: this only says when a training starts and ends.
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
            UnstuckError: when Lightning is not installed.
        """
        if not hasattr(_Callback, "on_train_start"):
            raise UnstuckError("LightningCallback needs the package lightning: pip install lightning")
        super().__init__()
        self.watching = Watching(folder=folder, every=every, probe=probe, goal=goal, report=report)

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong with the last training: a `Diagnosis`."""
        return self.watching.diagnose(**options)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """After the sanity check, when model and optimisers are where they will be."""
        self.watching.start(pl_module, list(trainer.optimizers))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  (the signature is Lightning's)
        """Close, and print the findings."""
        self.watching.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002  (see above)
        """The findings so far are still of use."""
        self.watching.end()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  (see above)
        """No hook outlives the trainer."""
        self.watching.close()
