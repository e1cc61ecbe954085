import math

import numpy as np
import pytest
import torch
from torch import nn

from traces import facts, linear, op, recorded, told
from unstuck import datasets, record
from unstuck import nn as engine
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.signal import no_signal
from unstuck.sources.torch.probes import PROBES, run_probes
from unstuck.trace.recording import Recording
from unstuck.trace.signal import signal

BOUNDS = load_bounds()


def run_of(*, effect=0.0, chance=0.6, overfit=0.1, final=2.3):
    nodes = [linear("fc1", "input"), op("mid", "Tanh", "fc1"), linear("fc2", "mid")]
    ended = {"start": 2.3, "final": final, "baseline": 2.3}
    run = recorded(nodes, "CrossEntropyLoss", facts("fc2", given=(300, 10), wanted=(300,)), **ended)
    run.add_row(
        0,
        "",
        {
            "probe.signal": effect,
            "probe.signal_p": chance,
            "probe.signal_samples": 300.0,
            "probe.overfit": overfit,
        },
    )
    return run


def test_nothing_to_learn():
    assert told(no_signal(run_of(), BOUNDS)) == [("DAT008", "info", None)]


def test_something_to_learn_or_another_fault():
    for more in ({"effect": 0.2}, {"chance": 0.01}, {"overfit": 0.9}, {"final": 0.3}):
        assert no_signal(run_of(**more), BOUNDS) == []
    with pytest.raises(NotChecked, match="simple models"):
        no_signal(run_of(effect=math.nan), BOUNDS)


def seen(final, *, effect=0.0, chance=0.6):
    """Measured in a plain run, of the samples that were trained on."""
    run = run_of(effect=math.nan, overfit=math.nan, final=final)
    run.add_row(0, "", {"data.signal": effect, "data.signal_p": chance, "data.signal_samples": 400.0})
    return run


def test_what_was_learned_by_heart_alone_says_nothing_of_the_data():
    assert told(no_signal(seen(2.3), BOUNDS)) == [("DAT008", "warning", None)]
    part = no_signal(seen(2.1), BOUNDS)
    assert told(part) == [("DAT008", "warning", None)]
    assert "by heart" in part[0].summary
    assert no_signal(seen(2.1, effect=0.5, chance=0.01), BOUNDS) == []
    assert no_signal(seen(0.9), BOUNDS) == []  # so much is learned from nothing by nobody


def measured(x, y):
    recording, model = Recording(), nn.Linear(x[0].numel(), 10)
    loss_fn = nn.MSELoss() if y.is_floating_point() else nn.CrossEntropyLoss()
    run_probes(model, loss_fn, x, y, None, recording, 0, probes={"signal": PROBES["signal"]})
    return recording.first("probe.signal"), recording.first("probe.signal_p")


def test_the_probe_sees_classes_and_numbers_and_not_what_was_dealt_out():
    digits = datasets.digits()
    x = torch.tensor(digits.inputs[:300].reshape(300, -1))
    y = torch.tensor(digits.targets[:300]).long()
    for targets in (y, x[:, 20] + 0.5 * torch.randn(300, generator=torch.Generator().manual_seed(2))):
        effect, chance = measured(x, targets)
        assert effect > 0.3
        assert chance == pytest.approx(0.01)
    found = [
        measured(x, y[torch.randperm(300, generator=torch.Generator().manual_seed(i))]) for i in range(10)
    ]
    assert all(abs(effect) < 0.2 for effect, _ in found)
    assert 0.15 < np.mean([chance for _, chance in found]) < 0.85


def test_neighbours_see_a_ring_that_no_line_does():
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    effect, chance = measured(x, (x.norm(dim=1) > 1.2).long())
    assert effect > 0.3
    assert chance == pytest.approx(0.01)


def test_images_and_few_samples_measure_nothing():
    assert measured(torch.randn(300, 1, 4, 4), torch.arange(300) % 10) == (None, None)
    assert measured(torch.randn(199, 4), torch.zeros(199).long()) == (None, None)


