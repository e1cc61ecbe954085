"""The arrays of a training as plain text, for programs in any language that measure nothing themselves.

The first line is `unstuck-arrays 1`. What follows is told in docs/recording.md; every array is
`NAME DIMENSIONS SIZES... NUMBERS...`, numbers in row-major order.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import RecordingError, UnstuckError
from unstuck.trace.meta import Meta
from unstuck.trace.recording import Recording
from unstuck.trace.structure import INPUT, Node, Structure

FIRST = "unstuck-arrays 1"
HEADS = ("name", "loss", "optimizer", "task", "classes")
OF_STEP = ("inputs", "targets", "outputs")
KINDS = ("param", "grad", "activation")


@dataclass
class _Operation:
    name: str
    type: str
    inputs: tuple[str, ...]


@dataclass
class _Step:
    arrays: dict[str, dict[str, NDArray[Any]]] = field(
        default_factory=lambda: {kind: dict[str, NDArray[Any]]() for kind in KINDS}
    )
    single: dict[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    numbers: dict[str, float] = field(default_factory=dict[str, float])


def is_log(path: Path) -> bool:
    """Whether a file begins as such a log does."""
    try:
        with path.open("rb") as file:
            return file.read(len(FIRST)).decode("utf-8", "replace") == FIRST
    except OSError:
        return False


def read_log(path: Path) -> Recording:
    """Read a log of arrays and measure its steps as `Recording.step` does.

    Args:
        path: of the file.

    Raises:
        RecordingError: naming the file, the line, what was found and what was expected.
    """
    reader = _Reader(path)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                reader.line(number, line.split())
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read ({error})") from None
    except UnicodeDecodeError:
        raise RecordingError(f"{path}: not UTF-8 text; expected a log that begins with {FIRST!r}") from None
    return reader.finish()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._heads: dict[str, str] = {}
        self._operations: list[_Operation] = []
        self._step: _Step | None = None
        self._recording: Recording | None = None
        self._ended = False
        self._number = 0

    def _fail(self, text: str) -> RecordingError:
        return RecordingError(f"{self._path}, line {self._number}: {text}")

    def line(self, number: int, words: list[str]) -> None:
        """Take one line."""
        self._number = number
        if number == 1:
            if words != FIRST.split():
                raise self._fail(f"found {' '.join(words)[:60]!r}, expected {FIRST!r}")
            return
        if not words or words[0].startswith("#"):
            return
        known = self._lines()
        if words[0] not in known:
            raise self._fail(f"found {words[0][:60]!r}, expected one of {', '.join(known)}")
        known[words[0]](words)

    def _lines(self) -> dict[str, Callable[[list[str]], None]]:
        return {
            **dict.fromkeys(HEADS, self._head),
            "op": self._op,
            "step": self._begin,
            "loss": self._scalar,
            "lr": self._scalar,
            **dict.fromkeys(KINDS, self._named),
            **dict.fromkeys(OF_STEP, self._single),
            "end": self._end,
        }

    def _head(self, words: list[str]) -> None:
        if self._step is None and len(words) > 1:
            self._heads[words[0]] = " ".join(words[1:])
        elif words[0] == "loss" and self._step is not None:
            self._scalar(words)
        else:
            raise self._fail(f"{words[0]}: expected its value, before the first step")

    def _op(self, words: list[str]) -> None:
        if self._step is not None or len(words) < 3:
            raise self._fail("op: expected `op NAME TYPE INPUTS...` before the first step")
        before = self._operations[-1].name if self._operations else INPUT
        self._operations.append(_Operation(words[1], words[2], tuple(words[3:]) or (before,)))

    def _begin(self, words: list[str]) -> None:
        del words
        self._flush()
        self._step = _Step()

    def _current(self, what: str) -> _Step:
        if self._step is None:
            raise self._fail(f"{what}: expected a line `step` before it")
        return self._step

    def _scalar(self, words: list[str]) -> None:
        if words[0] == "loss" and self._step is None:
            self._head(words)
            return
        step = self._current(words[0])
        if len(words) != 2:
            raise self._fail(f"{words[0]}: found {len(words) - 1} values, expected one number")
        step.numbers[words[0]] = self._float(words[1])

    def _float(self, text: str) -> float:
        try:
            return float(text.replace("_", "?"))
        except ValueError:
            raise self._fail(f"found {text[:40]!r}, expected a number") from None

    def _array(self, words: list[str]) -> NDArray[Any]:
        try:
            count = int(words[0])
            shape = tuple(int(word) for word in words[1 : 1 + count])
        except (ValueError, IndexError):
            count, shape = -1, ()
        if count < 0 or len(shape) != count or any(size < 0 for size in shape):
            raise self._fail(f"found {' '.join(words)[:40]!r}, expected `DIMENSIONS SIZES... NUMBERS...`")
        numbers, size = words[1 + count :], math.prod(shape)
        if len(numbers) != size:
            raise self._fail(f"found {len(numbers)} numbers, expected {size} for the shape {shape}")
        return np.array([self._float(number) for number in numbers]).reshape(shape)

    def _named(self, words: list[str]) -> None:
        if len(words) < 3:
            raise self._fail(f"{words[0]}: expected `{words[0]} NAME DIMENSIONS SIZES... NUMBERS...`")
        step = self._current(words[0])
        if words[1] in step.arrays[words[0]]:
            raise self._fail(f"{words[0]} {words[1]}: is there twice in one step")
        step.arrays[words[0]][words[1]] = self._array(words[2:])

    def _single(self, words: list[str]) -> None:
        array = self._array(words[1:])
        if words[0] == "targets" and array.ndim == 1 and self._heads.get("task") == "classification":
            array = array.astype(np.int64)
        self._current(words[0]).single[words[0]] = array

    def _end(self, words: list[str]) -> None:
        del words
        self._flush()
        self._step, self._ended = _Step(), True

    def _flush(self) -> None:
        step = self._step
        if step is None:
            return
        if self._recording is None:
            self._recording = self._opened(step)
        try:
            self._recording.step(
                loss=step.numbers.get("loss"),
                lr=step.numbers.get("lr"),
                params=step.arrays["param"] or None,
                grads=step.arrays["grad"] or None,
                activations=step.arrays["activation"] or None,
                inputs=step.single.get("inputs"),
                targets=step.single.get("targets"),
                outputs=step.single.get("outputs"),
            )
        except UnstuckError as error:
            raise RecordingError(f"{self._path}, before line {self._number}: {error}") from None

    def _opened(self, first: _Step) -> Recording:
        task = self._heads.get("task")
        if task not in {None, "classification", "regression"}:
            raise self._fail(f"task: found {task!r}, expected classification or regression")
        classes = self._heads.get("classes")
        if classes is not None and not classes.isdigit():
            raise self._fail(f"classes: found {classes!r}, expected a whole number")
        meta = Meta(
            kind="arrays",
            name=self._heads.get("name", self._path.name),
            loss=self._heads.get("loss"),
            optimizer=self._heads.get("optimizer"),
            task="classification" if task == "classification" else "regression" if task else None,
            n_classes=int(classes) if classes else None,
        )
        return Recording(structure=self._structure(first) if self._operations else None, meta=meta)

    def _structure(self, first: _Step) -> Structure:
        params, outputs = first.arrays["param"], first.arrays["activation"]
        nodes: list[Node] = []
        for operation in self._operations:
            own = dict(self._own(operation.name, params))
            shape = outputs[operation.name].shape[1:] if operation.name in outputs else ()
            nodes.append(Node(operation.name, operation.type, operation.inputs, shape, own))
        inputs = first.single.get("inputs")
        shape = () if inputs is None else inputs.shape[1:]
        return Structure(nodes=tuple(nodes), loss=self._heads.get("loss"), input_shape=shape)

    @staticmethod
    def _own(layer: str, params: dict[str, NDArray[Any]]) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, array in params.items():
            before, _, short = name.rpartition(".")
            if before == layer:
                yield short, array.shape

    def finish(self) -> Recording:
        """The recording; without a line `end` it is that of a program that was cut off."""
        if not self._ended:
            self._flush()
        if self._recording is None:
            raise RecordingError(f"{self._path}: found no step, expected at least one line `step`")
        if self._ended:
            last = self._step.arrays["param"] if self._step is not None else {}
            try:
                self._recording.close(last or None)
            except UnstuckError as error:
                raise RecordingError(f"{self._path}: after end: {error}") from None
        return self._recording
