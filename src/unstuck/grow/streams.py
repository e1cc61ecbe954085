"""Where samples come from: arrays in a file, a folder a class, or lines of text; read piece by piece."""

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from unstuck.errors import DataError, UnstuckError
from unstuck.grow.labels import checked
from unstuck.grow.protocols import NAMES

Chunk = tuple[NDArray[Any], NDArray[Any]]
Read = Callable[[int, int], Iterator[Chunk]]
"""From (samples to skip, samples in a chunk) to the chunks (X, y) behind; the last may be smaller."""

LINES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


def source(stream: str, text: IO[str] | None = None) -> Read:
    """How the samples of a stream are read.

    Args:
        stream: an .npz file with arrays X and y, in the order of the stream; a folder with a folder of
            images, or an .npy file, for each class, which come one class after the other; a .csv, .tsv,
            .txt, .jsonl or .ndjson file of lines; or "-" for lines of text.
        text: where lines come from with "-".

    Raises:
        UnstuckError: none of these.
    """
    if stream == "-":
        if text is None:
            raise UnstuckError("stream: '-' needs lines to read")
        return lambda skip, size: _lines(text, skip, size)
    path = Path(stream)
    if path.is_dir():
        return lambda skip, size: _folder(path, skip, size)
    if path.suffix == ".npz":
        return lambda skip, size: _npz(path, skip, size)
    if path.suffix in LINES:
        return lambda skip, size: _text_file(path, skip, size)
    raise UnstuckError(
        f"stream: found {stream!r}, expected a named stream ({', '.join(NAMES)}), an .npz file with X and y, "
        "a folder with a folder or an .npy file for each class, a .csv or .jsonl file, or -"
    )


# ---- .npz


