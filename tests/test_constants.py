"""The best constant answer of losses of any kind: the program's own loss, computed once more."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck import record
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.outcome import outcome
from unstuck.sources.torch import constants
from unstuck.sources.torch.constants import settled
from unstuck.sources.torch.tape import Tape
from unstuck.trace.recording import Meta, Recording

X = torch.randn(512, 6, generator=torch.Generator().manual_seed(0))
NUMBER = X[:, 1:2] + 0.3 * torch.randn(512, 1, generator=torch.Generator().manual_seed(1))
BATCH = 64


@pytest.fixture(autouse=True)
def nothing_is_compiled():
    """Other tests of the same process compile: then nothing is noted."""
    torch.compiler.reset()


def watched(loss, *, steps=60, lr=1e-2, outputs=1, before=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, outputs))
    optimizer = torch.optim.Adam(net.parameters(), lr)
    batches = []
    with record(net, optimizer) as run:
        for _ in range(steps):
            rows = torch.randint(512, (BATCH,))
            batches.append(rows)
            optimizer.zero_grad()
            if before is not None:
                before(net)
            loss(net, X[rows], NUMBER[rows]).backward()
            optimizer.step()
    assert not run.warnings
    return run.recording, batches, [p.detach().clone() for p in net.parameters()]


def pinball(net, x, y, q=0.9):
    difference = y - net(x)
    return torch.maximum(q * difference, (q - 1) * difference).mean()


def density(net, x, y):
    mean, log_sigma = net(x).chunk(2, dim=1)
    return (0.5 * ((y - mean) * torch.exp(-log_sigma)) ** 2 + log_sigma).mean()


def nce(net, x, _):
    one, other = (functional.normalize(net(x + 0.05 * torch.randn_like(x)), dim=1) for _ in range(2))
    similar = one @ other.t() / 0.2
    return (torch.logsumexp(similar, 1) - similar.diag()).mean()


def triplet(net, x, y):
    order = torch.argsort(y[:, 0])
    return functional.triplet_margin_loss(net(x[order[:20]]), net(x[order[1:21]]), net(x[order[-20:]]))


def in_place(net, x, y):
    total = torch.zeros(())
    for one in net(x).sub(y).abs().split(16):
        total += one.mean()
    return total / 4


def last(recording, quantity="constant_loss"):
    return recording.series(quantity).values


def test_a_quantile_is_found():
    recording, batches, _ = watched(pinball)
    found = recording.series("constant_loss")
    for step, value in list(zip(found.steps.tolist(), found.values.tolist(), strict=True))[:1]:
        y = NUMBER[batches[step]]
        difference = y - torch.quantile(y, 0.9)
        assert value == pytest.approx(
            float(torch.maximum(0.9 * difference, -0.1 * difference).mean()), rel=0.02
        )
    assert diagnose(recording).outcome.word == "learned"


def test_a_constant_far_from_the_answers_is_found():
    """Targets in other units: the search goes as far as it must."""

    def far(net, x, y):
        return functional.smooth_l1_loss(net(x), 1e6 + 2e5 * y)

    recording, _, _ = watched(far, steps=20)
    usual = float((2e5 * (NUMBER - NUMBER.median())).abs().mean())
    assert last(recording).size
    assert float(np.median(last(recording))) == pytest.approx(usual, rel=0.1)
    assert diagnose(recording).findings[0].code == "OUT008"


def test_a_density_is_fitted_by_one_of_its_kind():
    recording, _, _ = watched(density, outputs=2)
    true = float(NUMBER.std().log()) + 0.5
    assert float(np.median(last(recording))) == pytest.approx(true, abs=0.1)
    assert not last(recording, "constant_falls").any()
    assert diagnose(recording).outcome.word == "learned"


def with_variance(net, x, y):
    """It refuses variances below 0."""
    mean, raw = net(x).chunk(2, dim=1)
    return functional.gaussian_nll_loss(mean, y, 1 + 0.1 * raw)


def test_answers_that_the_loss_refuses_are_left_again():
    recording, _, _ = watched(with_variance, outputs=2, lr=1e-3)
    assert last(recording).size >= 6
    assert float(np.median(last(recording))) == pytest.approx(float(NUMBER.std().log()) + 0.5, abs=0.1)


@pytest.mark.parametrize(("loss", "best"), [(nce, math.log(BATCH)), (triplet, 1.0)])
def test_two_calls_of_one_network_give_one_constant(loss, best):
    recording, _, _ = watched(loss, outputs=4)
    assert last(recording).size >= 6
    assert last(recording) == pytest.approx(best, rel=1e-3)
    assert diagnose(recording).outcome.word == "learned"
    assert last(recording, "output_variation").size >= 6


def test_sums_made_in_place():
    recording, batches, _ = watched(in_place)
    y = NUMBER[batches[0]]
    assert last(recording)[0] == pytest.approx(float((y - y.median()).abs().mean()), rel=0.02)


def equation(net, x, _):
    """u' = -u, u(0) = 1 along the first input."""
    at = x.clone().requires_grad_()
    value = net(at)
    slope = torch.autograd.grad(value.sum(), at, create_graph=True)[0][:, :1]
    return ((slope + value) ** 2).mean() + ((net(torch.zeros(1, 6)) - 1) ** 2).mean()


