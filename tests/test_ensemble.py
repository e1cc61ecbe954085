"""Many members at once: each has the bits it has alone."""

from dataclasses import replace

import numpy as np
import pytest

import twins
from unstuck import nn

SEEDS = [7, 3, 2**64 - 1, *range(100, 117)]


def training(**options):
    """A small convolutional network on images of two kinds, some of them badly lit."""
    labels = np.arange(37) % 2
    x = 0.5 * twins.images((37, 1, 6, 6))
    x[labels == 1, :, 2:4] += 1.0
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 2),
        nn.Sigmoid(),
    )
    common = {"batch_size": 8, "epochs": 12, "loss_scale": 3.0}
    return nn.Training(net, (x, labels), nn.MSELoss(), nn.SGD(0.1, 0.5), **common | options)


def same(members, found, places):
    """Every result of some members equals that of others, bit for bit."""
    for name in ("loss", "final_loss", "accuracy", "outcome", "epochs", "parameters"):
        np.testing.assert_array_equal(getattr(found, name)[places], getattr(members, name), name)


@pytest.fixture(scope="module")
def twenty():
    return training().run(seeds=SEEDS, threads=2)


def test_members_differ(twenty):
    assert len(np.unique(twenty.parameters[:, 16:43], axis=0)) == len(SEEDS)
    assert len(np.unique(twenty.final_loss)) == len(SEEDS)


@pytest.mark.parametrize("index", [0, 2, 11, 19])
def test_a_member_alone(twenty, index):
    alone = training().run(seed=SEEDS[index])
    np.testing.assert_array_equal(alone.net.flat, twenty.parameters[index])
    np.testing.assert_array_equal(alone.loss, twenty.loss[index])
    assert alone.final_loss == twenty.final_loss[index]
    assert alone.accuracy == twenty.accuracy[index]
    assert (alone.outcome, alone.epochs) == (twenty.outcome[index], twenty.epochs[index])
    fitted = training()
    net = nn.fit(
        fitted.network,
        fitted.data,
        loss=fitted.loss,
        optimizer=fitted.optimizer,
        batch_size=8,
        epochs=12,
        loss_scale=3.0,
        seed=SEEDS[index],
    ).net
    np.testing.assert_array_equal(net.flat, twenty.parameters[index])
    np.testing.assert_array_equal(twenty.member(index).flat, twenty.parameters[index])


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_any_number_of_threads(twenty, threads):
    same(training().run(seeds=SEEDS, threads=threads), twenty, slice(None))


def test_any_order_and_company(twenty):
    places = np.random.default_rng(0).permutation(len(SEEDS))[:13]
    same(training().run(seeds=[SEEDS[i] for i in places], threads=2), twenty, places)
    same(training().run(seeds=[SEEDS[5], SEEDS[5]], threads=1), twenty, [5, 5])


def test_members_that_end_early_do_not_touch_the_others():
    criterion = {"accuracy": 1.0, "loss": 0.005}
    long = training(epochs=120, success=criterion)
    found = long.run(seeds=SEEDS, threads=2)
    assert len(np.unique(found.epochs)) > 1  # they end at different times
    for index in (0, int(found.epochs.argmin()), int(found.epochs.argmax())):
        alone = long.run(seed=SEEDS[index])
        np.testing.assert_array_equal(alone.net.flat, found.parameters[index])
        np.testing.assert_array_equal(alone.loss, found.loss[index, : alone.epochs])
        assert np.isnan(found.loss[index, alone.epochs :]).all()
        straight = replace(long, epochs=alone.epochs, success=None).run(seed=SEEDS[index])
        np.testing.assert_array_equal(straight.net.flat, alone.net.flat)


def test_members_that_diverge_do_not_touch_the_others(twenty):
    wild = replace(
        training(), optimizer=nn.SGD(0.1, 0.5), init={"weights": {"scheme": "normal", "std": 1e18}}
    )
    wild = replace(wild, network=nn.Sequential(*list(training().network.layers.values())[:-1]))
    found = wild.run(seeds=SEEDS[:4], threads=2)
    assert (found.outcome == "diverged").all()
    same(training().run(seeds=SEEDS[:4], threads=2), twenty, slice(4))


def test_full_batches_and_single_samples_keep_their_bits():
    for batch in (0, 1, 37):
        made = training(batch_size=batch, epochs=3)
        found = made.run(seeds=SEEDS[:3], threads=2)
        for index in range(3):
            np.testing.assert_array_equal(made.run(seed=SEEDS[index]).net.flat, found.parameters[index])
