"""Watches a training by Lightning: `Trainer(callbacks=[LightningCallback()])`.

Importing this module imports Lightning, as the program does that uses it.
"""

# pyright: reportMissingImports=none, reportUntypedBaseClass=none
# (it is an optional package, of two names)

import importlib
import sys
from typing import TYPE_CHECKING, Any

from unstuck.sources.callback import WatchingCallback


def _base() -> Any:
    """Lightning's `Callback`: of the package that the program has imported, else of the one that is there."""
    known = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(known, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name).Callback
        except ImportError:
            continue
    raise ImportError("LightningCallback needs the package lightning: pip install lightning")


if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = _base()


class LightningCallback(WatchingCallback, _Callback):
    """Records what Lightning's `Trainer` fits; the numbers of the training stay the same.

    Manual and automatic optimisation, several optimisers, accumulation, clipping and precision plugins are
    the recorder's business: this only says when a training starts and ends.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """After the sanity check, when model and optimisers are where they will be."""
        self.start(pl_module, list(trainer.optimizers))
        limit = getattr(trainer, "limit_train_batches", 1.0)
        one = isinstance(limit, int) and limit == 1  # 1.0 means all of them
        if one or getattr(trainer, "overfit_batches", 0) or getattr(trainer, "fast_dev_run", 0):
            self.same_batches_are_meant()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002  (the signature is Lightning's)
        """Close, and print the findings."""
        self.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002  (see above)
        """The findings so far are still of use."""
        self.end()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:  # noqa: ARG002  (see above)
        """No hook outlives the trainer."""
        self.close()