def plain_run(x, y, *, loss_fn, steps=60, batch=40):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with record(model, optimizer) as run:
        for step in range(steps):
            rows = torch.arange(batch * step, batch * step + batch) % len(x)
            optimizer.zero_grad()
            loss_fn(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return run.recording


def test_samples_of_a_plain_run_tell_labels_that_were_dealt_out():
    digits = datasets.digits()
    x, y = torch.tensor(digits.inputs[:1200]), torch.tensor(digits.targets[:1200]).long()
    dealt = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    run = plain_run(x, dealt, loss_fn=nn.functional.cross_entropy)
    assert abs(run.last("data.signal")) < 0.15
    assert run.last("data.signal_samples") == 360  # of nine measured steps
    found = no_signal(run, BOUNDS)
    assert told(found) == [("DAT008", "warning", None)]
    assert "shuffled" in found[0].summary


def test_samples_of_a_plain_run_that_fails_for_another_reason_hold_a_signal():
    digits = datasets.digits()
    x, y = torch.tensor(digits.inputs[:1200]), torch.tensor(digits.targets[:1200]).long()
    run = plain_run(x, y, loss_fn=lambda out, wanted: -nn.functional.cross_entropy(out, wanted))
    assert run.last("data.signal") > 0.5
    assert no_signal(run, BOUNDS) == []


def test_a_run_that_learned_is_not_asked():
    digits = datasets.digits()
    x, y = torch.tensor(digits.inputs[:1200]), torch.tensor(digits.targets[:1200]).long()
    run = plain_run(x, y, loss_fn=nn.functional.cross_entropy, steps=400)
    assert not run.has("data.signal")
    assert no_signal(run, BOUNDS) == []


def test_samples_that_come_again_are_read_once():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(250, 6)), rng.integers(0, 3, 250)
    again = signal(np.concatenate([x, x, x]), np.concatenate([y, y, y]))
    assert again == signal(x, y)
    assert again["signal_samples"] == 250
    assert again["signal_p"] > 0.03  # their own copies would tell them


def test_words_are_read_by_how_often_and_where_they_come():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 50, (300, 8))
    assert signal(x, (x[:, 2] > 25).astype(np.int64))["signal_p"] == pytest.approx(0.01)
    assert signal(x, (x == 7).any(axis=1).astype(np.int64))["signal_p"] == pytest.approx(0.01)
    assert signal(x, rng.integers(0, 2, 300))["signal_p"] > 0.03


def test_pictures_as_targets_and_many_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 1, 6, 6))
    assert signal(x, (x > 0).astype(np.int64))["signal"] > 0.3
    assert signal(x, rng.permutation((x > 0).astype(np.int64)))["signal"] < 0.15


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.random.default_rng(0).normal(size=(199, 4)), np.arange(199) % 2),
        (np.ones((300, 4)), np.arange(300) % 2),
        (np.random.default_rng(0).normal(size=(300, 4)), np.ones(300)),
        (
            np.where(np.arange(300)[:, None] == 7, np.nan, np.random.default_rng(0).normal(size=(300, 4))),
            np.arange(300),
        ),
        (np.random.default_rng(0).normal(size=(300, 4)), np.where(np.arange(300) == 7, np.inf, 0.0)),
    ],
    ids=["few", "equal inputs", "equal targets", "NaN", "infinity"],
)
def test_what_cannot_be_read_gives_nothing(x, y):
    assert signal(x, y) == {}


def test_the_engine_tells_the_same():
    digits = datasets.digits()
    x, y = digits.inputs.reshape(len(digits.inputs), -1)[:500], digits.targets[:500]
    dealt = np.random.default_rng(0).permutation(y)
    net = engine.Sequential(engine.Linear(64, 8), engine.Tanh(), engine.Linear(8, 10))
    result = engine.fit(
        net,
        (x, dealt),
        loss=engine.CrossEntropyLoss(),
        optimizer=engine.SGD(0.01),
        epochs=3,
        seed=0,
        record=True,
    )
    assert told(no_signal(result.recording, BOUNDS)) == [("DAT008", "warning", None)]
