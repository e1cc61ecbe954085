"""What the callbacks of all training libraries share: a recorder from the start of a training to its end."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from unstuck.errors import UnstuckError
from unstuck.sources.ranks import RankRecorder, of_group, rank_folder
from unstuck.trace.recording import Recording


class WatchingCallback:
    """Starts and ends a recording; several trainings come one after another.

    A library's callback derives from this and from the library's own base class, and says when a training
    starts and ends: by `start`, `end` and `close`.
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
            folder: where to store the recording while it runs; of several processes, that of all together.
            every: measure every so many steps instead of the usual schedule.
            probe: whether to run what needs extra computations at the end.
            goal: what counts as learned, such as "loss<0.1".
            report: whether to print the findings at the end, on stderr.
        """
        super().__init__()
        self._options: dict[str, Any] = {"folder": folder, "every": every, "probe": probe, "goal": goal}
        self._report = report
        self._recorder: Any = None
        self._open = False
        self._place = 0, 1
        """Which process this is and of how many."""

    def start(self, model: Any, optimizers: Sequence[Any]) -> None:
        """A training begins; one that was cut off is closed first."""
        from unstuck.sources.torch.record import record

        self.close()
        self._place = rank, size = of_group()
        folder = self._options["folder"]
        if folder is None or size == 1:
            self._recorder = record(model, optimizers, **self._options)
        else:
            options: dict[str, Any] = {**self._options, "folder": rank_folder(folder, rank)}
            own = record(model, optimizers, **options)
            self._recorder = RankRecorder(own, folder, place=self._place)
        self._recorder.__enter__()
        self._open = True

    def same_batches_are_meant(self) -> None:
        """The user asked the library to train on a few batches only: that they repeat is no fault."""
        meant = getattr(self._recorder, "same_batches_are_meant", None)
        if meant is not None:
            meant()

    def end(self) -> None:
        """It has ended: close, and print what was found if that was asked for."""
        if not self._open:
            return
        self.close()
        if self._report and self._place[0] == 0:
            from rich.console import Console

            Console(file=sys.stderr).print(self.diagnose())

    def close(self) -> None:
        """Stop watching; all hooks go. A second call does nothing."""
        if self._open:
            self._open = False
            self._recorder.__exit__(None, None, None)

    @property
    def recording(self) -> Recording:
        """What was measured so far, of the last training.

        Raises:
            UnstuckError: before a training has begun.
        """
        return self._begun().recording

    @property
    def warnings(self) -> list[str]:
        """What was not measured, and why."""
        return self._begun().warnings

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong with the last training: a `Diagnosis`.

        Args:
            options: `select` and `ignore`, prefixes of rule codes.

        Raises:
            UnstuckError: before a training has begun.
        """
        return self._begun().diagnose(**options)

    def _begun(self) -> Any:
        if self._recorder is None:
            raise UnstuckError("nothing was recorded: the trainer with this callback has not begun to train")
        return self._recorder