def test_slopes_of_a_constant_are_zero():
    recording, _, _ = watched(equation)
    assert last(recording) == pytest.approx(0.5, rel=1e-2)  # u^2 + (u - 1)^2 at 1/2
    assert not {one.code for one in diagnose(recording).findings} & {"INI001", "INI002"}


def drawn(net, x, y):
    shown = torch.distributions.Categorical(logits=net(x))
    return -(shown.log_prob(shown.sample()) * y[:, 0]).mean()


def stopped(net, x, y):
    answer = net(x)
    return ((y - answer) * (y - answer).detach()).mean()


def one_number(net, x, y):
    return (net(x).mean() - y.mean()) ** 2 + net(x).var().log() * out_of_sight(net, x)


def out_of_sight(net, x):
    inner = nn.functional.linear(x, net[0].weight)
    return (
        inner.detach().mean() + torch.autograd.grad(net(x).sum(), net[0].weight, create_graph=True)[0].sum()
    )


@pytest.mark.parametrize("loss", [drawn, stopped, one_number])
def test_what_is_no_function_of_the_answers_alone_is_left_alone(loss):
    recording, _, _ = watched(loss, outputs=3, steps=20)
    assert not recording.has("constant_loss")


def test_a_loss_that_is_known_is_not_tried(monkeypatch):
    tried = []
    monkeypatch.setattr(constants, "descend", lambda *_, **__: tried.append(1))
    recording, _, _ = watched(lambda net, x, y: functional.mse_loss(net(x), y))
    assert recording.has("baseline_loss")
    assert not recording.has("constant_loss")
    assert not tried


@pytest.mark.parametrize("loss", [pinball, nce, triplet, in_place])
def test_the_training_is_the_same(loss, monkeypatch):
    _, _, watched_weights = watched(loss, outputs=4)
    monkeypatch.setattr(Tape, "answered", lambda *_: None)
    recording, _, plain = watched(loss, outputs=4)
    assert not recording.has("constant_loss")
    assert all(torch.equal(one, other) for one, other in zip(plain, watched_weights, strict=True))


