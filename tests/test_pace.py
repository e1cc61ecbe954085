"""Compiled code runs in short slices, which change no number: Ctrl-C and progress need not wait."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from unstuck import nn
from unstuck.nn import pace
from unstuck.nn.fit import start
from unstuck.nn.session import train_on
from unstuck.sources.engine import record_training


def plan(epochs=25, **options):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 12)), rng.integers(3, size=50)
    net = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Dropout(0.2), nn.Linear(20, 3))
    return nn.Training(net, (x, y), nn.CrossEntropyLoss(), nn.SGD(0.1, momentum=0.9), 16, epochs, **options)


@pytest.mark.parametrize(("took", "steps"), [(1.0, 15), (0.001, 15_000), (1000.0, 1), (0.0, 10)])
def test_the_next_slice_takes_a_given_time(took, steps):
    clock = iter([0.0, took]).__next__
    one = pace.Pace(pace.FIRST_WORK // 10, clock)
    assert one.steps == 10
    one.take(lambda: 100)
    assert one.steps == steps


def test_the_first_slice_of_a_large_network_is_one_batch():
    assert pace.Pace(10**12).steps == 1


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_slices_change_no_bit_and_not_when_success_is_tested(monkeypatch, steps):
    options = {"success": {"loss": 0.3}, "epochs": 400}
    whole = plan(**options).run(seed=3, threads=1)
    assert whole.outcome == "success"
    assert whole.epochs % 10 == 0
    monkeypatch.setattr(pace.Pace, "steps", property(lambda _: steps, lambda *_: None), raising=False)
    shares = []
    cut = plan(**options).run(seed=3, threads=1, progress=shares.append)
    assert len(shares) == sum(-(-40 // steps) for _ in range(whole.epochs // 10))
    assert shares == sorted(shares)
    assert cut.epochs == whole.epochs
    np.testing.assert_array_equal(cut.net.flat, whole.net.flat)
    np.testing.assert_array_equal(cut.loss, whole.loss)
    watched = record_training(plan(**options), 3)
    assert watched.epochs == whole.epochs
    np.testing.assert_array_equal(watched.net.flat, whole.net.flat)


def test_training_stops_between_two_slices(monkeypatch):
    monkeypatch.setattr(pace.Pace, "steps", property(lambda _: 2, lambda *_: None), raising=False)
    session, stop = start(plan(), 0), threading.Event()
    train_on(session, stop, lambda share: stop.set() if share > 0.3 else None)
    assert session.last_step * 0.3 < session.step <= session.last_step * 0.3 + 2


SCRIPT = """
import numpy as np
from unstuck import nn
x = np.random.default_rng(0).normal(size=(4096, 3, 32, 32)).astype(np.float32)
net = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
                    nn.Flatten(), nn.Linear(64 * 1024, 10))
data = x, np.arange(4096) % 10
told = lambda share: print("running", flush=True)
nn.fit(net, data, loss=nn.CrossEntropyLoss(), optimizer=nn.SGD(1e-4), epochs=1000, seed=0, threads=1,
       progress=told)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent in another way there")
def test_ctrl_c_ends_the_training_of_a_large_network_within_an_epoch():
    """Ten epochs of it take minutes: only slices can end sooner than the test's patience."""
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=dict(os.environ),
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert "KeyboardInterrupt" in errors
    assert child.returncode != 0
