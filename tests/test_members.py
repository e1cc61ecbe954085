"""Members as lanes: many tiny networks side by side, each with the bits that it has alone."""

import dataclasses
import itertools

import numpy as np
import pytest

import naive_network
import twins
from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.ensemble import EnsembleInterrupted, free_memory
from unstuck.nn.kernels.vectors import lanes
from unstuck.nn.members.design import blocks, design_of
from unstuck.nn.members.trainer import MemberRunner
from unstuck.nn.population import Members
from unstuck.nn.runner import Runner
from unstuck.nn.session import Session

POINTS = np.array([[0.0], [0.3], [0.6], [1.0]])
LABELS = np.array([0, 1, 0, 1])
UNIFORM = {
    "weights": {"scheme": "uniform", "low": -1.0, "high": 1.0},
    "bias": {"scheme": "uniform", "low": -1.0, "high": 1.0},
}
ACTIVATIONS = (
    nn.Sigmoid(), nn.Tanh(), nn.ReLU(), nn.LeakyReLU(0.1), nn.ELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
    nn.Softplus(2.0), nn.Softmax(), nn.LogSoftmax(),
)  # fmt: skip


def small(activation=None, hidden=5, outputs=3, features=2):
    return nn.Sequential(nn.Linear(features, hidden), activation or nn.Tanh(), nn.Linear(hidden, outputs))


def points(count, features=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, features))
    return x, rng.integers(0, 3, count)


def toy(**options):
    """The networks of the second case: one input, alternating labels, online."""
    net = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 2), nn.Sigmoid())
    common = {
        "batch_size": 1, "epochs": 1200, "init": UNIFORM, "shuffle": False,
        "success": {"accuracy": 1.0, "mse": 0.05},
    }  # fmt: skip
    return nn.Training(net, (POINTS, LABELS), nn.MSELoss(), nn.SGD(0.5), **common | options)


def trained(training, seed, dtype=np.float64):
    """A network trained with lanes of members, and the same trained in plain loops."""
    net = training.network.init(seed, training.init, dtype)
    training = dataclasses.replace(training, network=net, init=None)
    assert design_of(training) is not None
    start = {name: value.copy() for name, value in net.parameters.items()}
    return training.run(seed=seed), naive_network.train(training, start, seed)[0]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_every_layer_as_in_plain_loops(activation):
    training = nn.Training(
        small(activation), points(7), nn.CrossEntropyLoss(), nn.SGD(0.3), batch_size=2, epochs=3
    )
    found, expected = trained(training, seed=4)
    for name, value in found.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)


LOSSES = (nn.MSELoss(), nn.CrossEntropyLoss(), nn.BCELoss(), nn.BCEWithLogitsLoss(), nn.NLLLoss())


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_every_loss_as_in_plain_loops(loss, batch):
    last = {"NLLLoss": [nn.LogSoftmax()], "BCELoss": [nn.Sigmoid()]}.get(loss.type, [])
    x, labels = points(8)
    y = labels if loss.type in {"CrossEntropyLoss", "NLLLoss"} else np.eye(3)[labels] * 0.8 + 0.1
    net = nn.Sequential(*small().layers.values(), *last)
    training = nn.Training(net, (x, y), loss, nn.SGD(0.2), batch_size=batch, epochs=4, loss_scale=1.5)
    found, expected = trained(training, seed=1)
    for name, value in found.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)
    runner = Runner(training.program, training.layout, np.dtype(np.float64))
    samples = dataclasses.replace(training, network=found.net).samples
    twins.close(found.final_loss, runner.loss(found.net.flat, samples, loss), 1e-12)


OPTIMISERS = (
    ({"momentum": 0.9}, {}),
    ({"momentum": 0.8, "nesterov": True}, {}),
    ({"weight_decay": 0.1}, {}),
    ({"momentum": 0.5, "weight_decay": 0.02}, {"clip_value": 0.05}),
    ({}, {"frozen": ("0",)}),
    ({}, {"frozen": ("2.bias",), "shuffle": False}),
)