def test_what_fails_there_stays_there(monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(constants, "descend", broken)
    recording, _, _ = watched(pinball)
    assert recording.steps == 60
    assert not recording.has("constant_loss")


def test_no_mode_is_left_behind():
    def fails(net, x, _):
        net(x)
        raise KeyError

    with pytest.raises(KeyError):
        watched(fails)
    assert torch._C._len_torch_function_stack() == 0


@pytest.mark.parametrize("flip", [False, True])
def test_a_program_with_a_mode_of_its_own_keeps_it(flip):
    def loss(net, x, y):
        if flip:
            answer = net(x)
            with torch.device("cpu"):
                return (answer - y).abs().exp().mean()
        with torch.device("cpu"):
            return (net(x) - y).abs().exp().mean()

    recording, _, _ = watched(loss, steps=10)
    assert torch._C._len_torch_function_stack() == 0
    assert recording.has("constant_loss") == flip


def test_minus_a_likelihood_has_no_floor():
    right, _, _ = watched(density, outputs=2)
    assert "OUT009" not in {one.code for one in diagnose(right).findings}
    wrong, _, _ = watched(lambda *given: -density(*given), outputs=2)
    assert last(wrong, "constant_falls")[:3].all()
    found = diagnose(wrong).findings
    assert found[0].code == "OUT009"
    assert found[0].severity == "error"


def test_a_number_without_any_floor_or_ceiling_is_no_loss():
    recording, _, _ = watched(lambda net, x, y: (net(x) * y.sign()).mean())
    assert last(recording, "constant_rises")[0] == 1
    assert "OUT009" not in {one.code for one in diagnose(recording).findings}


def test_minus_a_loss_of_triplets_falls_and_falls():
    wrong, _, _ = watched(lambda *given: -triplet(*given), outputs=4, steps=150)
    assert not last(wrong, "constant_falls").any()  # two answers that are the same cannot move apart
    assert next(one.code for one in diagnose(wrong).findings) == "OUT009"

    def critic(net, x, y):
        answer = net(x)
        return answer[y < 0].mean() - answer[y > 0].mean()

    meant, _, _ = watched(critic, steps=150)
    assert last(meant, "loss")[-1] < -10
    assert "OUT009" not in {one.code for one in diagnose(meant).findings}


@pytest.mark.parametrize(("lr", "named"), [(1e-6, True), (1e-2, False)])
def test_a_rate_too_low_under_a_loss_of_unknown_kind(lr, named):
    recording, _, _ = watched(pinball, lr=lr, steps=200)
    assert ("LRN002" in {one.code for one in diagnose(recording).findings}) == named


def test_a_search_that_does_not_settle_says_nothing():
    slow = np.linspace(10, 5, 60)
    assert settled(slow, [], 1.0) == {"constant_falls": 0.0}
    assert settled(np.full(5, math.nan), [], 1.0) == {}
    assert settled(np.full(5, 2.0), [math.inf], 0.5) == {"constant_loss": 1.0, "constant_falls": 0.0}


def of_batches(apart, noise=3.0):
    """Losses of batches that differ by a lot, and the best constants of the same batches."""
    rng = np.random.default_rng(0)
    batch = noise * rng.standard_normal(200)
    run = Recording(meta=Meta(kind="torch", loss="Own"))
    for step in range(200):
        run.add(step, "", "loss", float(2 + batch[step] + apart * min(step / 100, 1)))
    for step in (0, 1, 2, 4, 10, 25, 63, 100, 140, 158, 180):
        run.add(step, "", "constant_loss", float(2 + batch[step] + 0.02 * rng.standard_normal()))
    run.steps = 200
    return run


@pytest.mark.parametrize(("apart", "word"), [(-0.8, "learned"), (0.0, "not learned"), (-0.05, "not learned")])
def test_batches_are_compared_with_their_own_constants(apart, word):
    assert outcome(of_batches(apart), load_bounds().outcome).word == word


@pytest.mark.parametrize(("followed", "word"), [(0.0, "learned"), (0.97, "not learned")])
def test_constants_that_drift_are_no_noise(followed, word):
    """An agent's returns grow, and with them what their best constant costs."""
    rng = np.random.default_rng(0)
    run = Recording(meta=Meta(kind="torch", loss="Own"))
    constants = np.exp(np.arange(200) / 30)
    for step, constant in enumerate(constants):
        run.add(step, "", "loss", float((0.1 + followed * constant) * (1 + 0.1 * rng.standard_normal())))
    for step in (0, 1, 2, 4, 10, 25, 63, 100, 140, 158, 180):
        run.add(step, "", "constant_loss", float(constants[step] * (1 + 0.1 * rng.standard_normal())))
    run.steps = 200
    assert outcome(run, load_bounds().outcome).word == word


@pytest.mark.parametrize(("lr", "named"), [(1e-6, True), (3e-2, False)])
def test_tables_that_hardly_move(lr, named):
    torch.manual_seed(0)
    users, items = torch.randint(20, (400,)), torch.randint(15, (400,))
    liked = (users % 3 == items % 3).float()

    class Factors(nn.Module):
        def __init__(self):
            super().__init__()
            self.user, self.item = nn.Embedding(20, 4), nn.Embedding(15, 4)

        def forward(self, u, i):
            return (self.user(u) * self.item(i)).sum(1)

    net = Factors()
    optimizer = torch.optim.Adam(net.parameters(), lr)
    with record(net, optimizer) as run:
        for _ in range(150):
            rows = torch.randint(400, (64,))
            good, bad = rows[liked[rows] == 1], rows[liked[rows] == 0]
            least = min(len(good), len(bad))
            good, bad = good[:least], bad[:least]
            better = net(users[good], items[good]) - net(users[bad], items[bad])
            optimizer.zero_grad()
            (-functional.logsigmoid(better)).mean().backward()
            optimizer.step()
    assert ("LRN002" in {one.code for one in diagnose(run.recording).findings}) == named


def test_functions_that_a_program_replaced_are_called_as_often_as_without(monkeypatch):
    """PyTorch hands a mode the function by its name, which would be the replaced one again."""
    plain, calls = torch.nn.functional.mse_loss, []

    def twice(*args):
        calls.append(1)
        return 2 * plain(*args)

    monkeypatch.setattr(torch.nn.functional, "mse_loss", twice)

    def train(*, watched):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        x, y = torch.randn(8, 3), torch.randn(8, 2)
        with record(model, optimizer) if watched else nullcontext():
            for _ in range(12):
                optimizer.zero_grad()
                out = model(x)
                loss = torch.nn.functional.mse_loss(out, y) + out.sigmoid().log().neg().mean()
                loss.backward()
                optimizer.step()
        return model.weight.detach().clone()

    assert torch.equal(train(watched=False), train(watched=True))
    assert len(calls) == 24
