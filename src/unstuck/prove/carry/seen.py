"""What one run showed of its training: enough to train the same in the engine. Small files, no pickle."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError

ARRAYS, FACTS = "seen.npz", "seen.json"


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one optimiser step was made with."""

    batch: int
    """Which of the batches that were kept."""
    lr: float
    clip_norm: float | None
    clip_value: float | None
    loss: float | None
    """Before the step, None where it was not finite."""


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything but the arrays."""

    why_not: str = ""
    """The first thing that the engine could not repeat; empty where there was none."""
    layers: list[tuple[str, str, dict[str, object]]] = msgspec.field(
        default_factory=list[tuple[str, str, dict[str, object]]]
    )
    """Name, type and arguments of every layer of the network, in order."""
    normalised: bool = False
    """Whether a batch normalisation was put in before its hidden activations."""
    frozen: tuple[str, ...] = ()
    optimizer: str = ""
    numbers: dict[str, object] = msgspec.field(default_factory=dict[str, object])
    """Of the optimiser, without its rate."""
    loss: str = ""
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One run, as the engine could repeat it."""

    facts: Facts
    state: dict[str, NDArray[np.floating]]
    """Weights and buffers before the first step."""
    inputs: tuple[NDArray[np.floating], ...]
    """Of each batch that differs from those before it."""
    targets: tuple[NDArray[np.generic], ...]

    @property
    def losses(self) -> NDArray[np.float64]:
        """Of every step, NaN where it was not finite."""
        return np.array([np.nan if step.loss is None else step.loss for step in self.facts.steps])

    @property
    def size(self) -> int:
        """Bytes of its arrays."""
        return sum(one.nbytes for one in (*self.state.values(), *self.inputs, *self.targets))

    def same_arrays(self, other: "Seen") -> bool:
        """Whether another run began with the same weights and the same samples, in the same order."""
        if [step.batch for step in self.facts.steps] != [step.batch for step in other.facts.steps]:
            return False
        mine = [*self.state.values(), *self.inputs, *self.targets]
        others = [*other.state.values(), *other.inputs, *other.targets]
        return len(mine) == len(others) and all(map(np.array_equal, mine, others))

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[np.generic]] = {f"state/{name}": one for name, one in self.state.items()}
        arrays |= {f"inputs/{number}": one for number, one in enumerate(self.inputs)}
        arrays |= {f"targets/{number}": one for number, one in enumerate(self.targets)}
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".unstuck-")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]  (its stub takes the names for options)
        Path(temporary).replace(folder / ARRAYS)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".unstuck-")
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(self.facts))
        Path(temporary).replace(folder / FACTS)

    @classmethod
    def load(cls, folder: Path) -> "Seen":
        """Read it back.

        Raises:
            UnstuckError: there is none, or it cannot be read.
        """
        try:
            facts = msgspec.json.decode((folder / FACTS).read_bytes(), type=Facts)
            with np.load(folder / ARRAYS, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise UnstuckError(f"{folder}: nothing was kept of this run ({error})") from None
        count = sum(name.startswith("inputs/") for name in arrays)
        return cls(
            facts,
            {name.removeprefix("state/"): one for name, one in arrays.items() if name.startswith("state/")},
            tuple(arrays[f"inputs/{number}"] for number in range(count)),
            tuple(arrays[f"targets/{number}"] for number in range(count)),
        )
