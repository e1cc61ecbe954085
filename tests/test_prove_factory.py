"""Trials on PyTorch objects that a factory makes."""

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from unstuck.errors import UnstuckError  # noqa: E402
from unstuck.prove import prove  # noqa: E402


def training(rate):
    def make(seed):
        del seed
        x = torch.randn(64, 3)
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        return model, optimizer, torch.nn.functional.mse_loss, [(x, x[:, :1])] * 10

    return make


def states():
    arrays = np.random.get_state()[1].tolist()  # noqa: NPY002  (the global generator is what must stay)
    return random.getstate(), arrays, torch.get_rng_state().tolist()


def test_a_function_that_trains_is_treated_too_and_the_random_state_stays():
    def make(seed):
        model, optimizer, loss_fn, batches = training(20.0)(seed)

        def train():
            for inputs, targets in batches:
                optimizer.zero_grad()
                loss_fn(model(inputs), targets).backward()
                optimizer.step()

        return train

    before = states()
    manual_seed, generator = torch.manual_seed, torch.Generator
    result = prove(make, ["lr*0.01", "zero_grad", "insert=batch_norm"], seeds=6)
    assert [(one.treatment, one.verdict) for one in result] == [("lr*0.01", "proved")]
    assert set(result.refused) == {"zero_grad", "insert=batch_norm"}
    assert states() == before
    assert (torch.manual_seed, torch.Generator) == (manual_seed, generator)


@pytest.mark.parametrize("made", [None, (1, 2), "model"])
def test_a_factory_that_makes_no_training_is_told(made):
    with pytest.raises(UnstuckError, match="make: no optimiser made a step"):
        prove(lambda _seed: made, ["lr*0.1"])
