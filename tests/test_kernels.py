"""The compiled kernels themselves: vectors, functions, random orders, and their manners as guests."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import naive
import twins
from unstuck import nn
from unstuck.nn import random
from unstuck.nn.kernels import biases, functions, jit, native, vectors
from unstuck.nn.kernels.shuffle import philox, shuffle
from unstuck.nn.kernels.softmax import highest
from unstuck.nn.kernels.vectors import lane_sum, lanes, load, store
from unstuck.nn.network import as_samples
from unstuck.nn.program import Writer
from unstuck.nn.runner import Runner

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def mapped(function):
    """A compiled function that applies a vector function to a whole array, W numbers at a time."""

    @numba.njit(boundscheck=False, error_model="numpy")
    def run(source, target, width):
        for i in range(0, source.size, width):
            store(target, i, function(load(source, i)))

    def apply(values):
        width = lanes(values.itemsize)
        source = np.zeros(-(-values.size // width) * width, values.dtype)
        source[: values.size] = values
        target = np.empty_like(source)
        run(source, target, width)
        return target[: values.size]

    return apply


@numba.njit
def _exp(x):
    return functions.exp(x)


@numba.njit
def _tanh(x):
    return functions.tanh(x)


@numba.njit
def _normal_below(x):
    return functions.normal_below(x)


@numba.njit
def _sigmoid(x):
    return functions.sigmoid(x)


@numba.njit
def _log(x):
    return functions.log(x)


@numba.njit
def _reciprocal(x):
    return functions.reciprocal(x)


exp, sigmoid, tanh = (mapped(function) for function in (_exp, _sigmoid, _tanh))
log, reciprocal = mapped(_log), mapped(_reciprocal)
expm1, log1p_exp = mapped(functions.expm1), mapped(functions.log1p_exp)
normal_below = mapped(_normal_below)
ULP = {np.float32: 2.0**-23, np.float64: 2.0**-52}
LIMIT = {np.float32: 87.0, np.float64: 708.0}


def grid(dtype, size):
    """Numbers of all sizes up to a limit, both signs, dense around 0 and evenly spread."""
    small = np.logspace(np.log10(np.finfo(dtype).tiny), np.log10(size), 4001)
    even = np.linspace(0, size, 20001)
    return np.unique(np.concatenate([-small, -even, even, small]).astype(dtype))


@BOTH
def test_exp_is_right_to_the_last_bits(dtype):
    x = grid(dtype, LIMIT[dtype])
    exact = np.exp(x.astype(np.longdouble))
    assert np.max(np.abs(exp(x) - exact) / exact) < 2 * ULP[dtype]


@BOTH
def test_sigmoid_is_right_to_the_last_bits(dtype):
    x = grid(dtype, LIMIT[dtype] - 1)
    exact = 1 / (1 + np.exp(-x.astype(np.longdouble)))
    assert np.max(np.abs(sigmoid(x) - exact) / exact) < 3 * ULP[dtype]


@BOTH
def test_reciprocal_is_right_to_the_last_bits(dtype):
    largest = np.finfo(dtype).max / 8
    x = np.geomspace(1e-30, largest, 40001).astype(dtype)
    x = np.concatenate([x, np.linspace(1, 2, 40001).astype(dtype)])
    exact = 1 / x.astype(np.longdouble)
    assert np.max(np.abs(reciprocal(x) - exact) / exact) < 1.5 * ULP[dtype]


@BOTH
def test_log_is_right_to_the_last_bits(dtype):
    x = np.geomspace(np.finfo(dtype).tiny, np.finfo(dtype).max, 40001, dtype=np.longdouble).astype(dtype)
    x = np.concatenate([x, np.linspace(0.5, 2, 40001).astype(dtype)])
    exact = np.log(x.astype(np.longdouble))
    away = exact != 0
    assert np.max(np.abs(log(x) - exact)[away] / np.abs(exact[away])) < 3 * ULP[dtype]
    assert log(np.ones(1, dtype))[0] == 0


@BOTH
def test_tanh_is_right_to_the_last_bits(dtype):
    x = grid(dtype, LIMIT[dtype])
    exact = np.tanh(x.astype(np.longdouble))
    error = np.abs(tanh(x) - exact)
    away = np.abs(x) > 0
    assert np.max(error[away] / np.abs(exact[away])) < 3 * ULP[dtype]
    assert tanh(np.zeros(1, dtype))[0] == 0


@BOTH
def test_expm1_is_right_to_the_last_bits(dtype):
    x = grid(dtype, LIMIT[dtype])
    x = x[x < 0]
    exact = np.expm1(x.astype(np.longdouble))
    assert np.max(np.abs(expm1(x) - exact) / -exact) < 5 * ULP[dtype]


@BOTH
def test_log1p_exp_is_right_to_the_last_bits(dtype):
    x = grid(dtype, LIMIT[dtype])
    exact = np.logaddexp(0, x.astype(np.longdouble))
    assert np.max(np.abs(log1p_exp(x) - exact) / exact) < 5 * ULP[dtype]


@BOTH
def test_normal_below_is_right_to_the_last_bits(dtype):
    x = grid(dtype, 13.0 if dtype is np.float32 else 37.5)
    wide = np.abs(x.astype(np.longdouble))
    tail = scipy.special.erfcx((wide / np.sqrt(2)).astype(float)) / 2 * np.exp(-wide * wide / 2)
    exact = np.where(x < 0, tail, 1 - tail)
    assert np.max(np.abs(normal_below(x) - exact) / exact) < 8 * ULP[dtype]


@BOTH
def test_functions_keep_their_range_and_order(dtype):
    x = grid(dtype, LIMIT[dtype])
    for function, low, high in (
        (exp, 0.0, np.inf),
        (sigmoid, 0.0, 1.0),
        (tanh, -1.0, 1.0),
        (log1p_exp, 0.0, np.inf),
        (normal_below, 0.0, 1.0),
    ):
        y = function(x)
        assert y.min() >= low
        assert y.max() <= high
        scale = np.maximum(np.abs(y[1:]), np.abs(y[:-1]))
        assert (np.diff(y) >= -4 * ULP[dtype] * scale).all()
    np.testing.assert_array_equal(tanh(-x), -tanh(x))


@BOTH
def test_functions_far_out(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([np.inf, -np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).min, 0.0, tiny, -tiny], dtype)
    limit = LIMIT[dtype]
    expected = np.exp(np.array([limit, -limit, np.nan, limit, -limit, 0, 0, 0]))
    np.testing.assert_allclose(exp(x), expected, rtol=1e-5)
    np.testing.assert_allclose(
        sigmoid(x), [1, 0, np.nan, 1, 0, 0.5, 0.5, 0.5], rtol=1e-6, atol=2 * np.exp(-limit)
    )
    np.testing.assert_allclose(tanh(x), [1, -1, np.nan, 1, -1, 0, 0, 0], rtol=1e-6, atol=2 * tiny)


@BOTH
def test_a_nan_stays_in_its_lane(dtype):
    width = lanes(np.dtype(dtype).itemsize)
    x = np.linspace(-2, 2, 3 * width).astype(dtype)
    for function in (exp, sigmoid, tanh, expm1, log1p_exp, normal_below):
        clean = function(x)
        for place in range(3 * width):
            spoiled = x.copy()
            spoiled[place] = np.nan
            found = function(spoiled)
            assert np.isnan(found[place])
            np.testing.assert_array_equal(np.delete(found, place), np.delete(clean, place))


@numba.njit(boundscheck=False)
def _sum_of_lanes(values):
    return lane_sum(load(values, 0))


@numba.njit(boundscheck=False)
def _highest(values, count, width, target):
    store(target, 0, highest(values, 0, width, count))


@BOTH
def test_lane_sum_adds_every_lane_once(dtype):
    width = lanes(np.dtype(dtype).itemsize)
    for lane in range(width):
        assert _sum_of_lanes(np.eye(width, dtype=dtype)[lane]) == 1
    values = twins.images(width).astype(dtype)
    assert _sum_of_lanes(values) == pytest.approx(values.sum(dtype=np.float64), rel=1e-6)
    assert _sum_of_lanes((2 ** np.arange(width)).astype(dtype)) == 2**width - 1


@BOTH
def test_highest_takes_nan_from_every_place(dtype):
    width = lanes(np.dtype(dtype).itemsize)
    values = np.random.default_rng(0).permuted(np.tile(np.arange(5.0), (width, 1)), axis=1).T.astype(dtype)
    target = np.empty(width, dtype)
    _highest(np.ascontiguousarray(values).ravel(), 5, width, target)
    np.testing.assert_array_equal(target, 4)
    values[np.arange(5), np.arange(5) % width] = np.nan
    _highest(np.ascontiguousarray(values).ravel(), 5, width, target)
    np.testing.assert_array_equal(target, values.max(axis=0))


# ---------------------------------------------------------------- random orders


@numba.njit
def _blocks(counters, keys, out):
    for i in range(len(counters)):
        c, k = counters[i], keys[i]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = philox(c[0], c[1], c[2], c[3], k[0], k[1])


@numba.njit
def _order(order, seed, epoch):
    shuffle(order, seed, epoch)


def order(count, seed, epoch):
    """The order of samples that the interpreter uses."""
    found = np.full(count, -1, np.int64)
    _order(found, np.uint64(seed), epoch)
    return found


def test_philox_is_that_of_the_random_module():
    words = np.random.default_rng(0).integers(0, 2**32, size=(500, 6), dtype=np.uint64)
    words[0], words[1] = 0, 2**32 - 1
    found = np.empty((500, 4), np.uint64)
    _blocks(words[:, :4], words[:, 4:], found)
    np.testing.assert_array_equal(
        found, random.philox4x32(words[:, :4].astype(np.uint32), words[:, 4:].astype(np.uint32))
    )


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("epoch", [0, 1, 1000])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 37])
def test_orders_equal_the_definition(count, epoch, seed):
    np.testing.assert_array_equal(order(count, seed, epoch), naive.shuffled(count, seed, epoch))


@given(st.integers(1, 300), st.integers(0, 2**64 - 1), st.integers(0, 2**31))
def test_an_order_is_a_permutation_of_its_own(count, seed, epoch):
    found = order(count, seed, epoch)
    np.testing.assert_array_equal(np.sort(found), np.arange(count))
    np.testing.assert_array_equal(found, order(count, seed, epoch))
    if count > 30:  # equal by chance once in 30!
        assert (found != order(count, seed, epoch + 1)).any()
        assert (found != order(count, seed ^ 1, epoch)).any()
        assert (found != order(count, seed ^ 2**63, epoch)).any()


@pytest.mark.parametrize("vary", ["epoch", "seed"])
def test_every_sample_is_as_likely_at_every_place(vary):
    count, trials = 9, 9000
    seen = np.zeros((count, count))
    followed = np.zeros((count, count))
    for i in range(trials):
        found = order(count, 3, i) if vary == "epoch" else order(count, i, 3)
        seen[np.arange(count), found] += 1
        followed[found[:-1], found[1:]] += 1
    chi = ((seen - trials / count) ** 2 / (trials / count)).sum()
    assert (
        chi < 125
    )  # 64 degrees of freedom: the 99.999 % point; a shuffle over i instead of i + 1 gives thousands
    pairs = followed[~np.eye(count, dtype=bool)]
    assert ((pairs - pairs.mean()) ** 2 / pairs.mean()).sum() < 140  # of at most 71 degrees of freedom


# ---------------------------------------------------------------- memory

CORNERS = {
    "linear": ((5,), [nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 13), nn.Sigmoid(), nn.Linear(13, 1)]),
    "no bias": ((3,), [nn.Linear(3, 17, bias=False), nn.Tanh(), nn.Linear(17, 2, bias=False)]),
    "softmax": ((3,), [nn.Linear(3, 3), nn.Softmax(), nn.Linear(3, 5)]),
    "convolutions": (
        (3, 7, 5),
        [nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.Conv2d(5, 9, 2, 1, 2), nn.Flatten()],
    ),
    "far padding": (
        (1, 4, 5),
        [nn.Conv2d(1, 6, 1), nn.Tanh(), nn.Conv2d(6, 3, (1, 2), 1, (2, 3)), nn.Flatten()],
    ),
    "lines left over": (
        (2, 6, 8),
        [nn.Conv2d(2, 3, 1, (1, 2)), nn.Tanh(), nn.Conv2d(3, 1, 2, 3), nn.Flatten()],
    ),
    "pooling": ((2, 7, 6), [nn.Conv2d(2, 3, 2), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1, 1), nn.Flatten()]),
}


@BOTH
@pytest.mark.parametrize("corner", CORNERS)
def test_nothing_is_read_or_written_between_the_buffers(corner, dtype, monkeypatch):
    # NaN in every gap: one that is read spoils a result, one that is written is gone
    taken, take = [], Writer._take

    def noted(writer, count):
        start = take(writer, count)
        taken.append((start + count * writer.lanes, writer.size))
        return start

    monkeypatch.setattr(Writer, "_take", noted)
    shape, layers = CORNERS[corner]
    net = nn.Sequential(*layers).init(2, dtype=dtype)
    x = twins.images((19, *shape)).astype(dtype)
    loss, target = nn.MSELoss(), twins.images(net.forward(x).shape).astype(dtype)
    expected, grads = net.loss_and_grads(x, target, loss)
    program, layout = net.program(shape, net.dtype), net.layout(net.dtype)
    runner = Runner(program, layout, net.dtype)
    gaps = np.concatenate([np.arange(first, last) for first, last in taken])
    runner.memory[gaps] = np.nan
    spare = np.ones(layout.size, dtype=bool)
    spare[: layout.pad] = False  # the zeros that stand for missing biases
    for name, start in layout.offsets.items():
        spare[start : start + net.parameters[name].size] = False
    flat = net.flat.copy()
    flat[spare] = np.nan
    assert runner.gradient(flat, as_samples(x, target, loss, program), loss) == expected
    for name, gradient in layout.views(runner.gradients).items():
        np.testing.assert_array_equal(gradient, grads[name], name)
    assert np.isnan(runner.memory[gaps]).all()
    assert not runner.gradients[spare].any()
    assert not runner.gradients[: layout.pad].any()


# ---------------------------------------------------------------- manners


def denormals():
    """Whether this thread still computes with denormal numbers."""
    halves = np.full(64, np.finfo(np.float32).tiny, np.float32) * np.float32(0.5)
    doubles = np.full(64, np.finfo(np.float64).tiny) * 0.5
    return bool((halves > 0).all() and (doubles > 0).all())


def test_the_threads_own_treatment_of_denormals_is_put_back():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2)).init(0)
    x, labels = np.ones((20, 2)), np.arange(20) % 2
    assert denormals()
    net.forward(x)
    assert denormals()
    net.loss_and_grads(x, labels, nn.CrossEntropyLoss())
    assert denormals()
    options = {"loss": nn.MSELoss(), "batch_size": 4, "epochs": 30}
    nn.fit(net, (x, labels), optimizer=nn.SGD(0.1), **options)
    assert denormals()
    x[:] = 1e5
    assert nn.fit(net, (x, x), optimizer=nn.SGD(1e6), **options).outcome == "diverged"
    assert denormals()


@pytest.mark.skipif(not vectors.FEATURES.get("sse2"), reason="denormals are flushed on x86 only")
def test_kernels_flush_denormals():
    net = nn.Sequential(nn.Linear(1, 1, bias=False)).load({"0.weight": [[1e-30]]})
    assert net.forward([[1e-10]])[0, 0] == 0


def test_the_cache_depends_on_the_width_of_vectors():
    # the same machine code must never be loaded for another width: it would read and write beside its data
    program = "from unstuck.nn.kernels import jit; print(jit._sources_stamp())"
    stamps = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"UNSTUCK_VECTOR_BYTES": width},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for width in ("16", str(vectors.BYTES))
    }
    assert len(stamps) == (1 if vectors.BYTES == 16 else 2)


def test_the_cache_is_a_folder_of_our_own(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSTUCK_CACHE_DIR", str(tmp_path / "mine"))
    assert jit.cache_folder.__wrapped__().parent == tmp_path / "mine"
    monkeypatch.setenv("UNSTUCK_CACHE_DIR", os.devnull)
    assert jit.cache_folder.__wrapped__() is None


@BOTH
def test_lanes_fill_a_vector(dtype):
    assert lanes(np.dtype(dtype).itemsize) * np.dtype(dtype).itemsize == vectors.BYTES
    assert vectors.BYTES in (16, 32, 64)


def test_only_what_a_network_needs_is_compiled(tmp_path):
    """A linear network compiles no convolution, no pooling and no other optimiser than its own."""
    code = (
        "from unstuck import nn; import numpy as np; x = np.ones((32, 3), np.float32);"
        "nn.fit(nn.Sequential(nn.Linear(3, 20)).init(0), (x, np.ones((32, 20))), loss=nn.MSELoss(),"
        " optimizer=nn.Adam(0.1), batch_size=16, epochs=2)"
    )
    environment = os.environ | {"UNSTUCK_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
    names = " ".join(path.name for path in tmp_path.rglob("*.*"))
    assert "contract_" in names
    assert "update_adam" in names
    assert not any(word in names for word in ("correlate_", "pool_", "update_descend", "cross_entropy"))


def test_damaged_code_on_disk_is_compiled_again(tmp_path):
    """A tile's file that holds something else costs its compilation."""
    path = tmp_path / "tile.o"
    path.write_bytes(b"no object file")
    tile = next(iter(biases.TILES.values()))
    engine = native.loaded(path, lambda: tile._text("tile", 4))
    assert engine.get_function_address("tile") > 0
    assert path.read_bytes() != b"no object file"


def test_nothing_is_compiled_the_second_time(tmp_path):
    """What one process compiled, operations made for a formula included, another one finds on disk."""
    code = """
from numba.core.ccallback import CFunc
compile, made = CFunc._compile_uncached, []
CFunc._compile_uncached = lambda self: (made.append(self.__name__), compile(self))[1]
import numpy as np
from unstuck import nn
x, y = np.ones((32, 1, 4, 4), np.float32), np.zeros((32, 16))
net = nn.Sequential(nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 16)).init(0)
nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=nn.SGD(0.1), batch_size=16, epochs=1)
print(*sorted(made))
"""
    environment = os.environ | {"UNSTUCK_CACHE_DIR": str(tmp_path)}
    run = [sys.executable, "-c", code]
    first, second = (
        subprocess.run(run, env=environment, check=True, timeout=300, capture_output=True, text=True).stdout
        for _ in range(2)
    )
    assert {"forward_logistic", "loss_square", "pool_quarters", "update_descend"} <= set(first.split())
    assert second == "\n"
