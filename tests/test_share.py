"""Threads that share one network's batches: the same bits with any number of them, and an end when asked."""

import threading
import time

import numpy as np
import pytest

from unstuck import nn
from unstuck.nn import program
from unstuck.nn.fit import start
from unstuck.nn.kernels import share
from unstuck.nn.runner import together


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(program, "PART_WORK", 1000)


def training(**options):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((150, 2, 9, 9), dtype=np.float32), random.integers(0, 5, 150)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(80, 5)
    )
    given = {"optimizer": nn.SGD(lr=0.1, momentum=0.9), "batch_size": 68, "epochs": 4} | options
    return nn.Training(net, (x, y), nn.CrossEntropyLoss(), **given)


def trained(threads, **options):
    session = start(training(**options), seed=1)
    session.threads = threads
    session.advance(session.last_step)
    return session


@pytest.mark.parametrize(
    "options",
    [{}, {"clip_norm": 0.01}, {"optimizer": nn.Adam(lr=0.01)}, {"batch_size": 0}],
    ids=["momentum", "clipped", "adam", "full-batch"],
)
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_same_bits(threads, options):
    one, several = trained(1, **options), trained(threads, **options)
    assert one.training.program.parts(one.training.batch) == 4
    assert several.losses == one.losses
    assert np.array_equal(several.params, one.params)
    assert np.array_equal(several.state, one.state)
    assert np.array_equal(several.runner.gradients, one.runner.gradients)


def test_parts_add_up_to_the_gradient_of_the_batch():
    session = trained(2, epochs=2, shuffle=False, optimizer=nn.SGD(lr=0.0))
    last = np.arange(136, 150)  # the last batch has 14 samples
    loss = session.runner.gradient(session.params, session.training.samples, session.training.loss, last)
    of_the_batch = session.runner.gradients.copy()
    session = trained(2, epochs=2, shuffle=False, optimizer=nn.SGD(lr=0.0))
    np.testing.assert_allclose(session.runner.gradients, of_the_batch, rtol=1e-4, atol=1e-6)
    assert session.losses[-1] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_divergence_ends_all(threads):
    session = trained(threads, optimizer=nn.SGD(lr=1e30))
    assert session.diverged
    np.testing.assert_array_equal(session.losses, trained(1, optimizer=nn.SGD(lr=1e30)).losses)
    assert not np.isfinite(session.losses[-1])


def test_interruption_reaches_the_threads():
    shared = np.zeros(share.SHARED, dtype=np.int64)
    seen = threading.Event()

    def run(_memory):
        while shared[share.STOP] == 0:
            time.sleep(0.001)
        seen.set()
        return 0

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unstuck.nn.runner.wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            together(run, [np.zeros(1), np.zeros(1)], shared)
    assert seen.is_set()


def test_a_stop_from_outside_ends_after_a_step(monkeypatch):
    monkeypatch.setattr("unstuck.nn.pace.FIRST_WORK", 10**18)  # a slice that takes very long
    session = start(training(epochs=10**5), seed=1)
    session.threads = 2
    ending = []

    def stopping(run, memories, shared):
        threading.Timer(0.2, lambda: shared.__setitem__(share.STOP, 1)).start()
        ending.append(together(run, memories, shared))
        return ending[0]

    monkeypatch.setattr("unstuck.nn.runner.together", stopping)
    session.advance_slice(session.last_step)
    assert 0 < session.step == ending[0] < session.last_step


def test_small_networks_are_not_cut():
    net = nn.Sequential(nn.Linear(4, 3))
    assert (
        nn.Training(
            net, (np.zeros((200, 4)), np.zeros(200)), nn.CrossEntropyLoss(), nn.SGD(lr=0.1), batch_size=0
        ).program.parts(15)
        == 1
    )
