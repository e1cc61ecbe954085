"""SGD, Adam, AdamW, RMSprop and clipping, against plain loops and PyTorch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import naive
import naive_network
import twins
from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.fit import start

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
OPTIMISERS = {
    "plain": nn.SGD(0.1),
    "momentum": nn.SGD(0.1, 0.9),
    "Nesterov": nn.SGD(0.1, 0.9, nesterov=True),
    "decay": nn.SGD(0.1, 0.5, weight_decay=0.01),
    "Nesterov, decay": nn.SGD(0.1, 0.5, weight_decay=0.01, nesterov=True),
    "Adam": nn.Adam(0.01),
    "Adam, own numbers": nn.Adam(0.02, (0.8, 0.95), eps=1e-3, weight_decay=0.1),
    "AMSGrad": nn.Adam(0.02, (0.5, 0.9), amsgrad=True),
    "AdamW": nn.AdamW(0.01),
    "AdamW, own numbers": nn.AdamW(0.02, (0.8, 0.95), eps=1e-3, weight_decay=0.5, amsgrad=True),
    "RMSprop": nn.RMSprop(),
    "RMSprop, momentum": nn.RMSprop(0.003, 0.9, momentum=0.9),
    "RMSprop, centred": nn.RMSprop(0.003, 0.9, eps=1e-3, weight_decay=0.1, centered=True),
    "RMSprop, all": nn.RMSprop(0.003, 0.9, eps=1e-3, momentum=0.5, centered=True),
}
EACH = pytest.mark.parametrize("optimizer", OPTIMISERS.values(), ids=OPTIMISERS)
CLIPPING = pytest.mark.parametrize("clipping", [{"clip_norm": 0.3}, {"clip_value": 0.02}], ids=str)


def problem(dtype=np.float32, count=23):
    """A small network with its data: 23 samples, so that the last batch of 4 is partial."""
    net = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 2, bias=False)).init(2, dtype=dtype)
    x = twins.images((count, 3)).astype(dtype)
    return net, x, np.sin(x[:, :2] * 2).astype(dtype)


def torch_train(
    net,
    data,
    loss,
    optimizer,
    *,
    batches,
    scale=1.0,
    frozen=(),
    schedule=None,
    clip_norm=None,
    clip_value=None,
):
    """Parameters of the same network after torch's optimiser has seen these batches in this order."""
    twin = twins.to_torch(net)
    x, target = (torch.tensor(part) for part in data)
    trained = [value for name, value in twin.named_parameters() if name.replace("/", ".") not in frozen]
    descent = getattr(torch.optim, optimizer.type)(trained, **twins.arguments(optimizer))
    scheduler = schedule(descent) if schedule else None
    for batch in batches:
        descent.zero_grad()
        (scale * twins.torch_loss(loss)(twin(x[batch]), target[batch])).backward()
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(trained, clip_norm)
        if clip_value:
            torch.nn.utils.clip_grad_value_(trained, clip_value)
        descent.step()
        if scheduler:
            scheduler.step()
    return twins.torch_parameters(twin)


def cut(order, size):
    """An order of samples, cut into batches."""
    return [order[start : start + size] for start in range(0, len(order), size)]


@BOTH
@EACH
@pytest.mark.parametrize("shuffle", [False, True], ids=["in order", "shuffled"])
def test_hundred_steps_equal_torch(optimizer, shuffle, dtype):
    net, x, y = problem(dtype)
    epochs, seed = 17, 5  # 6 steps each: 102
    orders = [naive.shuffled(23, seed, epoch) if shuffle else list(range(23)) for epoch in range(epochs)]
    batches = [batch for order in orders for batch in cut(order, 4)]
    assert len(batches) >= 100
    expected = torch_train(net, (x, y), nn.MSELoss(), optimizer, batches=batches)
    before = {name: value.copy() for name, value in net.parameters.items()}
    options = {"batch_size": 4, "epochs": epochs, "seed": seed, "shuffle": shuffle}
    nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=optimizer, **options)
    for name, value in net.parameters.items():
        assert np.linalg.norm(value - before[name]) > 0.1
        twins.close(value, expected[name], 1e-10 if dtype is np.float64 else 2e-5, name)


@EACH
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), nn.MSELoss()], ids=lambda loss: loss.type)
def test_training_a_convolution_equals_plain_loops(optimizer, loss):
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1),
        nn.Sigmoid(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).init(4, dtype=np.float64)
    x, labels = twins.images((11, 1, 5, 5)), np.arange(11) % 3
    training = nn.Training(net, (x, labels), loss, optimizer, batch_size=4, epochs=3, loss_scale=2.5)
    expected, losses = naive_network.train(training, net.parameters, seed=9)
    result = training.run(seed=9)
    twins.close(result.loss, losses, 1e-11)
    for name, value in result.net.parameters.items():
        twins.close(value, expected[name], 1e-10, name)


