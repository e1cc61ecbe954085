"""The recorder of a training in PyTorch: from its start to its end, with what was measured."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from unstuck.sources.torch.guard import Guard
from unstuck.sources.torch.modules import compiled
from unstuck.sources.torch.params import models_by_name
from unstuck.sources.torch.patches import install
from unstuck.sources.torch.probing import Probing
from unstuck.sources.torch.rounds import inner
from unstuck.sources.torch.watching import Watching
from unstuck.sources.torch.writer import Writer
from unstuck.trace.meta import Meta
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Location

FLUSH_SECONDS = 10.0


class Recorder:
    """A training that is being watched. Made by `record`."""

    def __init__(
        self,
        model: Any,
        optimizers: Sequence[Any],
        *,
        every: int | None = None,
        probe: bool = False,
        folder: str | os.PathLike[str] | None = None,
        goal: str | None = None,
        locations: Mapping[int, Location] | None = None,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        """Prepare; see `record`."""
        self.models = models_by_name(model)
        self.every = every
        self._guard = Guard(self._give_up)
        name = next(iter(self.models.values()))
        self._recording = Recording(meta=Meta(kind="torch", name=type(name).__name__, goal=goal))
        self._writer = Writer(folder, self._recording, flush_seconds) if folder is not None else None
        self._watching = Watching(
            self.models,
            optimizers,
            self._recording,
            self._guard,
            every=every,
            probing=Probing(self.models, self._recording, self.warnings) if probe else None,
            writer=self._writer,
            locations=locations or {},
        )
        self._remove: Callable[[], None] | None = None
        self._process = os.getpid()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Start watching."""
        if self._remove is None:
            self._remove = install(self._watching)
            self._guard.run("the start", self._begin)

    def _begin(self) -> None:
        self._watching.begin()
        self._note_unseen()

    def close(self) -> None:
        """Stop watching: all hooks go, and the recording is finished. A second call does nothing."""
        if self._remove is None:
            return
        self._remove()
        self._remove = None
        self._guard.run("the end", self._watching.end, sys.exception())
        if os.getpid() != self._process:
            return
        self._recording.meta.complete = True
        if self._writer is not None:
            self._guard.run("storing", self._writer.flush)

    @property
    def recording(self) -> Recording:
        """What was measured so far."""
        if self._watching.waiting:
            self._guard.run("what waits", self._watching.bring_waiting)
        return self._recording

    @property
    def warnings(self) -> list[str]:
        """What was not measured, and why: one sentence each."""
        return self._guard.notes

    @property
    def steps(self) -> int:
        """Updates seen so far."""
        return self._watching.number

    @property
    def backwards(self) -> int:
        """Backward passes since the last update."""
        return self._watching.backwards

    @property
    def refused(self) -> bool:
        """Whether the training ended because its loss raised on its labels."""
        return self._watching.ledger.refused

    def diagnose(self, **options: Any) -> Any:
        """Name what is wrong: a `Diagnosis`. Options: `select` and `ignore`, prefixes of rule codes."""
        return self.recording.diagnose(**options)

    def watch_optimizer(self, optimizer: Any) -> None:
        """An optimiser that was made later."""
        self._watching.rounds.add(inner(optimizer))

    def same_batches_are_meant(self) -> None:
        """The program was asked to train on the same batches: what its data loader does says nothing."""
        self._watching.loaders.meant = True

    def _give_up(self) -> None:
        self._watching.give_up()

    def _note_unseen(self) -> None:
        """What is known from the start to be out of sight."""
        for prefix, model in self.models.items():
            inside = [name for name, module in model.named_modules() if compiled(module)]
            if inside:
                where = prefix or inside[0] or type(model).__name__
                self._guard.note(
                    f"{where} is compiled: its inner operations are out of sight; weights, gradients, "
                    "updates and the loss were measured"
                )
        if self._watching.params.sharded():
            self._recording.meta.sharded = True
            self._guard.note("the parameters are sharded: the part that this process holds was measured")
        if any(one.tensor.is_meta for one in self._watching.params.held):
            self._guard.note("parameters on the device 'meta' have no numbers: they were not measured")
        if self._watching.weights.large:
            self._guard.note(
                "more than 100 million parameters: updates and drift were measured on a sample of them"
            )
