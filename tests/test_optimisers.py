"""SGD with and without momentum, against plain loops and PyTorch."""

import numpy as np
import pytest
import torch

import naive
import naive_network
import twins
from unstuck import nn
from unstuck.errors import UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
MOMENTUM = pytest.mark.parametrize("momentum", [0.0, 0.9], ids=["plain", "momentum"])


def problem(dtype=np.float32, count=23):
    """A small network with its data: 23 samples, so that the last batch of 4 is partial."""
    net = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 2, bias=False)).init(2, dtype=dtype)
    x = twins.images((count, 3)).astype(dtype)
    return net, x, np.sin(x[:, :2] * 2).astype(dtype)


def torch_train(net, data, loss, *, lr, momentum, batches, scale=1.0, frozen=()):
    """Parameters of the same network after torch.optim.SGD has seen these batches in this order."""
    twin = twins.to_torch(net)
    x, target = (torch.tensor(part) for part in data)
    trained = [value for name, value in twin.named_parameters() if name.replace("/", ".") not in frozen]
    optimizer = torch.optim.SGD(trained, lr=lr, momentum=momentum)
    for batch in batches:
        optimizer.zero_grad()
        (scale * twins.torch_loss(loss)(twin(x[batch]), target[batch])).backward()
        optimizer.step()
    return twins.torch_parameters(twin)


def cut(order, size):
    """An order of samples, cut into batches."""
    return [order[start : start + size] for start in range(0, len(order), size)]


@BOTH
@MOMENTUM
@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
def test_hundred_steps_equal_torch(momentum, shuffle, dtype):
    net, x, y = problem(dtype)
    epochs, seed = 17, 5  # 6 steps each: 102
    orders = [naive.shuffled(23, seed, epoch) if shuffle else list(range(23)) for epoch in range(epochs)]
    batches = [batch for order in orders for batch in cut(order, 4)]
    assert len(batches) >= 100
    expected = torch_train(net, (x, y), nn.MSELoss(), lr=0.1, momentum=momentum, batches=batches)
    before = {name: value.copy() for name, value in net.parameters.items()}
    optimizer = nn.SGD(lr=0.1, momentum=momentum)
    options = {"batch_size": 4, "epochs": epochs, "seed": seed, "shuffle": shuffle}
    nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=optimizer, **options)
    for name, value in net.parameters.items():
        assert np.linalg.norm(value - before[name]) > 0.1
        twins.close(value, expected[name], 1e-10 if dtype is np.float64 else 2e-5, name)


@MOMENTUM
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()], ids=lambda loss: loss.type)
def test_training_a_convolution_equals_plain_loops(momentum, loss):
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1),
        nn.Sigmoid(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).init(4, dtype=np.float64)
    x, labels = twins.images((11, 1, 5, 5)), np.arange(11) % 3
    training = nn.Training(
        net, (x, labels), loss, nn.SGD(0.5, momentum), batch_size=4, epochs=3, loss_scale=2.5
    )
    expected, losses = naive_network.train(training, net.parameters, seed=9)
    result = training.run(seed=9)
    twins.close(result.loss, losses, 1e-12)
    for name, value in result.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)


@BOTH
@MOMENTUM
def test_loss_scale_multiplies_the_gradient_and_not_the_loss(momentum, dtype):
    net, x, y = problem(dtype)
    batches = [batch for _ in range(5) for batch in cut(list(range(23)), 8)]
    expected = torch_train(net, (x, y), nn.MSELoss(), lr=0.02, momentum=momentum, batches=batches, scale=5.0)
    start = net.loss_and_grads(x, y, nn.MSELoss())[0]
    options = {"batch_size": 8, "epochs": 5, "shuffle": False, "loss_scale": 5.0}
    result = nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=nn.SGD(0.02, momentum), **options)
    for name, value in net.parameters.items():
        twins.close(value, expected[name], 1e-10 if dtype is np.float64 else 1e-5, name)
    assert 0.3 * start < result.loss[0] < 1.1 * start


@MOMENTUM
@pytest.mark.parametrize(
    ("frozen", "kept"),
    [
        (["0"], ("0.weight", "0.bias")),
        (["2.weight"], ("2.weight",)),
        (["0.bias", "2"], ("0.bias", "2.weight")),
    ],
    ids=str,
)
def test_frozen_parameters_keep_their_bits(momentum, frozen, kept):
    net, x, y = problem()
    before = {name: value.copy() for name, value in net.parameters.items()}
    batches = cut(list(range(23)), 4) * 3
    expected = torch_train(net, (x, y), nn.MSELoss(), lr=0.1, momentum=momentum, batches=batches, frozen=kept)
    options = {"batch_size": 4, "epochs": 3, "shuffle": False, "frozen": frozen}
    nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=nn.SGD(0.1, momentum), **options)
    for name, value in net.parameters.items():
        assert (value == before[name]).all() == (name in kept), name
        twins.close(value, expected[name], 1e-5, name)


def test_learning_rate_zero_changes_nothing():
    net, x, y = problem()
    before = net.flat.copy()
    nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=nn.SGD(0.0, 0.9), batch_size=4, epochs=2)
    np.testing.assert_array_equal(net.flat, before)


def test_options_are_plain_numbers():
    assert nn.SGD(0.5, momentum=0.25).options() == {"lr": 0.5, "momentum": 0.25}
    assert nn.SGD(0.5).type == "SGD"


@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf")])
def test_refuses_learning_rates_out_of_range(lr):
    with pytest.raises(UnstuckError, match=r"SGD: lr must be a finite number"):
        nn.SGD(lr)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2, float("nan")])
def test_refuses_momentum_out_of_range(momentum):
    with pytest.raises(UnstuckError, match=r"SGD: momentum must be"):
        nn.SGD(0.1, momentum)