@BOTH
@EACH
def test_loss_scale_multiplies_the_gradient_and_not_the_loss(optimizer, dtype):
    net, x, y = problem(dtype)
    optimizer = replace(optimizer, lr=optimizer.lr / 5)
    batches = [batch for _ in range(5) for batch in cut(list(range(23)), 8)]
    expected = torch_train(net, (x, y), nn.MSELoss(), optimizer, batches=batches, scale=5.0)
    start = net.loss_and_grads(x, y, nn.MSELoss())[0]
    options = {"batch_size": 8, "epochs": 5, "shuffle": False, "loss_scale": 5.0}
    result = nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=optimizer, **options)
    for name, value in net.parameters.items():
        twins.close(value, expected[name], 1e-10 if dtype is np.float64 else 1e-5, name)
    assert 0.3 * start < result.loss[0] < 1.1 * start


@EACH
@pytest.mark.parametrize(
    ("frozen", "kept"),
    [
        (["0"], ("0.weight", "0.bias")),
        (["2.weight"], ("2.weight",)),
        (["0.bias", "2"], ("0.bias", "2.weight")),
    ],
    ids=str,
)
def test_frozen_parameters_keep_their_bits(optimizer, frozen, kept):
    net, x, y = problem()
    before = {name: value.copy() for name, value in net.parameters.items()}
    batches = cut(list(range(23)), 4) * 3
    # clipping must not count the gradients of what is frozen
    clipping = {"clip_norm": 0.3}
    expected = torch_train(net, (x, y), nn.MSELoss(), optimizer, batches=batches, frozen=kept, **clipping)
    options = {"batch_size": 4, "epochs": 3, "shuffle": False, "frozen": frozen} | clipping
    nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=optimizer, **options)
    for name, value in net.parameters.items():
        assert (value == before[name]).all() == (name in kept), name
        twins.close(value, expected[name], 1e-5, name)


@EACH
def test_learning_rate_zero_changes_nothing(optimizer):
    net, x, y = problem()
    before = net.flat.copy()
    nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=replace(optimizer, lr=0.0), batch_size=4, epochs=2)
    np.testing.assert_array_equal(net.flat, before)


@EACH
def test_slices_and_forks_give_the_same_bits(optimizer):
    net, x, y = problem()
    training = nn.Training(net, (x, y), nn.MSELoss(), optimizer, batch_size=4, epochs=6)
    whole, parts = start(training, 4), start(training, 4)
    whole.advance(whole.last_step)
    for step in (1, 2, 9, 10, 22):
        parts.advance(step)
    fork = parts.fork(optimizer)
    other = parts.fork(replace(optimizer, lr=optimizer.lr / 10))
    for session in (other, fork, parts):
        session.advance(whole.last_step)
    for session in (fork, parts):
        np.testing.assert_array_equal(session.params, whole.params)
        np.testing.assert_array_equal(session.state, whole.state)
    assert (other.params != whole.params).any()
    assert whole.state.shape == (len(optimizer.state), whole.params.size)


def test_a_fork_refuses_an_optimiser_that_keeps_something_else():
    net, x, y = problem()
    session = start(nn.Training(net, (x, y), nn.MSELoss(), nn.SGD(0.1)), 0)
    with pytest.raises(
        UnstuckError, match=r"cannot go on with Adam\(.*needs exp_avg, exp_avg_sq, there are mom"
    ):
        session.fork(nn.Adam())


@pytest.mark.parametrize("optimizer", [nn.Adam(0.1), nn.RMSprop(0.1)], ids=lambda optimizer: optimizer.type)
def test_what_never_gets_a_gradient_stays(optimizer):
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).init(0)
    net.parameters["0.bias"][:] = -100  # no unit is ever active
    before = net.parameters["0.weight"].copy()
    x = twins.images((8, 2))
    nn.fit(net, (x, np.tanh(x)), loss=nn.MSELoss(), optimizer=optimizer, epochs=5)
    np.testing.assert_array_equal(net.parameters["0.weight"], before)
    assert np.isfinite(net.flat).all()


# ---------------------------------------------------------------- clipping


@BOTH
@CLIPPING
@pytest.mark.parametrize("name", ["momentum", "Adam", "RMSprop, all"])
def test_clipping_equals_torch(name, clipping, dtype):
    net, x, y = problem(dtype)
    batches = cut(list(range(23)), 4) * 17
    expected = torch_train(net, (x, y), nn.MSELoss(), OPTIMISERS[name], batches=batches, **clipping)
    free = torch_train(net, (x, y), nn.MSELoss(), OPTIMISERS[name], batches=batches)
    options = {"batch_size": 4, "epochs": 17, "shuffle": False} | clipping
    nn.fit(net, (x, y), loss=nn.MSELoss(), optimizer=OPTIMISERS[name], **options)
    for key, value in net.parameters.items():
        twins.close(value, expected[key], 1e-10 if dtype is np.float64 else 2e-5, key)
        assert np.abs(expected[key] - free[key]).max() > 1e-3, "nothing was clipped"


@CLIPPING
def test_clipping_equals_plain_loops(clipping):
    net, x, y = problem(np.float64)
    options = {"batch_size": 5, "epochs": 3, "loss_scale": 2.0} | clipping
    training = nn.Training(net, (x, y), nn.MSELoss(), nn.SGD(0.1, 0.5), **options)
    expected, _ = naive_network.train(training, net.parameters, seed=1)
    for name, value in training.run(seed=1).net.parameters.items():
        twins.close(value, expected[name], 1e-12, name)


