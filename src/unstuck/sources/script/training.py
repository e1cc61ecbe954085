"""One training of a program that is watched: how it is to be recorded, and what comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from unstuck import wiring
from unstuck.sources.script.locations import Place
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Location, Node

FIRST_LOOK = 16
"""Update after which `stop_on_error` looks for the first time; then after a quarter more, each time."""


class StopTraining(BaseException):
    """Ends a program that was asked to stop; no `except Exception` of a training loop keeps it."""


class Recorder(Protocol):
    """What attaching to models gives back: the part of `unstuck.record` that is needed here."""

    @property
    def recording(self) -> Recording:
        """What was measured so far."""
        ...

    @property
    def steps(self) -> int:
        """Updates so far; with several optimisers, rounds of them."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What was not measured, and why."""
        ...

    @property
    def refused(self) -> bool:
        """Whether the training ended because its loss raised on its labels; known once closed."""
        ...

    def watch_optimizer(self, optimizer: Any) -> None:
        """One more optimiser for the same models."""
        ...

    def close(self) -> None:
        """Detach and finish the recording."""
        ...


@dataclass(frozen=True)
class WatchOptions:
    """How to watch."""

    name: str = ""
    """Of the subject: the script."""
    steps: int | None = None
    """Stop once a training has made so many updates."""
    stop_on_error: bool = False
    """Stop when the same error is found by two looks, one after another."""
    goal: str | None = None
    probe: bool = False
    folder: Path | None = None
    """Where the recording is stored; that of the program's second training in its subfolder 2."""
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    bounds: Any = None
    """Of the rules; None: those that ship with the package."""


@dataclass
class Run:
    """One training: models and optimisers that are recorded together."""

    models: list[Any]
    optimizers: list[Any]
    recorder: Recorder
    optimizer_place: Place | None
    number: int
    joined: int = 0
    """So often models joined it after it had begun."""
    seen: int = 0
    """Steps of its optimisers."""
    next_look: int = FIRST_LOOK
    errors: frozenset[tuple[str, str | None]] = field(default_factory=frozenset[tuple[str, str | None]])

    def hopeless(self, options: WatchOptions) -> bool:
        """Whether two looks, one after another, found the same error; looks when it is time to."""
        steps = self.recorder.steps
        if steps < self.next_look:
            return False
        self.next_look = steps + max(FIRST_LOOK, steps // 4)
        found = wiring.call(
            "diagnose",
            self.recorder.recording,
            select=options.select,
            ignore=options.ignore,
            bounds=options.bounds,
        )
        errors = frozenset((one.code, one.layer) for one in found.findings if one.severity == "error")
        again, self.errors = errors & self.errors, errors
        return bool(again)

    def finish(self, locations: Mapping[int, Location]) -> Recording:
        """End the recording, every operation with its place in the user's code as far as it is known."""
        self.recorder.close()
        recording = self.recorder.recording
        if recording.meta.kind != "keras":  # whose recorder knows the places
            _complete(recording, self.models, locations)
        return recording


@dataclass(frozen=True)
class Watched:
    """What one training left: its recording, and where its optimiser was made."""

    recording: Recording
    optimizer: Location | None = None
    number: int = 1
    """Its place among the program's trainings."""


Attach = Callable[[Sequence[Any], Sequence[Any], WatchOptions, Mapping[int, Location]], Recorder]


def attach_recorder(
    models: Sequence[Any], optimizers: Sequence[Any], options: WatchOptions, locations: Mapping[int, Location]
) -> Recorder:
    """Record models and their optimisers by `unstuck.record`; a Keras model has one of its own."""
    from unstuck.sources.record import is_keras, record

    alone = len(models) == 1 and is_keras(models[0])
    recorder = record(
        models[0] if alone else models,
        optimizers[0] if alone else optimizers,
        probe=options.probe,
        folder=options.folder,
        goal=options.goal,
        locations=locations,
    )
    return recorder.__enter__()


def _complete(recording: Recording, models: Sequence[Any], locations: Mapping[int, Location]) -> None:
    """Give operations that have no place yet one: their layer's, else that of what feeds them."""
    made: dict[str, Location | None] = {}
    for model in models:
        for path, module in model.named_modules():
            for parts in ((path,), (type(model).__name__, path)):
                made.setdefault(".".join(filter(None, parts)), locations.get(id(module)))
    nodes: list[Node] = []
    for node in recording.structure.nodes:
        fed = next((place for name in node.inputs if (place := made.get(name)) is not None), None)
        place = made[node.name] = node.location or made.get(node.name) or fed
        nodes.append(msgspec.structs.replace(node, location=place))
    recording.structure = msgspec.structs.replace(recording.structure, nodes=tuple(nodes))