@pytest.mark.parametrize(("numbers", "options"), OPTIMISERS, ids=str)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_update_as_in_plain_loops(numbers, options, batch):
    training = nn.Training(
        small(), points(9), nn.CrossEntropyLoss(), nn.SGD(0.2, **numbers), batch, epochs=5, **options
    )
    found, expected = trained(training, seed=2)
    for name, value in found.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)


@pytest.mark.parametrize("sizes", [(3, 4, 2), (17, 33, 5), (40, 9, 9, 3), (1, 70, 1)], ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_sizes_below_and_above_a_tile(sizes, batch):
    layers = [layer for i, o in itertools.pairwise(sizes) for layer in (nn.Linear(i, o), nn.Sigmoid())]
    x = np.random.default_rng(0).normal(size=(7, sizes[0]))
    y = np.random.default_rng(1).uniform(size=(7, sizes[-1]))
    training = nn.Training(nn.Sequential(*layers), (x, y), nn.MSELoss(), nn.SGD(1.0), batch, epochs=3)
    found, expected = trained(training, seed=3)
    for name, value in found.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalisation_as_in_plain_loops(momentum, affine):
    norm = nn.BatchNorm1d(5, momentum=momentum, affine=affine)
    net = nn.Sequential(nn.Linear(2, 5), norm, nn.ReLU(), nn.Linear(5, 3))
    training = nn.Training(net, points(9), nn.CrossEntropyLoss(), nn.SGD(0.1), batch_size=3, epochs=5)
    found, expected = trained(training, seed=2)
    for name, value in found.net.parameters.items():
        twins.close(value, expected[name], 1e-10, name)
    start = training.network.init(2, dtype=np.float64).flat.copy()  # the other way: lanes of samples
    runner = Runner(training.program, training.layout, np.dtype(np.float64))
    session = Session(training, 2, start, runner)
    session.advance(session.last_step)
    for name, value in session.network().buffers.items():
        twins.close(found.net.buffers[name], value, 1e-10, name)
    twins.close(found.final_loss, session.full_loss(), 1e-10)


def test_without_bias_and_from_images():
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False))
    data = twins.images((6, 2, 2, 2)), np.arange(6) % 2
    training = nn.Training(net, data, nn.CrossEntropyLoss(), nn.SGD(0.1), batch_size=1, epochs=4)
    found, expected = trained(training, seed=0)
    for name, value in found.net.parameters.items():
        twins.close(value, expected[name], 1e-11, name)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("SGD", {"lr": 0.5, "momentum": 0.9}),
        ("Adam", {"lr": 0.05}),
        ("Adam", {"lr": 0.05, "betas": (0.0, 0.9), "eps": 1e-4, "weight_decay": 0.1}),
        ("AdamW", {"lr": 0.05, "weight_decay": 0.2}),
    ],
    ids=str,
)
def test_a_hundred_steps_in_pytorch(name, numbers):
    torch = twins.torch
    x, labels = points(4)
    rule = getattr(nn, name)(**numbers)
    training = nn.Training(
        small(nn.Sigmoid()), (x, labels), nn.CrossEntropyLoss(), rule, 1, epochs=25, shuffle=False
    )
    assert design_of(training)
    net = training.network.init(0)
    twin = twins.to_torch(net)
    optimizer = getattr(torch.optim, name)(twin.parameters(), **numbers)
    found = training.run(seed=0)
    for step in range(100):
        i = step % 4
        optimizer.zero_grad()
        score = twin(torch.tensor(x[i : i + 1], dtype=torch.float32))
        torch.nn.functional.cross_entropy(score, torch.tensor(labels[i : i + 1])).backward()
        optimizer.step()
    for key, value in twin.named_parameters():
        twins.close(found.net.parameters[key], value.detach().numpy(), 2e-5, key)


ADAMS = [nn.Adam(0.02), nn.AdamW(0.02, weight_decay=0.01)]


