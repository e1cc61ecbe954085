"""One run of a script: what it is told, and what it leaves. Both are small JSON files."""

import os
import tempfile
from pathlib import Path

import msgspec

from unstuck.prove.torch.plan import Plan


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the process of one run is told."""

    script: str
    """As the user wrote it, or its place in the working copy."""
    args: tuple[str, ...] = ()
    module: bool = False
    treatment: str | None = None
    seed: int | None = None
    """None: the script's own seeds are left alone."""
    steps: int | None = None
    training: int | None = None
    """Which of the script's trainings is judged, by its number; None: the longest."""
    alone: bool = False
    """Whether the script has one training only: then a run whose weights are NaN may be ended."""
    goal: str | None = None
    probe: bool = False
    recording: str | None = None
    """Folder in which the recordings are kept."""
    witness: str | None = None
    """Folder in which all that the engine needs to repeat the run is kept."""
    plan: Plan = Plan()
    """What the watched run showed of the network."""
    inside: tuple[str, ...] = ()
    """Folders that the script may write to."""
    name: str = ""


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training of a recorded run: where its recording lies, and where its optimiser was made."""

    number: int
    folder: str
    file: str = ""
    line: int = 0


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one run left."""

    treatment: str | None = None
    seed: int | None = None
    ending: str = "finished"
    """finished, stopped (by --steps, or as lost), exited, interrupted, raised, or killed (no answer)."""
    error: str = ""
    """What it raised, in a line."""
    steps: int = 0
    seconds: float = 0.0
    lost: bool = False
    """Whether it was ended because its weights were NaN or infinite."""
    loss: float | None = None
    """Mean over the last tenth of the batches; None where it is not finite or there is none."""
    start: float | None = None
    """Of the first batch."""
    accuracy: float | None = None
    balanced: float | None = None
    """Mean over the classes of the share of right answers."""
    squared_error: float | None = None
    constant: float | None = None
    """Loss of the best constant prediction."""
    fingerprint: str = ""
    """Of all its losses: two runs with the same one did the same."""
    applied: int = 0
    places: tuple[str, ...] = ()
    refusal: str = ""
    """Why the treatment could not be carried out."""
    wrote: str = ""
    """A file outside its working copy that it wanted to write."""
    plan: Plan = Plan()
    """What its recording shows of the network."""
    facts: dict[str, float | str | None] = msgspec.field(default_factory=dict[str, float | str | None])
    """What its recording shows of the treatment."""
    trainings: tuple[Training, ...] = ()
    unseen: str = ""
    """Why no training was recorded."""
    notes: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    """Installed modules that it imported, in their order: a process that has them already saves the time."""
    torch: bool = False
    """Whether it used PyTorch."""

    @property
    def crashed(self) -> bool:
        """Whether it came to no regular end."""
        return self.ending not in {"finished", "stopped"} and not (self.ending == "exited" and not self.error)


def write(path: Path, value: msgspec.Struct) -> None:
    """Write a file under a temporary name until it is whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".unstuck-")
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=1))
    Path(temporary).replace(path)


def read_row(path: Path) -> Row | None:
    """A finished run, or None where there is none that can be read: it is then made again."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Row)
    except (OSError, msgspec.DecodeError):
        return None
