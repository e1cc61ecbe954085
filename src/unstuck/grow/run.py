"""Learning a stream from a file or a pipe: in bounded memory, and the same after any interruption."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import UnstuckError
from unstuck.grow.classifier import CNNClassifier
from unstuck.grow.memory import Memory
from unstuck.grow.protocols import NAMES, protocol
from unstuck.grow.result import Stage, StreamResult
from unstuck.grow.settings import Settings
from unstuck.grow.store import Checkpoint, Store
from unstuck.grow.streams import Chunk, Read, source

TEST_EVERY = 10
"""Of so many samples one is set aside to test with, where the stream has no test set."""
TEST_MOST = 1000
"""Samples to test with, over all classes."""

Tell = Callable[[StreamResult, int], None]
"""Called after each chunk with what is known so far and the samples seen."""


class Plan(msgspec.Struct, frozen=True):
    """How a stream is learned. What determines the final network is all here."""

    settings: Settings
    chunk: int = 1000
    """Samples that are learned together: one call of `partial_fit`."""
    stage: int = 10_000
    """Samples between two tests."""
    checkpoint: int = 10
    """Chunks between two checkpoints; changes no number."""
    seed: int = 0

    def check(self) -> None:
        """Refuse what will not do.

        Raises:
            UnstuckError: names the argument.
        """
        self.settings.check()
        for name in ("chunk", "stage", "checkpoint"):
            if getattr(self, name) < 1:
                raise UnstuckError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.settings.strategy == "joint":
            raise UnstuckError("strategy 'joint' keeps every sample: not for a stream in bounded memory")


def run_stream(
    stream: str, plan: Plan, out: Path, tell: Tell | None = None, text: IO[str] | None = None
) -> StreamResult:
    """Learn a stream, or go on with it.

    Args:
        stream: a named stream, an .npz file, a folder, or "-" for lines of `text`.
        plan: how.
        out: results go to a folder in it, named after the stream. What is there is gone on with, if the plan
            is the same. A stream of lines must come from its start again; what was learned is skipped.
        tell: called after each chunk.
        text: lines, for "-".

    Returns:
        Accuracy after each stage, and what it cost.

    Raises:
        UnstuckError, DataError: a stream that cannot be read, or results of another plan.
    """
    plan.check()
    name = "stdin" if stream == "-" else Path(stream).stem
    store = Store(out / name, _identity(stream, plan))
    return _Run(stream, plan, store, tell).go(text)


def _identity(stream: str, plan: Plan) -> str:
    """What determines the numbers, as text."""
    told = msgspec.to_builtins(plan)
    del told["checkpoint"]
    form = msgspec.json.encode([stream if stream in NAMES or stream == "-" else Path(stream).name, told])
    return hashlib.sha256(form).hexdigest()[:16]


class _Run:
    """A run in progress."""

    def __init__(self, stream: str, plan: Plan, store: Store, tell: Tell | None) -> None:
        self.stream, self.plan, self.store, self.tell = stream, plan, store, tell
        one = plan.settings
        self.clf = CNNClassifier(
            None, one.memory, one.epochs, one.batch_size, one.learning_rate, plan.seed, strategy=one.strategy,
            growth=one.growth, masked=one.masked, bias_correction=one.bias_correction,
        )  # fmt: skip
        self.at = Checkpoint(result=StreamResult(stream, [], [], []))
        self.tests = Memory(TEST_MOST, plan.seed + 1)

    def go(self, text: IO[str] | None) -> StreamResult:
        found = self.store.read()
        if found is not None:
            self.at, self.tests, clf = found
            self.clf = clf or self.clf
            if self.at.result.finished:
                return self.at.result
        read, given = self._open(text)
        for x, y in read(self.at.samples, self.plan.chunk):
            self._chunk(x, y, given)
            if self.at.chunks % self.plan.checkpoint == 0:
                self.store.write(self.at, self.tests, self.clf)
            if self.tell is not None:
                self.tell(self.at.result, self.at.samples)
        if self.at.samples == 0:
            raise UnstuckError(f"stream: {self.stream} has no samples")
        if self.at.since:
            self._end_of_stage(given)
        self.at.result = msgspec.structs.replace(self.at.result, finished=True)
        self.store.write(self.at, self.tests, self.clf)
        return self.at.result

    def _open(self, text: IO[str] | None) -> tuple[Read, Chunk | None]:
        """How the stream is read, and its test set if it has one."""
        if self.stream not in NAMES:
            return source(self.stream, text), None
        split = protocol(self.stream, self.plan.seed)

        def stages(skip: int, _size: int) -> Iterator[Chunk]:
            for number in range(len(split.stages)):
                x, y = split.stage(number)
                if skip >= len(y):
                    skip -= len(y)
                    continue
                yield x, y

        return stages, (split.test_inputs, split.test_labels)

    def _chunk(self, x: NDArray[Any], y: NDArray[Any], given: Chunk | None) -> None:
        """Test on what is to be learned, set some aside, and learn the rest."""
        at, start = self.at, time.perf_counter()
        learned = np.ones(len(y), bool)
        if given is None:
            learned = (at.samples + np.arange(len(y))) % TEST_EVERY != TEST_EVERY - 1
        if self.clf.__sklearn_is_fitted__() and learned.any():
            at.before_right += int((self.clf.predict(x[learned]) == y[learned]).sum())
            at.before_count += int(learned.sum())
        if learned.any():
            self.clf.partial_fit(x[learned], y[learned])
        self._meet()
        if given is None and not learned.all():
            known = ~learned & np.isin(y, self.clf.classes_)
            self.tests.add(_compact(x[known]), self._numbers(y[known]))
        at.samples += len(y)
        at.chunks += 1
        at.since += len(y)
        at.seconds += time.perf_counter() - start
        if given is not None or at.since >= self.plan.stage:
            self._end_of_stage(given)

    def _meet(self) -> None:
        """Put classes that are new into the group of this stage."""
        result = self.at.result
        known = {name for group in result.groups for name in group}
        new = [name for name in self.clf.classes_.tolist() if name not in known]
        if not new:
            return
        groups, first, now = list(result.groups), list(result.first), len(result.stages)
        if first and first[-1] == now:
            groups[-1] = [*groups[-1], *new]
        else:
            groups.append(new)
            first.append(now)
        self.at.result = msgspec.structs.replace(result, groups=groups, first=first)

    def _numbers(self, y: NDArray[Any]) -> NDArray[np.int64]:
        """Classes by the order in which they came."""
        place = {name: i for i, name in enumerate(name for group in self.at.result.groups for name in group)}
        return np.array([place[name] for name in y.tolist()], dtype=np.int64)

    def _end_of_stage(self, given: Chunk | None) -> None:
        at, memory = self.at, self.clf.memory_
        if given is None:
            samples = self.tests.samples
            x = np.zeros((0, 1)) if samples is None else samples
            numbers = self.tests.units
        else:
            known = np.isin(given[1], self.clf.classes_)
            x, numbers = given[0][known], self._numbers(given[1][known])
        sizes = [len(group) for group in at.result.groups]
        group = np.repeat(np.arange(len(sizes)), sizes)[numbers]
        guesses = self._numbers(self.clf.predict(x)) if len(numbers) else numbers
        right = guesses == numbers
        stage = Stage(
            samples=at.samples,
            classes=sum(sizes),
            right=np.bincount(group, right, len(sizes)).astype(int).tolist(),
            tested=np.bincount(group, minlength=len(sizes)).tolist(),
            parameters=sum(value.size for value in self.clf.network_.parameters.values()),
            memory_samples=len(memory),
            memory_bytes=memory.bytes,
            seconds=at.seconds,
            before=at.before_right / at.before_count if at.before_count else None,
        )
        at.result = msgspec.structs.replace(at.result, stages=[*at.result.stages, stage])
        at.since = at.before_right = at.before_count = 0


def _compact(x: NDArray[Any]) -> NDArray[Any]:
    return x.astype(np.float32) if x.dtype == np.float64 else x