@pytest.mark.parametrize("rule", ADAMS, ids=repr)
def test_adam_as_with_lanes_of_samples(rule):
    """A limit on values that limits nothing changes nothing; one on the norm takes the other way."""
    few = {"batch_size": 3, "epochs": 30, "shuffle": True}
    data = points(9)
    here = nn.Training(small(), data, nn.CrossEntropyLoss(), rule, clip_value=1e6, **few)
    there = nn.Training(small(), data, nn.CrossEntropyLoss(), rule, clip_norm=1e6, **few)
    assert design_of(here)
    assert not design_of(there)
    one, other = here.run(seed=4), there.run(seed=4)
    twins.close(one.net.flat, other.net.flat, 2e-5)
    twins.close(one.loss, other.loss, 2e-5)


@pytest.mark.parametrize("rule", ADAMS, ids=repr)
def test_adam_has_the_same_bits_alone_among_others_and_step_by_step(rule):
    training = dataclasses.replace(toy(epochs=60, shuffle=True), optimizer=rule)
    many = training.run(seeds=range(70), threads=2)
    for index in (0, 33, 69):
        same(training.run(seeds=[index]), many, [index])
    start = Members(training, np.array([5], np.uint64), {}).draw(0, 1)[0]
    session = Session(training, 5, start)
    assert isinstance(session.runner, MemberRunner)
    for stop in (1, 2, 3, 7, 4 * int(many.epochs[5])):
        session.advance(stop)
    np.testing.assert_array_equal(session.params, many.parameters[5])
    rates = np.where(np.arange(70) == 33, 0.02, 0.001)
    mixed = training.run(seeds=range(70), vary={"lr": rates})
    np.testing.assert_array_equal(mixed.parameters[33], many.parameters[33])
    assert not np.array_equal(mixed.parameters[0], many.parameters[0])


@pytest.fixture(scope="module")
def thousand():
    return toy().run(seeds=range(1000), threads=2)


def same(members, found, places):
    for name in ("loss", "final_loss", "accuracy", "outcome", "epochs", "parameters"):
        np.testing.assert_array_equal(getattr(found, name)[places], getattr(members, name), name)


def test_some_succeed_and_some_do_not(thousand):
    assert {"success", "stuck"} <= set(thousand.outcome)
    assert 0.2 < thousand.success.mean() < 0.8
    early = thousand.epochs[thousand.success]
    assert early.min() < 600
    assert not (early % 10).any()  # tested every ten epochs


def test_a_member_among_a_thousand_is_the_same_alone(thousand):
    some = [0, 1, 15, 16, 31, 32, 500, 999]
    for index in some:
        same(toy().run(seeds=[index]), thousand, [index])
    alone = toy().run(seed=500)
    np.testing.assert_array_equal(alone.net.flat, thousand.parameters[500])
    assert (alone.outcome, alone.epochs) == (thousand.outcome[500], thousand.epochs[500])


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(thousand, threads):
    same(toy().run(seeds=range(1000), threads=threads), thousand, slice(None))


def test_retired_members_do_not_touch_the_others(thousand):
    """Without a criterion nobody leaves before the end: up to then all weights are the same."""
    stay = toy(success=None).run(seeds=range(1000))
    late = thousand.epochs == 1200
    assert 0 < late.sum() < 1000
    np.testing.assert_array_equal(stay.parameters[late], thousand.parameters[late])
    np.testing.assert_array_equal(stay.loss[late], thousand.loss[late])