def _npz(path: Path, skip: int, size: int) -> Iterator[Chunk]:
    """Rows of X and y, read from the archive piece by piece."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).stem for name in archive.namelist()}
            if not {"X", "y"} <= names:
                found = ", ".join(sorted(names)) or "none"
                raise DataError(f"{path}: found arrays {found}, expected X and y")
            with archive.open("X.npy") as inputs, archive.open("y.npy") as targets:
                yield from _rows(path, (_Array(inputs, path, "X"), _Array(targets, path, "y")), skip, size)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected an .npz file with arrays X and y") from None
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected an .npz file with X and y") from None


def _rows(path: Path, both: "tuple[_Array, _Array]", skip: int, size: int) -> Iterator[Chunk]:
    x, y = both
    if x.count != y.count or len(y.shape) != 0:
        raise DataError(
            f"{path}: found X with {x.count} rows and y of shape {(y.count, *y.shape)}, "
            "expected one label for each row of X"
        )
    x.skip(skip)
    y.skip(skip)
    while x.left:
        yield x.read(size), y.read(size)


class _Array:
    """An .npy file that is read from its beginning to its end, some rows at a time."""

    def __init__(self, file: IO[bytes], path: Path, name: str) -> None:
        self._file, self._path, self._name = file, path, name
        try:
            version = np.lib.format.read_magic(file)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = header(file)
        except ValueError as error:
            raise DataError(f"{path}: array {name} cannot be read: {error}") from None
        if dtype.hasobject or fortran or not shape:
            raise DataError(f"{path}: array {name} holds {dtype}, expected rows of numbers or text")
        self.dtype, self.count, self.shape = dtype, int(shape[0]), tuple(map(int, shape[1:]))
        self.left = self.count
        self._bytes = dtype.itemsize * int(np.prod(self.shape))

    def skip(self, rows: int) -> None:
        rows = min(rows, self.left)
        self.left -= rows
        left = rows * self._bytes
        while left:
            got = len(self._file.read(min(left, 2**22)))
            if got == 0:
                raise DataError(f"{self._path}: array {self._name} ends too early")
            left -= got

    def read(self, rows: int) -> NDArray[Any]:
        rows = min(rows, self.left)
        self.left -= rows
        data = bytearray()
        while len(data) < rows * self._bytes:
            piece = self._file.read(rows * self._bytes - len(data))
            if not piece:
                raise DataError(f"{self._path}: array {self._name} ends too early")
            data += piece
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape)


# ---- folders


def _folder(path: Path, skip: int, size: int) -> Iterator[Chunk]:
    """Samples of one class after the other, in the order of the names."""
    places = sorted(one for one in path.iterdir() if one.is_dir() or one.suffix == ".npy")
    if not places:
        raise DataError(f"{path}: found nothing, expected a folder of images or an .npy file for each class")
    pending = list[tuple[NDArray[Any], str]]()
    for place in places:
        for x in _class(place):
            if skip:
                skip -= 1
                continue
            pending.append((x, place.stem))
            if len(pending) == size:
                yield _packed(path, pending)
                pending = []
    if pending:
        yield _packed(path, pending)


def _class(place: Path) -> Iterator[NDArray[Any]]:
    if place.is_dir():
        for file in sorted(place.iterdir()):
            if file.suffix.lower() in IMAGES:
                yield _image(file)
            elif file.suffix == ".npy":
                yield _array(file)
        return
    yield from _array(place)


def _array(file: Path) -> NDArray[Any]:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def _image(file: Path) -> NDArray[np.uint8]:
    """(channels, height, width) bytes."""
    try:
        from PIL import Image
    except ImportError:
        raise UnstuckError(
            f"{file}: reading images needs Pillow, which is not installed: pip install pillow "
            "(or give .npy files)"
        ) from None
    try:
        with Image.open(file) as opened:
            pixels = np.asarray(opened if opened.mode in {"L", "RGB"} else opened.convert("RGB"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not an image that can be read: {error}") from None
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _packed(path: Path, pending: list[tuple[NDArray[Any], str]]) -> Chunk:
    shapes = {x.shape for x, _ in pending}
    if len(shapes) > 1:
        one, other = sorted(shapes)[:2]
        raise DataError(f"{path}: found samples of shapes {one} and {other}, expected one shape for all")
    return np.stack([x for x, _ in pending]), np.array([label for _, label in pending])


# ---- text


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    x: list[Any]
    y: str | int | float | bool


def _text_file(path: Path, skip: int, size: int) -> Iterator[Chunk]:
    try:
        with path.open(encoding="utf-8") as text:
            yield from _lines(text, skip, size)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _lines(text: IO[str], skip: int, size: int) -> Iterator[Chunk]:
    """One sample a line: `label number number ...`, or `{"x": [...], "y": label}`; `#` begins a remark.

    The first line may name the columns.
    """
    inputs, labels, first = list[NDArray[np.float32]](), list[Any](), True
    for number, raw in enumerate(text, 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if first and _names_columns(line):
            first = False
            continue
        first = False
        if skip:
            skip -= 1
            continue
        x, y = _json(line, number) if line.startswith("{") else _plain(line, number)
        if inputs and x.shape != inputs[0].shape:
            raise DataError(f"line {number}: found a sample of shape {x.shape}, expected {inputs[0].shape}")
        inputs.append(x)
        labels.append(y)
        if len(inputs) == size:
            yield np.stack(inputs), checked(labels)
            inputs, labels = [], []
    if inputs:
        yield np.stack(inputs), checked(labels)


def _names_columns(line: str) -> bool:
    """Whether a line of several words holds no number at all."""
    words = line.replace(",", " ").split()
    return not line.startswith("{") and len(words) > 1 and not any(map(_is_number, words))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _json(line: str, number: int) -> tuple[NDArray[np.float32], Any]:
    try:
        one = msgspec.json.decode(line, type=_Line)
        return np.asarray(one.x, dtype=np.float32), one.y
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise DataError(f'line {number}: expected {{"x": [numbers], "y": label}}, {error}') from None


def _plain(line: str, number: int) -> tuple[NDArray[np.float32], str]:
    label, *values = line.replace(",", " ").split()
    try:
        x = np.array(values, dtype=np.float32)
    except ValueError:
        raise DataError(f"line {number}: expected a label and numbers, found {line[:40]!r}") from None
    if not x.size:
        raise DataError(f"line {number}: found the label {label!r} alone, expected numbers behind it")
    return x, label
