"""Recording in PyTorch: where NaN is born, and what cannot be measured."""

import contextlib
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import torch_trainings
from torch_trainings import random_batches, trained
from unstuck import UnstuckError
from unstuck.sources.torch import weights
from unstuck.sources.torch.record import record

# ---- NaN and infinity


class Fragile(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.second(torch.log(torch.relu(self.first(x))))


def born(run):
    return {
        layer: run.recording.last("origin.nonfinite", layer)
        for layer in run.recording.layers("origin.nonfinite")
    }


def test_a_nan_is_named_at_the_function_where_it_is_born():
    torch.manual_seed(0)
    run, losses = trained(Fragile(), random_batches(2))
    assert not math.isfinite(losses[0])
    assert born(run) == {"log_1": 0.0}
    assert run.recording.first("loss_finite") == 0


def test_a_nan_in_the_data_is_named():
    batches = random_batches(5)
    batches[2][0][3, 1] = math.nan
    run, _ = trained(torch_trainings.mlp(), batches)
    assert born(run) == {"input": 2.0}


def test_a_nan_in_one_module():
    class Spoils(nn.Module):
        def forward(self, x):
            return torch.where(x == x.max(), math.inf, x)

    torch.manual_seed(0)
    run, _ = trained(nn.Sequential(nn.Linear(6, 40), Spoils(), nn.Linear(40, 3)), random_batches(1))
    assert born(run) == {"1": 0.0}


def test_a_nan_that_is_born_in_the_backward_pass():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.second(torch.sqrt(0 * self.first(x)))  # the root of 0 has no slope

    torch.manual_seed(0)
    run, losses = trained(Root(), random_batches(1))
    assert math.isfinite(losses[0])
    assert born(run) == {"first": 0.0}
    assert (run.recording.first("nonfinite", "first") or 0) > 0


def test_a_loss_that_is_not_finite_by_itself():
    def nothing_counts(y, _):
        return functional.nll_loss(y, torch.full((8,), -100))

    run, _ = trained(nn.Sequential(nn.Linear(6, 3), nn.Sigmoid()), random_batches(1), nothing_counts)
    assert born(run) == {"NLLLoss": 0.0}  # the mean over no sample


def test_a_nan_between_two_measured_steps():
    model = torch_trainings.mlp()

    def batches():
        for number, batch in enumerate(random_batches(30)):
            if number == 21:  # the data are sound
                model[0].weight.data[:] = math.inf
            yield batch

    run, losses = trained(model, batches())
    assert not math.isfinite(losses[21])
    series = run.recording.series("loss")
    assert int(series.steps[np.flatnonzero(~np.isfinite(series.values))[0]]) == 21
    assert run.recording.at("loss_finite", "", 21) == 0
    assert [one for one in run.warnings if "between step 16 and step 21" in one]
    assert born(run) == {}


def test_infinity_in_the_data_between_two_measured_steps():
    batches = random_batches(30)
    batches[21][0][:] = math.inf
    run, losses = trained(torch_trainings.mlp(), batches)
    assert not math.isfinite(losses[21])
    assert run.recording.at("loss_finite", "", 21) == 0
    assert born(run) == {"input": 21}  # what the loss was made of is looked at when it is no number


# ---- what cannot be measured


def test_without_an_optimiser_it_is_found():
    model = torch_trainings.mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    with record(model) as run:
        for x, y in random_batches(3):
            functional.cross_entropy(model(x), y).backward()
            other.step()
            optimizer.step()
    assert run.recording.steps == 3
    assert run.recording.meta.optimizer == "SGD"


def test_nothing_that_trains():
    with record(torch_trainings.mlp()) as run:
        pass
    assert run.warnings == ["no optimiser step was seen"]
    assert run.recording.steps == 0


def test_what_is_no_module():
    with pytest.raises(UnstuckError, match="Module"):
        record(object())
    with pytest.raises(UnstuckError, match="every=0"):
        record(nn.Linear(1, 1), every=0)


def test_weights_whose_shape_is_not_known_yet():
    torch.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(3))
    with record(model) as run:
        model(torch.randn(2, 6))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in random_batches(3):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert run.recording.steps == 3
    assert run.recording.series("drift", "0").steps.tolist() == [0, 1, 2]


