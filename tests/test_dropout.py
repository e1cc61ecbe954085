"""Dropout: masks that are what their definition says, whatever runs beside them."""

import numpy as np
import pytest
import torch

import naive
import naive_network
import twins
from unstuck import nn
from unstuck.errors import UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def dense():
    return nn.Sequential(
        nn.Linear(3, 7), nn.Dropout(0.3), nn.Tanh(), nn.Linear(7, 6), nn.Dropout(), nn.Linear(6, 2)
    )


def convolutional():
    """Masks between convolutions: the second one pads what comes in."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, stride=2),
        nn.Dropout(0.4),
        nn.Conv2d(3, 2, 3, padding=1, stride=2),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


NETS = pytest.mark.parametrize(("make", "shape"), [(dense, (3,)), (convolutional, (1, 6, 5))])


@BOTH
@NETS
@pytest.mark.parametrize("count", [1, 5, 16, 19])
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (2**64 - 1, 7), (2**32 + 1, 2**32 - 1)])
def test_equals_plain_loops(make, shape, count, seed, step, dtype):
    net, x = make().init(1, dtype=dtype), twins.images((count, *shape)).astype(dtype)
    target = twins.target_for(net, x, nn.MSELoss()).astype(dtype)
    value, grads = net.loss_and_grads(x, target, nn.MSELoss(), seed=seed, step=step)
    params = net.parameters | naive_network.masks(net, shape, range(count), seed, step)
    expected, slopes = naive_network.loss_and_grads(net, params, x, target, nn.MSELoss())
    twins.close(value, expected, twins.PRECISION[dtype])
    for name, gradient in grads.items():
        twins.close(gradient, slopes[name], twins.PRECISION[dtype], name, np.abs(slopes[name]).max())


@NETS
def test_equals_finite_differences(make, shape):
    net, x = make().init(1, dtype=np.float64), twins.images((11, *shape))
    twins.same_as_differences(net, x, twins.target_for(net, x, nn.MSELoss()), nn.MSELoss())


@BOTH
@NETS
def test_in_use_everything_passes(make, shape, dtype):
    net, x = make().init(1, dtype=dtype), twins.images((19, *shape)).astype(dtype)
    kept = {name: layer for name, layer in net.layers.items() if layer.type != "Dropout"}
    plain = nn.Sequential(kept).load(net.parameters, dtype)
    np.testing.assert_array_equal(net.forward(x), plain.forward(x))
    twins.close(
        net.forward(x), net.to_torch().eval()(torch.tensor(x)).detach().numpy(), twins.PRECISION[dtype]
    )


@pytest.mark.parametrize("batch", [1, 8, 0])
def test_a_training_takes_the_masks_of_its_seed_and_of_each_sample(batch):
    net, x = dense().init(1, dtype=np.float64), twins.images((21, 3))
    training = nn.Training(net, (x, np.sin(x[:, :2])), nn.MSELoss(), nn.SGD(0.05, 0.5), batch, 3)
    expected, losses = naive_network.train(training, net.parameters, seed=9)
    result = training.run(seed=9)
    np.testing.assert_allclose(result.loss, losses, rtol=1e-12)
    for name, value in result.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)
    assert not np.array_equal(training.run(seed=8).net.flat, result.net.flat)


def test_members_have_the_bits_they_have_alone():
    x, labels = twins.images((37, 1, 6, 5)), np.arange(37) % 2
    training = nn.Training(convolutional(), (x, labels), nn.CrossEntropyLoss(), nn.SGD(0.1), 16, 3)
    many = training.run(seeds=range(6), threads=2)
    np.testing.assert_array_equal(training.run(seeds=range(6), threads=1).parameters, many.parameters)
    np.testing.assert_array_equal(training.run(seed=4).net.flat, many.parameters[4])


def test_masks_are_fair_and_independent():
    """Of 4000 numbers each, correlations stay within four standard deviations."""
    p, shape = 0.3, (20, 25)

    def mask(**change):
        given = {"seed": 5, "step": 3, "number": 0} | change
        return naive.dropout_mask(samples=range(8), shape=shape, p=p, **given).ravel()

    first = mask()
    assert set(first) == {0.0, 1 / (1 - p)}
    dropped = np.mean(first == 0)
    assert abs(dropped - p) < 4 * np.sqrt(p * (1 - p) / first.size)
    others = [
        mask(seed=6),
        mask(step=4),
        mask(number=1),
        np.roll(first, 1),
        np.roll(first, 4),
        np.roll(first, 500),
    ]
    for other in others:
        assert abs(np.corrcoef(first, other)[0, 1]) < 4 / np.sqrt(first.size)


@pytest.mark.parametrize(("p", "factor"), [(0.0, 1.0), (1.0, 0.0)])
def test_none_and_all(p, factor):
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Dropout(p)).load({"0.weight": np.eye(2)}, np.float64)
    x, target = np.array([[1.0, 2.0]]), np.zeros((1, 2))
    value, grads = net.loss_and_grads(x, target, nn.MSELoss())
    assert value == 2.5 * factor
    np.testing.assert_array_equal(grads["0.weight"], factor * np.array([[1.0, 2.0], [2.0, 4.0]]))


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, "half"])
def test_refuses_what_is_no_probability(p):
    with pytest.raises(UnstuckError, match=r"Dropout: p must be "):
        nn.Dropout(p)
