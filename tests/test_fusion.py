"""A program with its ReLUs done by their neighbours gives the same bits as one where each layer is itself."""

import numpy as np
import pytest

from unstuck import nn
from unstuck.nn.fusion import Fusion
from unstuck.nn.network import as_samples
from unstuck.nn.runner import Runner

IMAGE, FEATURES = (2, 7, 6), (5,)
NETWORKS = {
    "convolution-pool-linear": (IMAGE, [
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 4),
    ]),
    "stride": (IMAGE, [
        nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 4, (3, 2), (2, 1)), nn.ReLU(), nn.Flatten(),
        nn.Linear(8, 4),
    ]),
    "overlapping-pool": (IMAGE, [
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(12, 4),
    ]),
    "no-neighbour": (FEATURES, [
        nn.ReLU(), nn.Linear(5, 6), nn.ReLU(), nn.Tanh(), nn.Linear(6, 4), nn.ReLU(),
    ]),
    "normalised": (IMAGE, [
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(24, 4),
    ]),
    "smooth": (IMAGE, [
        nn.Conv2d(2, 3, 3, padding=1), nn.GELU(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 2), nn.Sigmoid(),
        nn.Flatten(), nn.Linear(16, 6), nn.SiLU(), nn.Dropout(0.5), nn.Linear(6, 6), nn.BatchNorm1d(6),
        nn.Tanh(), nn.Linear(6, 4), nn.LogSoftmax(),
    ]),
    "pool-of-smooth": (IMAGE, [
        nn.Conv2d(2, 3, 3, padding=1), nn.Softplus(), nn.MaxPool2d(2), nn.ELU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 4),
    ]),
    "blocks": (FEATURES, [
        nn.Linear(5, 6), nn.ReLU(), nn.Residual(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)), nn.ReLU(),
        nn.Residual(nn.ReLU(), nn.Linear(6, 6)), nn.Linear(6, 4),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits(name, dtype):
    shape, layers = NETWORKS[name]
    net = nn.Sequential(*layers).init(3, dtype=dtype)
    random = np.random.default_rng(0)
    x, y = random.standard_normal((37, *shape)).astype(dtype), random.integers(0, 4, 37)
    loss = nn.CrossEntropyLoss()
    found = []
    for fused in (False, True):
        program = net.program(shape, np.dtype(dtype), fused=fused)
        runner = Runner(program, net.layout(np.dtype(dtype)), np.dtype(dtype))
        value = runner.gradient(net.flat, as_samples(x, y, loss, program), loss)
        found.append((value, runner.gradients.copy(), len(program.constants)))
    (value, gradients, rows), (fused_value, fused_gradients, fused_rows) = found
    assert fused_value == value
    assert np.array_equal(fused_gradients, gradients)
    assert np.abs(gradients).max() > 0
    assert fused_rows < rows or name in ("no-neighbour", "smooth", "pool-of-smooth")


def test_what_others_read_is_kept():
    chain = [nn.Linear(2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)]
    assert Fusion.of(chain, ()).inside == (True, False, False, False)
    assert Fusion.of(chain, ()).gated == (False, True, False, False)
    assert Fusion.of(chain, {0}).inside == (False,) * 4
    assert Fusion.of(chain, {1}).gated == (False,) * 4
    assert Fusion.of(chain, {2}).gated == (False,) * 4


def test_nan_stays_visible():
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4)).init(0)
    net.parameters["0.weight"][0, 0] = np.nan
    values = {name: value.copy() for name, value in net.parameters.items()}
    net.load(values)
    x, y, loss = np.ones((3, 5), np.float32), np.zeros(3, int), nn.CrossEntropyLoss()
    program = net.program(FEATURES, net.dtype, fused=True)
    runner = Runner(program, net.layout(net.dtype), net.dtype)
    assert np.isnan(runner.gradient(net.flat, as_samples(x, y, loss, program), loss))
    assert np.isnan(net.layout(net.dtype).views(runner.gradients)["0.weight"][0]).all()


def test_gradients_take_the_place_of_values():
    """Of a network without blocks half of the memory is enough."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
    ).init(seed=0)  # fmt: skip
    dtype = np.dtype(np.float32)
    plain, fused = (net.program((1, 8, 8), dtype, fused=fused).memory_size for fused in (False, True))
    assert fused < 0.55 * plain