def test_gradients_that_were_put_there_by_hand():
    model = nn.Linear(6, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        for x, y in random_batches(3):
            loss = functional.cross_entropy(model(x), y)
            model.weight.grad, model.bias.grad = torch.autograd.grad(loss, [model.weight, model.bias])
            optimizer.step()
    assert (run.recording.first("grad_norm", "Linear") or 0) > 0
    assert any("no loss was seen" in one for one in run.warnings)


def test_an_optimiser_step_within_the_backward_pass():
    model = nn.Linear(6, 3)
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def step(parameter):
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(step)
    with record(model, list(optimizers.values())) as run:
        for x, y in random_batches(4):
            functional.cross_entropy(model(x), y).backward()
    assert run.recording.steps == 4
    assert len(run.recording.series("loss").steps) == 4


def test_a_model_on_meta():
    model = torch_trainings.mlp().to("meta")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        functional.mse_loss(
            model(torch.randn(4, 6, device="meta")), torch.zeros(4, 3, device="meta")
        ).backward()
        optimizer.step()
    assert any("meta" in one for one in run.warnings)
    assert run.recording.steps == 1


@pytest.mark.parametrize("how", ["whole", "in place", "one layer", "a function"])
def test_a_compiled_model_is_measured_from_outside(how):
    def train(watched):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model = torch_trainings.mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        call, target = model, model
        if how == "whole":
            call = target = torch.compile(model, backend="aot_eager")
        elif how == "in place":
            model.compile(backend="aot_eager")
        elif how == "one layer":
            model[0] = torch.compile(model[0], backend="aot_eager")
        else:
            call = torch.compile(lambda x: torch.tanh(model(x)), backend="aot_eager")
        with record(target, optimizer) if watched else contextlib.nullcontext() as run:
            for x, y in random_batches(6):
                optimizer.zero_grad()
                functional.cross_entropy(call(x), y).backward()
                optimizer.step()
        return [parameter.detach().clone() for parameter in model.parameters()], run

    plain, _ = train(watched=False)
    numbers, run = train(watched=True)
    assert all(torch.equal(one, other) for one, other in zip(numbers, plain, strict=True))
    assert any("compiled" in one or "CompiledFunction" in one for one in run.warnings)
    assert not [one for one in run.warnings if "could not be measured" in one]
    assert run.recording.steps == 6
    for layer in ("0", "2", "4"):
        assert (run.recording.first("grad_norm", layer) or 0) > 0
        assert run.recording.structure.node(layer).type == "Linear"


def test_large_models_are_sampled(monkeypatch):
    monkeypatch.setattr(weights, "LARGE", 1000)
    monkeypatch.setattr(weights, "START_SAMPLE", 500)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 300), nn.ReLU(), nn.Linear(300, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        x, y = random_batches(1)[0]
        before = model[0].weight.detach().clone()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    true = float((model[0].weight.detach() - before).norm())
    assert run.recording.first("update_norm", "0") == pytest.approx(true, rel=0.2)
    assert run.recording.first("drift_norm", "0") == pytest.approx(true, rel=0.2)
    assert any("sample" in one for one in run.warnings)


def test_what_is_left_out_between_the_steps_of_the_schedule():
    run, _ = trained(torch_trainings.mlp(), random_batches(10), every=1)
    assert run.recording.series("grad_norm", "0").steps.tolist() == list(range(10))
    assert run.recording.series("act_mean", "1").steps.tolist() == list(range(10))
    assert run.recording.series("update_norm", "4.bias").steps.tolist() == list(range(10))
    assert run.recording.series("zero_grad", "0").steps.tolist() == [0, 1, 2, 3, 4, 6]
    assert run.recording.series("drift", "0").steps.tolist() == [0, 1, 2, 3, 4, 6, 9]  # and at the end
    assert run.recording.series("accuracy").steps.tolist() == [0, 1, 2, 3, 4, 6]


def test_every_second_step():
    run, _ = trained(torch_trainings.mlp(), random_batches(7), every=2)
    assert run.recording.series("grad_norm", "0").steps.tolist() == [0, 2, 4, 6]