def test_wide_limits_change_no_bit():
    net, x, y = problem()
    training = nn.Training(net, (x, y), nn.MSELoss(), nn.SGD(0.1), batch_size=10, epochs=2)
    free = training.run(seed=0).net.flat
    for limits in ({"clip_norm": 1e6}, {"clip_value": 1e6}):
        np.testing.assert_array_equal(replace(training, **limits).run(seed=0).net.flat, free)


@CLIPPING
def test_clipping_leaves_the_gradient_that_is_measured(clipping):
    net, x, y = problem()
    _, expected = net.loss_and_grads(x, y, nn.MSELoss())
    training = nn.Training(net, (x, y), nn.MSELoss(), nn.SGD(0.1), batch_size=0, epochs=1, **clipping)
    session = start(training, 0)
    session.advance(1)
    for name, value in training.layout.views(session.runner.gradients).items():
        twins.close(value, expected[name], 1e-6, name)


@CLIPPING
def test_clipping_does_not_hide_nan(clipping):
    net, x, y = problem()
    options = {"loss": nn.MSELoss(), "optimizer": nn.SGD(1e30), "epochs": 20}
    assert nn.fit(net, (x * 1e20, y * 1e10), **options).outcome == "diverged"
    net, x, y = problem()
    net.parameters["0.bias"][0] = np.nan
    assert nn.fit(net, (x, y), **options | clipping).outcome == "diverged"


# ---------------------------------------------------------------- what they refuse


def test_options_are_plain_numbers():
    assert nn.SGD(0.5, momentum=0.25).options() == {
        "lr": 0.5,
        "momentum": 0.25,
        "weight_decay": 0.0,
        "nesterov": 0.0,
    }
    assert nn.SGD(0.5).type == "SGD"
    assert nn.AdamW().options()["weight_decay"] == 0.01
    assert nn.AdamW(betas=[0.5, 0.75]) == nn.AdamW(betas=(0.5, 0.75))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_defaults_are_those_of_torch(name):
    ours = getattr(nn, name)(lr=0.125)
    theirs = getattr(torch.optim, name)([torch.zeros(1, requires_grad=True)], lr=0.125).defaults
    assert twins.arguments(ours) == {key: theirs[key] for key in twins.arguments(ours)}


@EACH
@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, "0.1"])
def test_refuses_learning_rates_out_of_range(optimizer, lr):
    with pytest.raises(UnstuckError, match=rf"{optimizer.type}: lr must be a finite number"):
        replace(optimizer, lr=lr)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.SGD(0.1, -0.1), "SGD: momentum must be at least 0 and below 1, found -0.1"),
        (lambda: nn.SGD(0.1, 1.0), "SGD: momentum must be at least 0 and below 1, found 1.0"),
        (lambda: nn.SGD(0.1, math.nan), "SGD: momentum must be a finite number, found nan"),
        (lambda: nn.SGD(0.1, weight_decay=-1.0), "SGD: weight_decay must be at least 0, found -1.0"),
        (lambda: nn.SGD(0.1, nesterov=True), "SGD: nesterov needs momentum above 0, found 0.0"),
        (lambda: nn.Adam(betas=0.9), "Adam: betas must be two numbers, found 0.9"),
        (lambda: nn.Adam(betas=(0.9, 1.0)), "Adam: beta2 must be at least 0 and below 1, found 1.0"),
        (lambda: nn.Adam(eps=0.0), "Adam: eps must be above 0, found 0.0"),
        (lambda: nn.AdamW(weight_decay=-1.0), "AdamW: weight_decay must be at least 0, found -1.0"),
        (lambda: nn.RMSprop(alpha=1.0), "RMSprop: alpha must be at least 0 and below 1, found 1.0"),
        (lambda: nn.RMSprop(momentum=2), "RMSprop: momentum must be at least 0 and below 1, found 2"),
        (lambda: nn.RMSprop(eps=-1.0), "RMSprop: eps must be above 0, found -1.0"),
    ],
)
def test_refuses_numbers_out_of_range(make, words):
    with pytest.raises(UnstuckError, match=words):
        make()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be above 0, found 0.0"),
        ({"clip_value": math.nan}, "clip_value must be a finite number, found nan"),
        ({"clip_norm": 1.0, "clip_value": 2.0}, r"give clip_norm or clip_value, found both \(1.0 and 2.0\)"),
        ({"lr_schedule": 0.1}, r"lr_schedule: expected a schedule such as nn.StepLR\(30\), found 0.1"),
        ({"optimizer": "Adam"}, "optimizer: expected an nn.Optimizer, found 'Adam'"),
    ],
)
def test_a_training_refuses_what_it_cannot_do(options, words):
    net, x, y = problem()
    with pytest.raises(UnstuckError, match=words):
        nn.fit(net, (x, y), **{"loss": nn.MSELoss(), "optimizer": nn.Adam()} | options)
