"""A run of a stream on disk: the classifier, the test samples, and how far it came. Whole or not at all."""

import contextlib
import secrets
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from unstuck.errors import UnstuckError
from unstuck.grow.classifier import CNNClassifier
from unstuck.grow.files import MEMORY
from unstuck.grow.memory import Memory
from unstuck.grow.result import StreamResult

PROGRESS = "progress.json"


class Checkpoint(msgspec.Struct):
    """How far a stream was learned."""

    result: StreamResult
    samples: int = 0
    """Read so far, those set aside counted."""
    chunks: int = 0
    since: int = 0
    """Samples since the last stage ended."""
    before_right: int = 0
    before_count: int = 0
    seconds: float = 0.0


class _Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    identity: str
    budget: int
    seed: int
    network: str
    """File of the classifier."""
    tests: str
    """File of the samples that were set aside."""
    checkpoint: Checkpoint


class Store:
    """A folder with one checkpoint, the newest.

    The classifier is written under a new name first; then the file that tells what is newest is replaced;
    then what it told before is removed. A run that is killed between any two of these finds a whole
    checkpoint.

    Args:
        folder: made if it is not there.
        identity: what determines the numbers; a folder of another one is refused.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity

    def read(self) -> tuple[Checkpoint, Memory, CNNClassifier] | None:
        """The newest checkpoint; None where there is none.

        Raises:
            UnstuckError: results of another plan, or files that cannot be read.
        """
        place = self.folder / PROGRESS
        try:
            progress = msgspec.json.decode(place.read_bytes(), type=_Progress)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise UnstuckError(f"{place}: cannot be read: {error}") from None
        if progress.identity != self.identity:
            raise UnstuckError(
                f"{self.folder}: holds results of another stream or other options; give another --out, "
                "or remove it"
            )
        tests = Memory(progress.budget, progress.seed)
        try:
            with np.load(self.folder / progress.tests, allow_pickle=False) as stored:
                for name in MEMORY:
                    setattr(tests, name, stored[name])
                tests.samples = stored.get("samples")
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise UnstuckError(f"{self.folder / progress.tests}: cannot be read: {error}") from None
        self._clean({progress.network, progress.tests})
        return progress.checkpoint, tests, CNNClassifier.load(self.folder / progress.network)

    def write(self, checkpoint: Checkpoint, tests: Memory, clf: CNNClassifier) -> None:
        """Make this the newest checkpoint.

        Raises:
            UnstuckError: the folder cannot be written to.
        """
        mark = secrets.token_hex(4)
        network, samples = f"network-{mark}.safetensors", f"tests-{mark}.npz"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            clf.save(self.folder / network)
            arrays: dict[str, Any] = {name: getattr(tests, name) for name in MEMORY}
            if tests.samples is not None:
                arrays["samples"] = tests.samples
            np.savez(self.folder / samples, **arrays)
            progress = _Progress(self.identity, tests.budget, tests.seed, network, samples, checkpoint)
            temporary = self.folder / f".{PROGRESS}.{mark}"
            temporary.write_bytes(msgspec.json.encode(progress))
            temporary.replace(self.folder / PROGRESS)
        except OSError as error:
            raise UnstuckError(f"{self.folder}: cannot be written: {error.strerror or error}") from None
        self._clean({network, samples})

    def _clean(self, kept: set[str]) -> None:
        """Remove what no checkpoint tells of."""
        for old in [
            one for form in ("network-*", "tests-*", ".*.????????") for one in self.folder.glob(form)
        ]:
            if old.name not in kept:
                with contextlib.suppress(OSError):
                    old.unlink()