def test_the_bits_do_not_depend_on_the_width_of_a_block():
    training = toy(shuffle=True, epochs=40)
    found = [
        training.run(seeds=range(first, first + count)).parameters
        for first, count in ((0, 3), (0, lanes(4)), (0, 2 * lanes(4) + 1))
    ]
    np.testing.assert_array_equal(found[0], found[1][:3])
    np.testing.assert_array_equal(found[1], found[2][: lanes(4)])
    design = design_of(training)

    def shapes(members):
        return [(wide.width, first, last) for wide, first, last in blocks(design, 16, members)]

    assert [shapes(count) for count in (1, 5, 17)] == [[(4, 0, 1)], [(16, 0, 5)], [(32, 0, 17)]]
    assert shapes(100) == [(32, 0, 96), (4, 96, 100)]
    assert shapes(120) == [(32, 0, 120)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_step_by_step_as_in_one_go(shuffle):
    training = toy(epochs=6, success=None, shuffle=shuffle, batch_size=3)
    whole = training.run(seeds=[5])
    start = Members(training, np.array([5], np.uint64), {}).draw(0, 1)[0]
    session = Session(training, 5, start)
    assert isinstance(session.runner, MemberRunner)
    for stop in (1, 2, 3, 7, session.last_step):
        session.advance(stop)
    np.testing.assert_array_equal(session.params, whole.parameters[0])
    twins.close(session.epoch_losses, whole.loss[0], 1e-6)


def test_a_recorded_training_has_the_bits_of_an_unwatched_one():
    alone, watched = toy().run(seed=1), toy().run(seed=1, record=True)
    np.testing.assert_array_equal(watched.net.flat, alone.net.flat)
    assert watched.recording is not None
    assert (watched.outcome, watched.epochs) == (alone.outcome, alone.epochs)


def test_a_measured_step_shows_its_gradient():
    training = toy(epochs=1, success=None, shuffle=True, loss_scale=2.0)
    start = Members(training, np.array([3], np.uint64), {}).draw(0, 1)[0]
    session = Session(training, 3, start.copy())
    session.advance(1)
    moved = (start - session.params) / np.float32(0.5)
    twins.close(session.runner.gradients, moved, 1e-5)


def test_members_differ_in_more_than_their_seed():
    rates, init = np.array([0.5, 0.1, 0.9, 0.5]), [UNIFORM, UNIFORM, UNIFORM, "he"]
    mixed = toy().run(seeds=[7, 7, 8, 9], vary={"lr": rates, "init": init})
    same(toy().run(seeds=[7]), mixed, [0])
    for index, seed in ((1, 7), (2, 8)):
        alone = dataclasses.replace(toy(), optimizer=nn.SGD(rates[index])).run(seeds=[seed])
        same(alone, mixed, [index])
    same(toy(init="he").run(seeds=[9]), mixed, [3])


def test_momentum_and_decay_vary_with_the_bits_of_members_alone():
    vary = {"momentum": [0.0, 0.9, 0.0, 0.5], "weight_decay": [0.0, 0.0, 0.01, 0.01]}
    mixed = toy(epochs=50, success=None).run(seeds=[1, 2, 3, 4], vary=vary)
    for index, (momentum, decay) in enumerate(zip(*vary.values(), strict=True)):
        optimizer = nn.SGD(0.5, momentum, weight_decay=decay)
        alone = dataclasses.replace(toy(epochs=50, success=None), optimizer=optimizer)
        same(alone.run(seeds=[index + 1]), mixed, [index])


def test_images_vary_too():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    data = twins.images((20, 1, 4, 4)), np.arange(20) % 2
    training = nn.Training(net, data, nn.CrossEntropyLoss(), nn.SGD(0.1), batch_size=10, epochs=3)
    mixed = training.run(seeds=[1, 2], vary={"lr": [0.1, 0.3], "momentum": [0.0, 0.9]})
    same(dataclasses.replace(training, optimizer=nn.SGD(0.3, 0.9)).run(seeds=[2]), mixed, [1])


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ({"lr": [0.1]}, "a value for each of 2 seeds, found 1"),
        ({"rate": [0.1, 0.2]}, "unknown key 'rate', expected some of lr"),
        ({"lr": [0.1, -1.0]}, "lr must be a finite number of at least 0, found -1.0"),
        ({"lr": [0.1, float("nan")]}, "lr must be a finite number"),
        ({"init": ["he", "hee"]}, "hee"),
    ],
)
def test_refuses_what_cannot_vary(vary, words):
    with pytest.raises(UnstuckError, match=words):
        toy().run(seeds=[0, 1], vary=vary)
    with pytest.raises(UnstuckError, match="needs seeds"):
        toy().run(seed=0, vary={"lr": [0.1]})


