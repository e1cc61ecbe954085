"""Growth that keeps what a network answers, and what its optimiser knows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.grow.bodies import HEAD, body
from unstuck.grow.network import GrowingNetwork
from unstuck.grow.widen import add_outputs, deepen, growable, widen
from unstuck.nn import random

IMAGE = (2, 6, 5)


def network(layers, shape, classes=3, seed=7):
    layers = body(layers, shape)
    net = nn.Sequential(dict(layers)) if layers else None
    features = shape[0]
    if net is not None:
        net.init(0)
        features = net.forward(np.zeros((1, *shape), np.float32)).shape[1]
    return GrowingNetwork(layers | {HEAD: nn.Linear(features, classes)}, shape, seed)


def samples(shape, count=20, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def trained(net, passes=2):
    x = samples(net.shape)
    for _ in range(passes):
        net.train(x, np.arange(20) % net.outputs, np.arange(20), 6, 0.01, 0)
    return net


NETS = {
    "dense": ([nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 6), nn.Tanh()], (4,)),
    "dense, no bias": ([nn.Linear(4, 5, bias=False), nn.Sigmoid(), nn.Linear(5, 6), nn.GELU()], (4,)),
    "dense, normalised": ([nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()], (4,)),
    "conv": ([nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1), nn.ELU()], IMAGE),
    "conv, normalised": (
        [
            nn.Conv2d(2, 4, 3),
            nn.BatchNorm2d(4),
            nn.LeakyReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8, 5),
            nn.SiLU(),
        ],
        IMAGE,
    ),
    "dropout": ([nn.Linear(4, 5), nn.Dropout(0.5), nn.Softplus()], (4,)),
    "residual": (
        [nn.Linear(4, 5), nn.ReLU(), nn.Residual(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 5)), nn.ReLU()],
        (4,),
    ),
}
EACH = pytest.mark.parametrize("name", NETS)


@EACH
@pytest.mark.parametrize("how", ["new", "split"])
def test_widening_changes_no_answer(name, how):
    net = trained(network(*NETS[name]))
    x = samples(net.shape, seed=1)
    before = net.scores(x)
    layers = growable(net)
    assert layers
    for layer in layers:
        size = net.size
        widen(net, layer, 3, how)
        assert net.size > size
        np.testing.assert_allclose(net.scores(x), before, atol=1e-6, rtol=0)


@given(some.data())
def test_any_sequence_of_growth_changes_no_answer(data):
    name = data.draw(some.sampled_from(sorted(NETS)))
    net = trained(network(*NETS[name]), passes=1)
    x, classes = samples(net.shape, seed=1), net.outputs
    before = net.scores(x)
    for number in range(data.draw(some.integers(1, 4))):
        kind = data.draw(some.sampled_from(["outputs", "units", "layer"]))
        if kind == "outputs":
            add_outputs(net, data.draw(some.integers(1, 3)))
        elif kind == "units":
            layer = data.draw(some.sampled_from(growable(net)))
            widen(net, layer, data.draw(some.integers(1, 7)), data.draw(some.sampled_from(["new", "split"])))
        else:
            places = [name for name, layer in net.layers.items() if layer.type == "ReLU"]
            if places:
                deepen(net, data.draw(some.sampled_from(places)), f"more{number}")
    np.testing.assert_allclose(net.scores(x)[:, :classes], before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_a_deeper_network_answers_the_same_and_goes_on_learning(name):
    net = trained(network(*NETS[name]))
    x = samples(net.shape, seed=1)
    before = net.scores(x)
    deepen(net, "1", "more")
    np.testing.assert_allclose(net.scores(x), before, atol=1e-6, rtol=0)
    weight = net.net.parameters["more.weight"].copy()
    trained(net)
    assert not np.array_equal(net.net.parameters["more.weight"], weight)
    with pytest.raises(UnstuckError, match="is no ReLU"):
        deepen(net, "0", "other")
    with pytest.raises(UnstuckError, match="already"):
        deepen(net, "1", "more")


@EACH
@pytest.mark.parametrize("count", [1, 13])
def test_new_outputs_change_no_bit_of_the_old_ones(name, count):
    net = trained(network(*NETS[name]))
    x = samples(net.shape, 37, seed=1)
    before = net.scores(x)
    add_outputs(net, count)
    assert np.array_equal(net.scores(x)[:, :3], before)


def test_outputs_two_at_a_time_are_ten_at_once():
    late, at_once = network(None, (4,), 2), network(None, (4,), 10)
    for _ in range(4):
        add_outputs(late, 2)
    for name, value in at_once.net.state.items():
        assert np.array_equal(late.net.state[name], value), name
    assert len(np.unique(late.net.parameters["head.weight"])) == late.net.parameters["head.weight"].size


def test_units_drawn_late_have_the_bits_of_units_drawn_at_once():
    late, at_once = (
        network([nn.Linear(4, 3), nn.ReLU()], (4,)),
        network([nn.Linear(4, 9), nn.ReLU()], (4,)),
    )
    widen(late, "0", 2)
    widen(late, "0", 4)
    assert np.array_equal(late.net.parameters["0.weight"], at_once.net.parameters["0.weight"])


def test_keyed_draws_depend_on_their_place_alone_and_differ():
    whole = random.keyed(3, "a.weight", range(20), range(10), (3, 2))
    assert whole.shape == (20, 10, 3, 2)
    assert np.array_equal(random.keyed(3, "a.weight", [7, 2], range(4), (3, 2)), whole[[7, 2], :4])
    assert len(np.unique(whole)) == whole.size
    assert abs(whole.mean()) < 0.05
    assert -1 <= whole.min() < -0.99
    assert 0.99 < whole.max() < 1
    assert not np.array_equal(random.keyed(3, "b.weight", range(20), range(10), (3, 2)), whole)
    with pytest.raises(UnstuckError, match="less than"):
        random.keyed(0, "a", [0], [2**32])


def test_old_entries_keep_their_moments_and_new_ones_count_their_own_steps():
    net = trained(network(*NETS["dense"]))
    before = {slot: {name: v.copy() for name, v in views.items()} for slot, views in net.moments().items()}
    widen(net, "0", 2)
    add_outputs(net, 1)
    for slot, views in net.moments().items():
        assert np.array_equal(views["0.weight"][:5], before[slot]["0.weight"])
        assert np.array_equal(views["2.weight"][:, :5], before[slot]["2.weight"])
        assert np.array_equal(views["head.weight"][:3], before[slot]["head.weight"])
        assert not views["0.weight"][5:].any()
        assert not views["2.weight"][:, 5:].any()
        assert not views["head.bias"][3:].any()
    trained(net, passes=1)  # four updates
    age = net.moments()["correction1"]["head.bias"]
    np.testing.assert_allclose(age, [1 - 0.9**12] * 3 + [1 - 0.9**4], rtol=1e-6)


def test_growth_costs_no_compilation():
    from unstuck.nn.kernels import machine

    net = trained(network(*NETS["conv"]))
    compiled = len(machine.execute.signatures)
    widen(net, "0", 5)
    add_outputs(net, 4)
    deepen(net, "1", "more")
    trained(net)
    net.scores(samples(net.shape))
    assert len(machine.execute.signatures) == compiled


def test_what_cannot_grow_is_refused():
    net = network(*NETS["residual"])
    assert growable(net) == ["2.0"]
    with pytest.raises(UnstuckError, match="residual block '2'"):
        widen(net, "0", 1)
    with pytest.raises(UnstuckError, match="no layer 'x'"):
        widen(net, "x", 1)
    with pytest.raises(UnstuckError, match="no layer with weights reads it"):
        widen(net, HEAD, 1)
    with pytest.raises(UnstuckError, match="mixes its units"):
        widen(network([nn.Linear(4, 3), nn.Softmax()], (4,)), "0", 1)


def test_adam_with_one_age_for_all_is_torchs():
    x, y = samples((4,), 24), np.arange(24) % 3
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).init(0)
    model = net.to_torch()
    result = nn.fit(
        net, (x, y), loss=nn.CrossEntropyLoss(), optimizer=nn.GrowingAdam(0.01), batch_size=24, epochs=300,
        seed=0, shuffle=False,
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()
    np.testing.assert_allclose(result.net.forward(x), model(torch.tensor(x)).detach().numpy(), atol=1e-3)
    with pytest.raises(UnstuckError, match="amsgrad"):
        nn.GrowingAdam(amsgrad=True)
