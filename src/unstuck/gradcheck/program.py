"""Checks a program of any language: it is asked over its input and answers on its output, in plain text."""

import queue
import shlex
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import IO, Any, Self

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck.check import check_gradients
from unstuck.gradcheck.report import Report
from unstuck.gradcheck.tree import Array

VERSION = 1


def header_text() -> str:
    """The C++ header that speaks the protocol."""
    return (resources.files("unstuck.gradcheck") / "cpp" / "unstuck_check.hpp").read_text(encoding="utf-8")


def check_program(command: str, *, timeout: float = 30.0, seed: int = 0) -> Report:
    """Check the gradients of a program that speaks the protocol of docs/check-protocol.md.

    Args:
        command: the program and its arguments, as in a shell; no shell is started.
        timeout: seconds that it may take for an answer.
        seed: of what the check draws.

    Raises:
        UnstuckError: it cannot be started, ends, is silent, or answers with what is no answer.
    """
    with Program(command, timeout) as program:
        tensors = program.tensors()
        x = tensors.pop("x", None)
        if x is None:
            raise UnstuckError(
                f"{command}: found tensors {_names(tensors)}, expected one that is called x, the input"
            )

        def forward(params: Mapping[str, Array], x: Array) -> tuple[Array, dict[str, Array]]:
            y = program.forward({**params, "x": x})
            return y, {**params, "x": x}

        def backward(
            params: Mapping[str, Array], cache: Mapping[str, Array], dy: Array
        ) -> tuple[Array | None, dict[str, Array]]:
            del params
            # the program keeps what its last forward pass left: that pass is made again before this one
            program.forward(cache)
            found = program.backward(dy)
            return found.pop("x", None), found

        return check_gradients(forward, backward, tensors, x, seed=seed, name=command)


def _names(tensors: Mapping[str, Any]) -> str:
    return ", ".join(tensors) or "none"


@dataclass(frozen=True)
class _Line:
    words: list[str]
    text: str


class Program:
    """A running program; it is ended when the context is left."""

    def __init__(self, command: str, timeout: float) -> None:
        self._command, self._timeout = command, timeout
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._told: dict[str, Array] = {}

    def __enter__(self) -> Self:
        try:
            arguments = shlex.split(self._command)
        except ValueError as error:
            raise UnstuckError(f"--command {self._command!r}: {error}") from None
        if not arguments:
            raise UnstuckError("--command: expected a program, found nothing")
        try:
            self._process = subprocess.Popen(  # noqa: S603  (to run it is what was asked for)
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                bufsize=1 << 16,
            )
        except OSError as error:
            raise UnstuckError(f"{self._command}: cannot be started: {error.strerror or error}") from None
        if self._process.stdout is not None:
            self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(timeout=1.0)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(timeout=5.0)
        if process.stdout is not None and (self._reader is None or not self._reader.is_alive()):
            process.stdout.close()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def tensors(self) -> dict[str, Array]:
        """The program's tensors as they are: its parameters and its input x."""
        self._send("tensors\n")
        found = self._answer("tensors")
        self._told = {}
        return found

    def forward(self, values: Mapping[str, Array]) -> Array:
        """The output for these tensors; those that did not change since are not sent again."""
        parts: list[str] = []
        for name, value in values.items():
            old = self._told.get(name)
            if old is not None and np.array_equal(old, value):
                continue
            parts.append(_tensor(name, value))
            self._told[name] = np.array(value)
        self._send("".join(f"set {part}" for part in parts) + "forward\n")
        found = self._answer("forward")
        if set(found) != {"y"}:
            raise UnstuckError(f"{self._command}: forward: found {_names(found)}, expected one tensor, y")
        return found["y"]

    def backward(self, dy: Array) -> dict[str, Array]:
        """The gradients by all tensors, by their names."""
        self._send(f"backward {_tensor('dy', dy)}")
        return self._answer("backward")

    def _send(self, text: str) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise UnstuckError(f"{self._command}: is not running")
        try:
            process.stdin.write(text)
            process.stdin.flush()
        except (OSError, ValueError):
            raise UnstuckError(f"{self._command}: {self._ended()}") from None

    def _answer(self, question: str) -> dict[str, Array]:
        """Lines up to `ok`: one tensor each."""
        found: dict[str, Array] = {}
        while True:
            line = self._line(question)
            words = line.split()
            if words == ["ok"]:
                return found
            if words[:1] == ["error"]:
                raise UnstuckError(f"{self._command}: {question}: it says: {line.strip()[6:].strip()}")
            name, value = self._parsed(question, line, words)
            found[name] = value

    def _line(self, question: str) -> str:
        while True:
            try:
                line = self._lines.get(timeout=self._timeout)
            except queue.Empty:
                raise UnstuckError(
                    f"{self._command}: no answer to `{question}` within {self._timeout:g} seconds (--timeout)"
                ) from None
            if line is None:
                raise UnstuckError(f"{self._command}: {question}: {self._ended()}")
            if line.strip():
                return line

    def _ended(self) -> str:
        process = self._process
        try:
            code = process.wait(timeout=2.0) if process is not None else None
        except subprocess.TimeoutExpired:
            code = None
        if code is None:
            return "it closed its output before it answered"
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        return f"it {how} before it answered"

    def _parsed(self, question: str, line: str, words: list[str]) -> tuple[str, Array]:
        shown = line.strip()[:80]
        expected = "expected `tensor NAME DIMENSIONS SIZES... NUMBERS...`, `ok` or `error TEXT`"
        if len(words) < 3 or words[0] != "tensor":
            raise UnstuckError(f"{self._command}: {question}: found {shown!r}, {expected}")
        name = words[1]
        try:
            count = int(words[2])
            shape = tuple(int(word) for word in words[3 : 3 + count])
        except ValueError:
            count, shape = -1, ()
        if count < 0 or len(shape) != count or any(size < 0 for size in shape):
            raise UnstuckError(f"{self._command}: {question}: tensor {name}: found {shown!r}, {expected}")
        numbers = words[3 + count :]
        size = int(np.prod(shape, dtype=np.int64)) if shape else 1
        if len(numbers) != size:
            raise UnstuckError(
                f"{self._command}: {question}: tensor {name}: found {len(numbers)} numbers, expected {size}"
                f" for the shape {shape}"
            )
        try:
            values = np.array([float(number) for number in numbers])
        except ValueError:
            bad = next(number for number in numbers if not _is_number(number))
            raise UnstuckError(
                f"{self._command}: {question}: tensor {name}: found {bad[:40]!r}, expected a number"
            ) from None
        return name, values.reshape(shape)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tensor(name: str, value: Any) -> str:
    array = np.asarray(value, dtype=np.float64)
    sizes = " ".join(str(size) for size in array.shape)
    numbers = " ".join(repr(float(number)) for number in array.reshape(-1))
    return " ".join(part for part in ("tensor", name, str(array.ndim), sizes, numbers) if part) + "\n"
