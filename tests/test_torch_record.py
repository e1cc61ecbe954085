"""What is recorded of a training in PyTorch, against the engine and against sums done by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import torch_trainings
from torch_trainings import made, random_batches, trained
from twins import to_torch
from unstuck import nn as engine
from unstuck.sources.torch import blocks
from unstuck.sources.torch.record import record
from unstuck.trace import measure

# what the engine measures over a fixed sample, and torch over the batch: the same when the batch is all data
ONLY_ENGINE = {"full_loss", "loss_change", "loss_change_error", "loss_share", "loss_part"}


def both(net, x, y, loss, lr, steps, momentum=0.0, init="glorot"):
    """The same training, full batch, in the engine and in PyTorch: two recordings."""
    net.init(3, {"weights": init, "bias": {"scheme": "normal", "std": 0.2}}, np.float32)
    twin = to_torch(net)
    result = engine.fit(
        net, (x, y), loss=getattr(engine, loss)(), optimizer=engine.SGD(lr=lr, momentum=momentum),
        batch_size=0, epochs=steps, seed=1, record=True,
    )  # fmt: skip
    optimizer = torch.optim.SGD(twin.parameters(), lr=lr, momentum=momentum)
    inputs, targets = torch.tensor(x), torch.tensor(y)
    criterion = getattr(nn, loss)()
    with record(twin, optimizer) as run:
        for _ in range(steps):
            optimizer.zero_grad()
            criterion(twin(inputs), targets).backward()
            optimizer.step()
    assert not run.warnings
    return result.recording, run.recording


def same_rows(ours, theirs, samples_axis_sums=()):
    """All quantities that both have, at all steps that both measured."""
    compared = 0
    mine = {(rows.quantity, rows.layer.replace("/", ".")): rows for rows in ours.rows()}
    for rows in theirs.rows():
        other = mine.get((rows.quantity, rows.layer))
        if other is None or rows.quantity in ONLY_ENGINE:
            continue
        values = dict(
            zip(
                other.steps.tolist(),
                zip(other.values.tolist(), other.null.tolist(), strict=True),
                strict=True,
            )
        )
        for step, value, null in zip(
            rows.steps.tolist(), rows.values.tolist(), rows.null.tolist(), strict=True
        ):
            if step not in values:
                continue
            expected, expected_null = values[step]
            where = f"{rows.quantity} of {rows.layer!r} at step {step}"
            if rows.quantity in {"never_active", "dead_lately"} and null:
                continue  # the engine looks at the same samples again and again and needs fewer
            assert null == expected_null, where
            assert value == pytest.approx(
                expected, rel=1e-3 if rows.quantity in samples_axis_sums else 1e-4, abs=1e-6
            ), where
            compared += 1
    return compared


def same_findings(ours, theirs):
    def codes(recording):
        return [
            (finding.code, finding.layer)
            for finding in recording.diagnose(ignore=("LRN001", "LRN002")).findings
        ]

    assert codes(theirs) == codes(ours)
    return codes(ours)


def points(samples=24, features=5, classes=3, seed=0):
    numbers = np.random.default_rng(seed)
    return numbers.normal(size=(samples, features)).astype(np.float32), numbers.integers(
        classes, size=samples
    )


def sigmoid_mlp():
    return engine.Sequential(
        engine.Linear(5, 8), engine.Sigmoid(), engine.Linear(8, 6), engine.Sigmoid(), engine.Linear(6, 3)
    )


def test_a_sigmoid_network_measures_as_in_the_engine():
    x, y = points()
    ours, theirs = both(sigmoid_mlp(), x, y, "CrossEntropyLoss", 0.5, 40, momentum=0.5)
    assert same_rows(ours, theirs) > 700
    missing = {row.quantity for row in ours.rows()} - {row.quantity for row in theirs.rows()} - ONLY_ENGINE
    assert missing == {"probe.steps", "probe.start", "probe.same", "probe.low", "probe.high"}
    same_findings(ours, theirs)
    assert theirs.meta.task == ours.meta.task
    assert theirs.meta.n_classes == ours.meta.n_classes
    assert [(n.name, n.type, n.inputs, n.shape, n.parameters) for n in theirs.structure.nodes] == [
        (n.name, n.type, n.inputs, n.shape, n.parameters) for n in ours.structure.nodes
    ]


def test_a_convolutional_network_measures_as_in_the_engine():
    net = engine.Sequential(
        engine.Conv2d(1, 4, 3), engine.ReLU(), engine.MaxPool2d(2), engine.Flatten(), engine.Linear(16, 3)
    )
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(14, 1, 6, 6)).astype(np.float32), numbers.integers(3, size=14)
    ours, theirs = both(net, x, y, "CrossEntropyLoss", 0.1, 30)
    assert same_rows(ours, theirs) > 600
    same_findings(ours, theirs)


@pytest.mark.parametrize("init", ["zeros", {"scheme": "constant", "value": 0.5}], ids=["zeros", "constant"])
def test_faults_get_the_codes_that_the_engine_gives(init):
    x, y = points()
    ours, theirs = both(sigmoid_mlp(), x, y, "CrossEntropyLoss", 0.1, 120, init=init)
    codes = same_findings(ours, theirs)
    assert {code for code, _ in codes} & {"INI001", "INI002", "GRD001"}


def test_squared_error_measures_as_in_the_engine():
    x, _ = points()
    y = (x[:, :2] * 0.5).astype(np.float32)
    net = engine.Sequential(engine.Linear(5, 4), engine.Tanh(), engine.Linear(4, 2))
    ours, theirs = both(net, x, y, "MSELoss", 0.1, 20)
    assert same_rows(ours, theirs) > 300
    assert theirs.meta.task == "regression"


@pytest.mark.parametrize("shape", [(12, 7, 1), (9, 3, 5), (1, 4, 1), (30, 1, 2)])
def test_close_looks_measure_as_all_others(shape):
    numbers = np.random.default_rng(1)
    block = numbers.normal(size=shape)
    for change in (
        lambda x: x,
        _copied,
        lambda x: x * 0,
        lambda x: np.maximum(x, 0),
        lambda x: np.where(x > 2, np.nan, x),
    ):
        found, expected = blocks.block_stats(change(block)), measure.output_stats(change(block))
        for name, value in found.items():
            assert value == (None if expected[name] is None else pytest.approx(expected[name], rel=1e-9)), (
                name
            )


def _copied(x):
    """Units that are multiples of others, and a constant one."""
    x = x.copy()
    x[:, -1] = 2 * x[:, 0] + 1
    x[:, x.shape[1] // 2] = 5
    return x


# ---- the loss


def test_the_loss_of_every_step():
    run, losses = trained(torch_trainings.mlp(), random_batches(700))
    series = run.recording.series("loss")
    assert series.steps.tolist() == list(range(700))
    np.testing.assert_allclose(series.values, losses, rtol=1e-6)


def test_accumulated_losses_are_summed_and_compared_with_as_much():
    models, optimizers, train = made(torch_trainings.accumulation)
    with record(models, optimizers) as run:
        train()
    assert run.recording.steps == 8
    assert 0.8 < run.recording.first("loss") < 1.6  # four quarters of ln 3 or so
    assert 0.8 < run.recording.first("baseline_loss") < 1.11
    assert run.recording.series("lr").values.tolist()[-1] == 0.025
    assert set(run.recording.series("grad_uncleared").values) == {0.0}


def test_a_summed_loss_is_compared_with_a_sum():
    run, losses = trained(
        torch_trainings.mlp(), random_batches(2), lambda y, t: functional.cross_entropy(y, t, reduction="sum")
    )
    assert losses[0] > 4
    assert 4 < run.recording.first("baseline_loss") < 8 * math.log(3) + 1e-6


def test_a_loss_with_further_terms_has_no_baseline():
    run, _ = trained(
        torch_trainings.mlp(),
        random_batches(2),
        lambda y, t: functional.cross_entropy(y, t) + y.pow(2).mean(),
    )
    assert run.recording.has("loss")
    assert not run.recording.has("baseline_loss")
    assert run.recording.has("accuracy")


def test_a_scaler_changes_no_measurement():
    def run_with(scaler):
        torch.manual_seed(0)
        model = torch_trainings.mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with record(model, optimizer) as run:
            for x, y in random_batches(6):
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(x), y)
                (loss if scaler is None else scaler.scale(loss)).backward()
                if scaler is None:
                    optimizer.step()
                else:
                    scaler.step(optimizer)
                    scaler.update()
        return run.recording

    plain, scaled = run_with(None), run_with(torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert same_rows(plain, scaled) > 200


def test_a_step_left_out_by_the_scaler_is_no_step():
    models, optimizers, train = made(torch_trainings.scaled)
    with record(models, optimizers, every=1) as run:
        train()
    assert run.recording.steps == 9  # one of ten overflowed
    assert np.isfinite(run.recording.series("loss").values).all()
    assert not run.recording.has("origin.nonfinite")


def test_lbfgs_counts_steps_not_evaluations():
    models, optimizers, train = made(torch_trainings.lbfgs)
    with record(models, optimizers) as run:
        train()
    assert run.recording.steps == 6
    losses = run.recording.series("loss").values
    assert losses[-1] < losses[0]


def test_two_optimisers_make_one_step_together():
    models, optimizers, train = made(torch_trainings.gan)
    with record(models, optimizers) as run:
        train()
    assert run.recording.steps == 10
    for layer in run.recording.layers("weight_norm"):
        assert (run.recording.first("update_norm", layer) or 0) > 0
    assert not run.recording.has("baseline_loss")


# ---- gradients, updates


def test_norms_by_hand():
    torch.manual_seed(0)
    model = torch_trainings.mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    seen = {}
    start = [p.detach().clone() for p in model.parameters()]
    with record(model, optimizer, every=1) as run:
        for step, (x, y) in enumerate(random_batches(3)):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            before = [p.detach().clone() for p in model.parameters()]
            grads = [p.grad.clone() for p in model.parameters()]
            optimizer.step()
            seen[step] = [
                (w.norm(), g.norm(), (p.detach() - w).norm(), (p.detach() - w0).norm())
                for w, g, p, w0 in zip(before, grads, model.parameters(), start, strict=True)
            ]
    rows = ["0", "0.bias", "2", "2.bias", "4", "4.bias"]
    for step, found in seen.items():
        for layer, numbers in zip(rows, found, strict=True):
            for quantity, number in zip(
                ("weight_norm", "grad_norm", "update_norm", "drift_norm"), numbers, strict=True
            ):
                assert run.recording.at(quantity, layer, step) == pytest.approx(
                    float(number), rel=1e-5, abs=1e-9
                )


def test_a_parameter_without_optimiser_stands_still():
    model = torch_trainings.mlp()
    optimizer = torch.optim.SGD([*model[2].parameters(), *model[4].parameters()], lr=0.1)
    with record(model, optimizer) as run:
        for x, y in random_batches(3):
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert run.recording.last("update_norm", "0") == 0
    assert run.recording.last("grad_norm", "0") > 0
    assert run.recording.structure.node("0").optimised is False


def test_uncleared_gradients_are_seen():
    model = torch_trainings.mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        for x, y in random_batches(4):
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert run.recording.series("grad_uncleared").values.tolist() == [0, 1, 1, 1]


def test_what_no_optimiser_holds_is_not_asked_to_be_cleared():
    model = torch_trainings.mlp()
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.1)
    with record(model, optimizer) as run:
        for x, y in random_batches(4):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert model[0].weight.grad.norm() > 0
    assert run.recording.series("grad_uncleared").values.tolist() == [0, 0, 0, 0]


def test_clipping_is_seen():
    models, optimizers, train = made(torch_trainings.clipped)
    with record(models, optimizers) as run:
        train()
    ratios = run.recording.series("clip_ratio").values
    assert (ratios < 0.5).all()
    model = torch_trainings.mlp()
    run, _ = trained(model, random_batches(3))
    assert run.recording.series("clip_ratio").values.tolist() == [1, 1, 1]


def test_frozen_and_unused_parameters():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused, self.frozen = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 6)
            self.frozen.requires_grad_(requires_grad=False)

        def forward(self, x):
            return self.used(self.frozen(x))

    run, _ = trained(Net(), random_batches(3))
    assert run.recording.is_null("grad_norm", "unused")
    assert not run.recording.has("grad_norm", "frozen")
    assert run.recording.last("update_norm", "frozen") == 0
    assert run.recording.has("distinct_units", "frozen")


def test_a_layer_made_anew_in_every_forward_pass():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x):
            self.second = nn.Linear(4, 3)
            return self.second(self.first(x))

    run, _ = trained(Net(), random_batches(4))
    assert run.recording.last("remade", "second") == 1
    assert run.recording.last("remade", "first") == 0


def test_repeated_batches():
    x, y = random_batches(1)[0]
    run, _ = trained(torch_trainings.mlp(), [(x, y)] * 4)
    assert run.recording.series("repeat.batch").values.tolist() == [1, 1, 1]
    run, _ = trained(torch_trainings.mlp(), random_batches(4))
    assert run.recording.series("repeat.batch").values.tolist() == [0, 0, 0]


def test_what_enters_the_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.Softmax(1))
    run, _ = trained(model, random_batches(2))
    assert run.recording.first("output.row_sum") == pytest.approx(1.0)
    assert 0 < run.recording.first("output.min") < run.recording.first("output.max") < 1
    targets = random_batches(1)[0][1].double()
    assert run.recording.first("target.max") == targets.max()
    assert run.recording.first("target.mean") == pytest.approx(float(targets.mean()))


def test_a_tiny_gradient_is_not_taken_for_zero():
    model = nn.Sequential(nn.Linear(4, 2))
    run, _ = trained(
        model, [(torch.randn(4, 4), torch.zeros(4, 2))], lambda y, t: functional.mse_loss(y, t) * 1e-30
    )
    assert 0 < run.recording.first("grad_norm", "0") < 1e-28
