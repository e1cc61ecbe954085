"""A run whose weights are NaN is ended, and is a failure; one that can recover is left alone."""

import pytest

torch = pytest.importorskip("torch")

from unstuck.prove.script.row import Task  # noqa: E402
from unstuck.prove.script.worker import run  # noqa: E402
from unstuck.prove.success import parse_success  # noqa: E402


def training(rate, steps=400, mend=False):
    def train():
        x = torch.randn(64, 4)
        y = (x[:, 0] > 0).long()
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(steps):
            scores = model(x)
            loss = (scores**2).sum() + torch.nn.functional.cross_entropy(scores, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if mend and not bool(torch.isfinite(loss)):
                model.load_state_dict(kept)

    return train


def row(program, *, alone=True):
    return run(Task("train", seed=1, alone=alone, name="train"), program)


def test_weights_that_are_nan_end_a_run_as_a_failure():
    ended = row(training(100.0))
    assert ended.lost
    assert ended.steps < 100
    assert ended.ending == "stopped"
    assert not ended.crashed
    assert ended.loss is ended.accuracy is ended.squared_error is None
    assert not parse_success("accuracy>=0").met(ended)


def test_the_outcome_is_that_of_the_whole_run():
    whole, ended = row(training(100.0), alone=False), row(training(100.0))
    assert (whole.steps, whole.lost) == (400, False)
    assert whole.loss is ended.loss is None


def test_a_program_that_mends_its_weights_runs_to_its_end():
    ended = row(training(100.0, mend=True))
    assert (ended.steps, ended.lost) == (400, False)


def test_a_training_that_goes_well_is_the_same_bit_for_bit():
    assert row(training(0.001)).fingerprint == row(training(0.001), alone=False).fingerprint
