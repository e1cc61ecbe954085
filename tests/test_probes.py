"""Probes: each separates a planted fault from its repaired sibling, and leaves no trace."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from unstuck.sources.torch.loss import find_loss
from unstuck.sources.torch.marks import Marks
from unstuck.sources.torch.probes import PROBES, run_probes
from unstuck.sources.torch.probing import Probing
from unstuck.sources.torch.record import record
from unstuck.sources.torch.sharpness import sharpness
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.recording import Recording
from unstuck.trace.schedule import is_measured

CE = nn.CrossEntropyLoss()


def batch(n=32, classes=4, features=8):
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    centres = 2 * torch.randn(classes, features, generator=draws)
    return centres[labels] + 0.5 * torch.randn(n, features, generator=draws), labels


def dense(*more, width=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.Tanh(), *more, nn.Linear(width, 4))


def probe(name, model, loss_fn=CE, data=None, lr=0.3, optimizer=None):
    """The quantities of one probe, and what was not measured."""
    x, y = batch() if data is None else data
    recording = Recording()
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr)
    skipped = run_probes(model, loss_fn, x, y, optimizer, recording, 0, probes={name: PROBES[name]})
    return {rows.quantity: recording.first(rows.quantity) for rows in recording.rows()}, skipped


def value(name, quantity, model, **options):
    values, skipped = probe(name, model, **options)
    assert not skipped
    return values[quantity]


class Mixed(nn.Module):
    """Softmax over the samples of the batch instead of over the classes."""

    def __init__(self, axis):
        super().__init__()
        self.inner, self.axis = dense(), axis

    def forward(self, x):
        return self.inner(x).log_softmax(self.axis)


class Reshaped(nn.Module):
    """Turns (N, T, F) into (T, N, F), by view where it should permute."""

    def __init__(self, *, view):
        super().__init__()
        self.last, self.view = nn.Linear(3, 4), view

    def forward(self, x):
        n, steps, features = x.shape
        turned = x.reshape(steps, n, features) if self.view else x.transpose(0, 1)
        return self.last(turned.sum(0))


class Deaf(nn.Module):
    """Answers without looking."""

    def __init__(self, share):
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.share = dense(), share
        self.answer = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return self.inner(x) * self.share + self.answer


def test_a_rate_too_high_does_better_at_a_tenth():
    high, sound = probe("rates", dense(), lr=60.0)[0], probe("rates", dense(), lr=0.3)[0]
    assert high["probe.low"] < high["probe.start"] < high["probe.same"]
    assert sound["probe.same"] < 0.5 * sound["probe.start"]
    assert sound["probe.low"] > sound["probe.same"]
    assert sound["probe.steps"] == 20


def test_a_network_that_cannot_hold_the_batch_is_not_overfitted():
    narrow = nn.Sequential(nn.Linear(8, 1), nn.ReLU(), nn.Linear(1, 4))
    nn.init.constant_(narrow[0].bias, -100.0)  # dead
    assert value("overfit", "probe.overfit", narrow) > 0.9
    assert value("overfit", "probe.overfit", dense()) < 0.1


def test_what_can_be_learned_at_some_rate_is_told_from_what_cannot():
    x, y = batch()
    sound = nn.CrossEntropyLoss()(dense()(x), y).item()
    assert value("capacity", "probe.capacity", dense(), lr=1e-9) < 0.1 * sound  # its own rate does not matter
    assert value("overfit", "probe.overfit", dense(), lr=1e-9) > 0.99
    narrow = nn.Sequential(nn.Linear(8, 1), nn.ReLU(), nn.Linear(1, 4))
    nn.init.constant_(narrow[0].bias, -100.0)  # dead
    assert value("capacity", "probe.capacity", narrow) > 0.8


def test_trying_other_rates_leaves_weights_optimiser_and_random_numbers_as_they_were():
    model, (x, y) = dense(nn.BatchNorm1d(16), nn.Dropout(0.5)), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    CE(model(x), y).backward()
    optimizer.step()
    before = [one.clone() for one in model.state_dict().values()], torch.get_rng_state()
    told = Recording()
    run_probes(model, CE, x, y, optimizer, told, 0, probes={"capacity": PROBES["capacity"]})
    assert told.first("probe.capacity") is not None
    assert all(torch.equal(one, was) for one, was in zip(model.state_dict().values(), before[0], strict=True))
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(group["lr"] == 0.1 for group in optimizer.param_groups)


def test_halves_of_a_batch_agree_on_a_clear_direction_only():
    x, y = batch(128)
    shuffled = torch.randint(4, (128,), generator=torch.Generator().manual_seed(7))
    assert value("noise", "probe.noise", dense(), data=(x, y)) < 0.3
    assert value("noise", "probe.noise", dense(), data=(x[:4], shuffled[:4])) > 0.3
    double = torch.cat([x[:8], x[:8]]), torch.cat([y[:8], y[:8]])
    assert value("noise", "probe.noise", dense(), data=double) == pytest.approx(0, abs=1e-9)
    assert "single sample" in probe("noise", dense(), data=(x[:1], y[:1]))[1][0]


def test_labels_that_do_not_belong_to_the_inputs_are_learned_like_permuted_ones():
    x, y = batch(128)
    shuffled = y[torch.randperm(128, generator=torch.Generator().manual_seed(5))]
    assert value("permuted", "probe.permuted", dense(), data=(x, shuffled)) > 0.5
    assert value("permuted", "probe.permuted", dense(), data=(x, y)) < 0.3


def test_a_summed_loss_doubles_with_the_batch():
    summed = probe("duplicate", dense(), loss_fn=nn.CrossEntropyLoss(reduction="sum"))[0]
    mean = probe("duplicate", dense())[0]
    assert summed["probe.duplicate"] == pytest.approx(2, rel=1e-4)
    assert summed["probe.duplicate_loss"] == pytest.approx(2, rel=1e-4)
    assert mean["probe.duplicate"] == pytest.approx(1, rel=1e-4)
    assert mean["probe.duplicate_loss"] == pytest.approx(1, rel=1e-4)


def test_dropout_and_batch_norm_do_not_disturb_the_doubled_batch():
    model = dense(nn.BatchNorm1d(16), nn.Dropout(0.5))
    assert value("duplicate", "probe.duplicate", model) == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(("passes", "similar"), [(1, True), (5, False)])
def test_a_gradient_that_was_never_cleared_differs_from_a_new_one(passes, similar):
    model, (x, y) = dense(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(passes):
        CE(model(x), y).backward()
        if passes > 1:
            optimizer.step()
    cosine = value("fresh_gradient", "probe.fresh_gradient", model, optimizer=optimizer)
    assert (cosine > 0.999) == similar


@pytest.mark.parametrize(
    ("planted", "repaired", "x"),
    [
        (Mixed(0), Mixed(1), batch()[0]),
        (Reshaped(view=True), Reshaped(view=False), torch.randn(32, 5, 3)),
        (nn.LSTM(3, 4), nn.LSTM(3, 4, batch_first=True), torch.randn(32, 5, 3)),
    ],
    ids=["softmax over the batch", "view for permute", "sequence axis first"],
)
def test_mixed_samples_are_seen(planted, repaired, x):
    assert value("mixing", "probe.mixing", planted, data=(x, batch()[1])) > 0.05
    assert value("mixing", "probe.mixing", repaired, data=(x, batch()[1])) < 1e-4


def test_batch_norm_in_training_does_not_count_as_mixing():
    assert value("mixing", "probe.mixing", dense(nn.BatchNorm1d(16))) == 0


def test_a_model_that_does_not_look_is_seen():
    assert value("input_matters", "probe.input_matters", Deaf(0.0)) == 0
    assert value("input_matters", "probe.input_matters", Deaf(1.0)) > 0.1
    numbers = torch.arange(32) % 10
    table = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 4))
    assert value("input_matters", "probe.input_matters", table, data=(numbers, batch()[1])) > 0.1


def test_too_much_dropout_shows_between_the_modes():
    def trained(share):
        model, (x, y) = dense(nn.Dropout(share), width=64), batch()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            CE(model(x), y).backward()
            optimizer.step()
        return value("mode_gap", "probe.mode_gap", model)

    assert trained(0.98) > 0.5
    assert abs(trained(0.0)) < 1e-4


def test_sharpness_is_the_largest_eigenvalue():
    torch.manual_seed(0)
    x, y = torch.randn(50, 6) * torch.tensor([5.0, 2, 1, 1, 1, 1]), torch.randn(50, 1)
    exact = float(torch.linalg.eigvalsh(2 * x.T @ x / 50)[-1])
    model = nn.Linear(6, 1, bias=False)
    found = value("sharpness", "probe.sharpness", model, loss_fn=nn.MSELoss(), data=(x, y))
    assert found == pytest.approx(exact, rel=0.02)


def test_sharpness_is_found_behind_a_larger_negative_curvature():
    curvatures = torch.tensor([1.0, -3.0, 0.5], dtype=torch.float64)
    start = torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    point = start.clone()
    found = sharpness([point], lambda: [curvatures * point], lambda: point.copy_(start), rounds=200)
    assert found == pytest.approx(1.0, rel=0.05)


def test_a_rate_above_what_the_sharpness_allows_diverges():
    x, y = torch.randn(50, 6), torch.randn(50, 1)
    model = nn.Linear(6, 1)
    limit = 2 / value("sharpness", "probe.sharpness", model, loss_fn=nn.MSELoss(), data=(x, y))
    above, below = (
        probe("rates", model, loss_fn=nn.MSELoss(), data=(x, y), lr=factor * limit)[0]
        for factor in (1.5, 0.5)
    )
    assert above["probe.same"] > above["probe.start"]
    assert below["probe.same"] < below["probe.start"]


def test_all_quantities_are_known_and_everything_is_put_back():
    model = dense(nn.BatchNorm1d(16), nn.Dropout(0.2))
    x, y = batch()
    CE(model(x), y).backward()
    optimizer = torch.optim.Adam(model.parameters())
    recording = Recording()
    recording.add(0, "", "loss", 1.0)
    tensors = [*model.state_dict().values(), *(one.grad for one in model.parameters())]
    before, state = [one.tolist() for one in tensors], torch.get_rng_state()
    assert run_probes(model, CE, x, y, optimizer, recording, 7)[0].startswith("the probe 'fresh_gradient'")
    assert [one.tolist() for one in tensors] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not optimizer.state
    assert recording.steps == 1
    names = {rows.quantity for rows in recording.rows()}
    known = {name for name in QUANTITIES if name.startswith("probe.")}
    larger = {name for name in known if name.startswith("probe.signal")}  # they need 200 samples
    assert known - larger - {"probe.fresh_gradient"} <= names


def test_with_a_closure_alone_only_the_batch_itself_is_measured():
    model, (x, y) = dense(), batch()
    recording = Recording()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    skipped = run_probes(model, None, x, y, optimizer, recording, 0, closure=lambda: CE(model(x), y))
    assert recording.first("probe.same") < recording.first("probe.start")
    assert recording.has("probe.sharpness")
    assert [words.split("'")[1] for words in skipped] == ["permuted", "duplicate", "noise", "fresh_gradient"]
    assert "as it is" in skipped[0]


def test_what_a_model_refuses_is_named_and_not_raised():
    def strict(x):
        if len(x) != 32:
            raise ValueError("32 samples, please")
        return CE(x, batch()[1])

    values, skipped = probe("duplicate", dense(), loss_fn=lambda out, _: strict(out))
    assert not values
    assert skipped == [
        "the probe 'duplicate' was not made, because the model raised ValueError: 32 samples, please"
    ]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("permuted", {"data": (batch()[0], torch.zeros(32, dtype=torch.long))}, "all targets are the same"),
        ("mixing", {"data": (batch()[0][:1], batch()[1][:1])}, "a single sample"),
        ("fresh_gradient", {}, "hold no gradient"),
        ("overfit", {"loss_fn": lambda out, _: -out.square().sum()}, "the loss at the start is -"),
        ("sharpness", {"loss_fn": lambda out, _: out.detach().sum()}, "no gradient of the loss"),
    ],
)
def test_why_a_probe_was_not_made(name, options, words):
    values, skipped = probe(name, dense(), **options)
    assert not values
    assert words in skipped[0]


def test_a_training_that_blows_up_counts_as_infinite():
    values = probe("rates", nn.Linear(8, 1), loss_fn=lambda out, _: out.square().square().sum(), lr=1e3)[0]
    assert values["probe.same"] == math.inf


# ---- inside a training that is only watched


def watched(model, loss_fn, data, lr=0.3):
    """Probes on a step of a program that nobody knows but by its graph."""
    recording, warnings = Recording(), []
    probing = Probing({"": model}, recording, warnings)
    probing.attach()
    x, y = data
    out = model(x)
    loss = loss_fn(out, y)
    seen = find_loss(loss.grad_fn, Marks())
    if seen is not None:
        probing.loss(seen, out, loss.detach())
    loss.backward()
    probing.run(0, torch.optim.SGD(model.parameters(), lr=lr))
    probing.detach()
    return recording, warnings


NUMBERS = torch.linspace(0, 1, 32)[:, None].expand(32, 4).contiguous()


@pytest.mark.parametrize(
    ("loss_fn", "targets"),
    [
        (CE, batch()[1]),
        (lambda out, y: CE(out, y) / 4, batch()[1]),
        (nn.CrossEntropyLoss(reduction="sum"), batch()[1]),
        (nn.MSELoss(), NUMBERS),
        (nn.BCEWithLogitsLoss(), NUMBERS),
        (nn.SmoothL1Loss(), NUMBERS),
    ],
    ids=["cross entropy", "a quarter of it", "sum", "squares", "yes or no", "smooth"],
)
def test_a_loss_is_computed_again_from_its_graph(loss_fn, targets):
    model = dense(nn.Dropout(0.1))
    recording, warnings = watched(
        model,
        loss_fn,
        (batch()[0], targets),
        lr=0.005 if "sum" in str(getattr(loss_fn, "reduction", "")) else 0.2,
    )
    assert recording.first("probe.start") == pytest.approx(
        float(loss_fn(model(batch()[0]), targets).detach()), rel=0.2
    )
    assert recording.first("probe.same") < recording.first("probe.start")
    assert recording.has("probe.mixing")
    assert [words.split("'")[1] for words in warnings] == ["fresh_gradient"]  # dropout


@pytest.mark.parametrize(
    ("loss_fn", "because"),
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([9.0, 1, 1, 1])), "the loss cannot be computed again"),
        (nn.CrossEntropyLoss(label_smoothing=0.5), "cannot be computed again"),
        (lambda out, y: CE(out, y) + out.square().mean(), "has parts"),
        (lambda out, y: out.gather(1, y[:, None]).exp().sum().log(), "no loss was seen"),
    ],
    ids=["class weights", "label smoothing", "a second term", "an unknown loss"],
)
def test_a_loss_that_cannot_be_made_again_is_named(loss_fn, because):
    recording, warnings = watched(dense(), loss_fn, batch())
    assert not list(recording.rows())
    assert len(warnings) == 1
    assert because in warnings[0]


def test_several_models_are_not_probed():
    warnings = []
    probing = Probing({"a": dense(), "b": dense()}, Recording(), warnings)
    probing.attach()
    probing.run(0, None)
    assert warnings == ["the probes were not run, because several models are trained"]


# ---- later in a training


def long_training(*, watch, rate=lambda _: 1.0, steps=60):
    """Dropout, batch norm and momentum, a rate that follows a schedule; the weights at the end."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    x, y = batch(256)
    with record(model, optimizer, probe=True) if watch else nullcontext() as run:
        for step in range(steps):
            rows = torch.arange(32 * step, 32 * step + 32) % 256
            optimizer.zero_grad()
            CE(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    return [*model.state_dict().values(), torch.get_rng_state()], run


def test_probes_are_run_later_too_and_change_nothing():
    plain, _ = long_training(watch=False)
    watched, run = long_training(watch=True)
    assert all(torch.equal(one, other) for one, other in zip(watched, plain, strict=True))
    assert run.recording.series("probe.start").steps.tolist() == [0, 40]
    assert run.recording.series("probe.overfit").steps.tolist() == [0]
    assert run.recording.at("probe.start", "", 40) < run.recording.at("probe.start", "", 0)
    assert run.recording.steps == 60
    assert len(run.recording.series("grad_norm", "0").steps) == len([s for s in range(60) if is_measured(s)])


def test_a_rate_that_became_too_low_is_seen_by_the_later_probe():
    slow = long_training(watch=True, rate=lambda step: 1.0 if step < 2 else 0.02)[1].diagnose()
    assert [(one.code, one.step) for one in slow.findings] == [("LRN002", 40)]
    sound = long_training(watch=True)[1].diagnose()
    assert sound.healthy, sound.findings
