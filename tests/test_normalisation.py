"""Batch normalisation, against plain loops, differences and PyTorch, in training and in use."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import twins
from every_layer import lived_in
from unstuck import nn
from unstuck.errors import ShapeError, UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def dense(**options):
    """Features, normalised between layers and as the first of all; a bias before would change nothing."""
    return nn.Sequential(
        nn.BatchNorm1d(2, **options),
        nn.Softplus(),
        nn.Linear(2, 5, bias=False),
        nn.BatchNorm1d(5, **options),
        nn.Tanh(),
        nn.Linear(5, 3),
    )


def convolutional(**options):
    """Images, normalised between convolutions with padding and stride, and before a Flatten."""
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5, **options),
        nn.Sigmoid(),
        nn.Conv2d(5, 3, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(3, **options),
        nn.Flatten(),
        nn.Linear(27, 2),
    )


OPTIONS = {
    "default": {},
    "not affine": {"affine": False},
    "no running statistics": {"track_running_stats": False},
    "mean of all batches": {"momentum": None, "eps": 1e-2},
}
EVERY = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
NETS = pytest.mark.parametrize(("make", "shape"), [(dense, (2,)), (convolutional, (2, 5, 6))])


@BOTH
@NETS
@EVERY
@pytest.mark.parametrize("count", [3, 9, 17])
def test_equals_plain_loops(make, shape, options, count, dtype):
    twins.same_as_naive(make(**options), twins.images((count, *shape)), dtype=dtype)


@BOTH
@NETS
def test_running_statistics_are_used_in_evaluation(make, shape, dtype):
    net = lived_in(make().init(1, dtype=dtype))
    x, twin = twins.images((20, *shape)).astype(dtype), twins.to_torch(net).eval()
    twins.close(net.forward(x), twin(torch.tensor(x)).detach().numpy(), twins.PRECISION[dtype])
    np.testing.assert_array_equal(net.forward(x[:1]), net.forward(x)[:1])
    before = net.flat.copy()
    net.loss_and_grads(x, twins.target_for(net, x, nn.MSELoss()), nn.MSELoss())
    np.testing.assert_array_equal(net.flat, before)  # a look changes nothing


@NETS
@EVERY
@pytest.mark.parametrize("count", [3, 11])
def test_equals_finite_differences(make, shape, options, count):
    net = make(**options)
    net.init(4, {"norm": {"weights": {"scheme": "uniform", "low": 0.5, "high": 2.0}}}, np.float64)
    x = twins.images((count, *shape))
    twins.same_as_differences(net, x, twins.images(net.forward(x).shape, 1), nn.MSELoss())


@NETS
@EVERY
@pytest.mark.parametrize("count", [3, 8, 16, 17, 33])
def test_equals_torch(make, shape, options, count):
    twins.same_as_torch(make(**options), twins.images((count, *shape)))


def test_numbers_far_from_zero_keep_their_digits():
    x = (1e3 + twins.images((33, 2))).astype(np.float32)
    net = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).init(0)
    exact = (x - x.mean(axis=0, dtype=np.float64)) / x.std(axis=0, dtype=np.float64)
    twins.close(net.forward(x), exact, 1e-4)  # of the seven digits, three are the mean's


def test_a_bias_before_it_has_no_gradient():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).init(0, dtype=np.float64)
    _, grads = net.loss_and_grads(twins.images((9, 2)), twins.images((9, 1), 1), nn.MSELoss())
    assert np.abs(grads["0.bias"]).max() < 1e-15
    assert np.abs(grads["0.weight"]).max() > 1e-3


def torch_steps(twin, training, steps):
    """Train a twin in PyTorch on the same batches, in the order given."""
    x, target = (torch.tensor(part) for part in training.data)
    optimizer = torch.optim.SGD(twin.parameters(), training.optimizer.lr, training.optimizer.momentum)
    batch = training.batch
    for step in range(steps):
        start = step % training.steps_per_epoch * batch
        optimizer.zero_grad()
        loss = torch.nn.MSELoss()(twin.train()(x[start : start + batch]), target[start : start + batch])
        loss.backward()
        optimizer.step()
    return {name: value.numpy() for name, value in twin.state_dict().items()}


@NETS
@EVERY
@pytest.mark.parametrize("batch", [0, 16, 7])
def test_a_training_equals_torch(make, shape, options, batch):
    net = make(**options).init(2, dtype=np.float64)
    x = twins.images((38, *shape))
    training = nn.Training(
        net,
        (x, twins.images(net.forward(x).shape, 1)),
        nn.MSELoss(),
        nn.SGD(0.1, 0.9),
        batch,
        10,
        shuffle=False,
    )
    twin = twins.to_torch(net)
    trained = training.run(seed=0).net
    expected = torch_steps(twin, training, 10 * training.steps_per_epoch)
    for name, value in trained.state.items():
        twins.close(value, expected[name], 1e-9, name)
    twins.close(trained.forward(x), twin.eval()(torch.tensor(x)).detach().numpy(), 1e-9)


@BOTH
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid])
def test_four_points_at_once_equal_torch_over_a_hundred_steps(activation, dtype):
    x, labels = np.array([[0.0], [0.3], [0.6], [1.0]], dtype), np.eye(2, dtype=dtype)[[0, 1, 0, 1]]
    net = nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8), activation(), nn.Linear(8, 2), nn.Sigmoid()).init(
        3, dtype=dtype
    )
    training = nn.Training(net, (x, labels), nn.MSELoss(), nn.SGD(0.5), 0, 100, shuffle=False)
    twin = twins.to_torch(net)
    result = training.run(seed=0)
    expected = torch_steps(twin, training, 100)
    tolerance = 1e-9 if dtype == np.float64 else 1e-4
    assert result.loss[-1] < 0.9 * result.loss[0]
    for name, value in result.net.state.items():
        if name != "0.bias":  # roundings only: it has no gradient
            twins.close(value, expected[name], tolerance, name)


def ensemble():
    """Two layers that join batches of two and a half chunks."""
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4),
        nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2),
    )  # fmt: skip
    data = twins.images((90, 1, 4, 4)), np.arange(90) % 2
    init = {"weights": "he", "norm": {"bias": {"scheme": "uniform", "low": -1.0, "high": 1.0}}}
    return nn.Training(net, data, nn.CrossEntropyLoss(), nn.SGD(0.1, 0.9), 40, 4, init)


def test_members_have_statistics_of_their_own_and_the_bits_they_have_alone():
    training = ensemble()
    many = training.run(seeds=range(7), threads=2)
    np.testing.assert_array_equal(training.run(seeds=range(7), threads=1).parameters, many.parameters)
    means = [many.member(i).buffers["1.running_mean"] for i in range(7)]
    assert len(np.unique(means, axis=0)) == 7
    for seed in (0, 4):
        alone = training.run(seed=seed)
        np.testing.assert_array_equal(alone.net.flat, many.parameters[seed])
        assert alone.final_loss == many.final_loss[seed]
        assert alone.net.buffers["1.num_batches_tracked"] == 12


def test_shift_and_scale_start_as_in_torch_and_as_asked():
    net = nn.Sequential(nn.Linear(2, 50), nn.BatchNorm1d(50), nn.Linear(50, 2))
    net.init(0, "glorot")
    assert (net.parameters["1.weight"] == 1).all()
    assert (net.parameters["1.bias"] == 0).all()
    plain = net.parameters["2.weight"].copy()
    shift = {"scheme": "uniform", "low": -1.0, "high": 1.0}
    net.init(0, {"weights": "glorot", "norm": {"bias": shift}})
    assert (net.parameters["1.weight"] == 1).all()
    assert -1 < net.parameters["1.bias"].min() < -0.8
    assert 0.7 < net.parameters["1.bias"].max() < 1
    assert not np.array_equal(net.parameters["2.weight"], plain)  # the shifts took their places in the stream
    net.init(0, {"norm": {"weights": "zeros"}, "layers": {"1": {"bias": "ones"}}})
    assert (net.parameters["1.weight"] == 0).all()
    assert (net.parameters["1.bias"] == 1).all()


def test_copies_and_continued_trainings_keep_the_statistics():
    training = ensemble()
    net = training.run(seed=0).net
    np.testing.assert_array_equal(net.copy().flat, net.flat)
    assert nn.Sequential(dict(net.layers)).load(net.state, np.float64).buffers["1.num_batches_tracked"] == 12
    nn.fit(net, training.data, loss=training.loss, optimizer=training.optimizer, batch_size=40, epochs=1)
    assert net.buffers["1.num_batches_tracked"] == 15
    with pytest.raises(UnstuckError, match=r"missing \['1\.running_mean', '1\.running_var', "):
        net.load(net.parameters)


def test_frozen_it_still_follows_the_data():
    training = replace(ensemble(), frozen=("1",))
    net = training.run(seed=0).net
    assert (net.parameters["1.weight"] == 1).all()
    assert (net.buffers["1.running_mean"] != 0).all()


def test_a_batch_of_one_value_is_refused_before_training_starts():
    net = nn.Sequential({"fc": nn.Linear(2, 3), "norm": nn.BatchNorm1d(3), "out": nn.Linear(3, 1)})
    x, y = twins.images((33, 2)), twins.images((33, 1))
    training = nn.Training(net, (x, y), nn.MSELoss(), nn.SGD(0.1), 32)
    words = (
        r"layer 'norm': BatchNorm1d expected more than 1 value per channel when training, got a batch of 1 "
        r"sample with 1 value per channel, the last of 2 in an epoch: choose another batch_size"
    )
    for run in ({"seed": 0}, {"seeds": [0, 1]}):
        with pytest.raises(ShapeError, match=words):
            training.run(**run)
    with pytest.raises(ShapeError, match=r"1 value per channel: choose another batch_size"):
        replace(training, batch_size=1).run(seed=0)
    replace(training, batch_size=31).run(seed=0)
    net.init(0)
    assert net.forward(x[:1]).shape == (1, 1)
    with pytest.raises(ShapeError, match=r"'norm': BatchNorm1d expected more than 1 value"):
        net.loss_and_grads(x[:1], y[:1], nn.MSELoss())
    batchwise = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).init(0)
    with pytest.raises(ShapeError, match=r"'0': BatchNorm1d expected more than 1 value"):
        batchwise.forward(x[:1])
    images = nn.Sequential(nn.BatchNorm2d(1)).init(0)
    images.loss_and_grads(np.ones((1, 1, 1, 2)), np.zeros((1, 1, 1, 2)), nn.MSELoss())
    with pytest.raises(ShapeError, match=r"'0': BatchNorm2d expected more than 1 value"):
        images.loss_and_grads(np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1)), nn.MSELoss())


def test_nan_stays_and_a_lost_network_is_reported():
    net = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)).init(0)
    net.parameters["0.weight"][0] = np.nan
    assert np.isnan(net.forward(np.ones((3, 1)))).all()
    result = nn.fit(net, (np.ones((4, 1)), np.ones((4, 1))), loss=nn.MSELoss(), optimizer=nn.SGD(0.1))
    assert result.outcome == "diverged"


def test_refuses_what_does_not_fit():
    with pytest.raises(
        ShapeError, match=r"layer 'n': BatchNorm1d needs 3 features, got samples of shape \(4,\)"
    ):
        nn.Sequential({"n": nn.BatchNorm1d(3)}).init(0).forward(np.zeros((2, 4)))
    with pytest.raises(
        ShapeError, match=r"'0': BatchNorm2d needs 3 channels of images \(N, C, H, W\), got .* \(3,\)"
    ):
        nn.Sequential(nn.BatchNorm2d(3)).init(0).forward(np.zeros((2, 3)))
    for arguments, words in (
        ({"num_features": 0}, "BatchNorm1d: num_features must be a whole number of at least 1, found 0"),
        ({"num_features": 2, "eps": -1.0}, "BatchNorm1d: eps must be at least 0, found -1.0"),
        ({"num_features": 2, "momentum": 1.5}, "momentum must be from 0 to 1, or None, found 1.5"),
    ):
        with pytest.raises(UnstuckError, match=words):
            nn.BatchNorm1d(**arguments)