def test_diverged_members_leave_and_the_others_stay():
    net = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 2))
    training = nn.Training(
        net, (POINTS, LABELS), nn.MSELoss(), nn.SGD(0.1), 1, epochs=200, init=UNIFORM, shuffle=False
    )
    mixed = training.run(seeds=[1, 2, 3], vary={"lr": [0.1, 50.0, 0.1]})
    assert mixed.outcome[1] == "diverged"
    assert mixed.epochs[1] < 200
    assert np.isnan(mixed.loss[1, mixed.epochs[1] :]).all()
    assert np.isfinite(mixed.final_loss[[0, 2]]).all()
    same(training.run(seeds=[1]), mixed, [0])


def test_dead_when_a_layer_is_inactive():
    dead = {"weights": "zeros", "bias": {"scheme": "constant", "value": -1.0}}
    assert toy(init=dead, epochs=20).run(seeds=[0]).outcome[0] == "dead"
    live = {"weights": "zeros", "bias": {"scheme": "constant", "value": 1.0}}
    assert toy(init=live, epochs=20).run(seeds=[0]).outcome[0] == "stuck"


def test_losses_that_do_not_fit_are_thinned(monkeypatch):
    every = toy(success=None, epochs=64).run(seeds=range(10))
    monkeypatch.setattr("unstuck.nn.ensemble.HISTORY_BYTES", 10 * 64 * 8 // 4)
    thin = toy(success=None, epochs=64).run(seeds=range(10))
    assert thin.loss_epochs.tolist() == list(range(0, 64, 4))
    np.testing.assert_array_equal(thin.loss, every.loss[:, ::4])


def test_an_ensemble_larger_than_the_memory_is_trained_and_says_what_it_drops(monkeypatch):
    whole = toy(epochs=10).run(seeds=range(40))
    monkeypatch.setattr("unstuck.nn.ensemble.free_memory", lambda: 1000)
    with pytest.warns(UserWarning, match="parameters of 40 members take 0.0 GiB"):
        found = toy(epochs=10).run(seeds=range(40))
    assert found.parameters is None
    np.testing.assert_array_equal(found.final_loss, whole.final_loss)
    with pytest.raises(UnstuckError, match=r"seeds=\[3\]"):
        found.member(3)
    assert free_memory() > 0


def test_an_interrupted_ensemble_keeps_what_is_finished():
    calls = itertools.count()

    def interrupt(_share):
        if next(calls) == 0:
            raise KeyboardInterrupt

    with pytest.raises(EnsembleInterrupted, match="of 20000 members finished") as caught:
        toy(epochs=100_000, success={"mse": 1e-9}).run(seeds=range(20_000), progress=interrupt)
    result = caught.value.result
    unfinished = result.outcome == ""
    assert unfinished.any()
    assert np.isnan(result.final_loss[unfinished]).all()


def test_other_trainings_take_lanes_of_samples():
    common = {"batch_size": 1, "epochs": 2}
    data = points(6)
    assert design_of(nn.Training(small(), data, nn.CrossEntropyLoss(), nn.SGD(0.1), **common))
    others = (
        {"optimizer": nn.Adam(amsgrad=True)},
        {"optimizer": nn.RMSprop()},
        {"optimizer": nn.GrowingAdam()},
        {"clip_norm": 1.0},
        {"lr_schedule": nn.StepLR(1)},
        {"network": small(hidden=3000)},
    )
    for change in others:
        options = {"network": small(), "optimizer": nn.SGD(0.1)} | common | change
        assert design_of(nn.Training(data=data, loss=nn.CrossEntropyLoss(), **options)) is None
    large = nn.Training(small(), points(40), nn.CrossEntropyLoss(), nn.SGD(0.1), batch_size=9, epochs=1)
    assert design_of(large) is None
