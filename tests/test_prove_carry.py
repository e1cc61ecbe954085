"""Trials whose further seeds are trained on the engine, where it does the same as PyTorch."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from unstuck.prove import prove  # noqa: E402
from unstuck.prove.carry.carry import Carry, _difference, fisher  # noqa: E402
from unstuck.prove.carry.order import Order, order_of  # noqa: E402
from unstuck.prove.carry.seen import Facts, Seen, Step  # noqa: E402
from unstuck.prove.success import parse_success  # noqa: E402
from unstuck.prove.torch.factory import TorchSubject  # noqa: E402

nn, F = torch.nn, torch.nn.functional


def chain(act=nn.Tanh):
    return nn.Sequential(nn.Linear(3, 8), act(), nn.Linear(8, 1))


def tuple_factory(
    rate=3.0, steps=30, model=chain, loss=lambda out, y: F.mse_loss(input=out, target=y), **options
):
    def make(_seed):
        x = torch.randn(64, 3)
        net = model()
        return net, torch.optim.SGD(net.parameters(), lr=rate, **options), loss, [(x, x[:, :1])] * steps

    return make


def loop_factory(train):
    def make(_seed):
        x = torch.randn(70, 3)
        net = chain()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        return lambda: train(net, optimizer, x, (x[:, :1] > 0).float())

    return make


def epochs(net, optimizer, x, y, *, order=torch.randperm, extra=lambda _net: 0.0, after=lambda: None):
    for _ in range(6):
        for batch in order(len(x)).split(16):
            optimizer.zero_grad()
            (F.binary_cross_entropy_with_logits(net(x[batch]), y[batch]) + extra(net)).backward()
            after()
            optimizer.step()


def seen(make, treatment=None, steps=None):
    subject = TorchSubject(make)
    subject.plan = subject.row(None, 3).plan
    return subject.capture(treatment, 5, steps)


def test_more_seeds_are_trained_on_the_engine_and_agree_with_pytorch():
    result = prove(tuple_factory(), ["lr*0.01", "data=standardise"], seeds=5, engine_seeds=30)
    told = result.engine
    assert [one.treatment for one in told.carried] == ["lr*0.01"]
    assert (told.carried[0].before.successes, told.carried[0].after.successes) == (0, 30)
    assert told.carried[0].difference.low > 0.8
    assert told.refused["data=standardise"] == "the engine does not follow data=..."
    assert told.values["carried"][0]["after"] == {"successes": 30, "trials": 30}


@pytest.mark.parametrize(
    "treatment",
    [
        None,
        "lr*0.1",
        "clip=0.5",
        "init=he_normal",
        "bias=0.3",
        "activation=ReLU",
        "insert=batch_norm",
        "optimizer=adam",
        "width*2",
        "schedule=warmup",
    ],
)
def test_the_engines_first_losses_are_pytorchs_with_each_treatment(treatment):
    whole = seen(tuple_factory(rate=0.5, momentum=0.9, steps=12), treatment)
    assert whole.facts.why_not == ""
    assert _difference(whole) == ""
    assert order_of(whole) == Order(1, shuffled=False)


def test_batches_that_are_dealt_anew_are_told_from_a_fixed_order_and_from_new_samples():
    assert order_of(seen(loop_factory(epochs))) == Order(5, shuffled=True)
    fixed = loop_factory(lambda *given: epochs(*given, order=torch.arange))
    assert order_of(seen(fixed)) == Order(5, shuffled=False)
    drawn = loop_factory(lambda *given: epochs(*given, order=lambda n: torch.randint(n, (n,))))
    assert "not made of the same samples" in order_of(seen(drawn))
    blocks = loop_factory(
        lambda *given: epochs(
            *given, order=lambda n: torch.arange(n).reshape(-1, 14)[torch.randperm(5)].ravel()
        )
    )
    assert order_of(seen(blocks)) == "its batches are neither in one order nor dealt at random"


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = chain()

    def forward(self, x):
        return 2 * self.net(x)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (tuple_factory(model=Doubled), "Doubled"),
        (
            tuple_factory(model=lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 1))),
            "dropout",
        ),
        (tuple_factory(loss=lambda out, y: F.l1_loss(input=out, target=y)), "no l1_loss"),
        (tuple_factory(loss=lambda out, y: ((out - y) ** 2).mean()), "0 loss functions"),
        (tuple_factory(loss=lambda out, y: F.mse_loss(out.tanh(), y)), "stands between"),
        (tuple_factory(loss=lambda out, y: F.mse_loss(out, y, reduction="sum")), "reduction='sum'"),
        (tuple_factory(momentum=0.9, dampening=0.1), "dampening=0.1"),
    ],
)
def test_what_the_engine_has_no_twin_of_is_a_reason(make, why):
    assert why in seen(make).facts.why_not


@pytest.mark.parametrize(
    "change",
    [
        {"extra": lambda net: 0.1 * sum((one**2).sum() for one in net.parameters())},
        {"extra": lambda net: (3 * net[0].weight).sum()},
    ],
)
def test_a_term_of_the_loss_that_the_engine_does_not_see_is_found_by_the_first_losses(change):
    whole = seen(loop_factory(lambda *given: epochs(*given, **change)))
    assert whole.facts.why_not == ""
    assert "not the same training" in _difference(whole)


def test_gradients_that_are_scaled_by_hand_are_found_by_the_first_losses():
    def train(net, optimizer, x, y):
        def after():
            for one in net.parameters():
                one.grad *= 1.1

        epochs(net, optimizer, x, y, after=after)

    assert "not the same training" in _difference(seen(loop_factory(train)))


def test_other_odds_than_pytorchs_are_not_used():
    make = tuple_factory()
    result = prove(make, ["lr*0.01"], seeds=5, success="loss<0.8", engine_seeds=0)
    assert result.engine is None
    unchanged, treated = result.arms["unchanged"], result.arms["lr*0.01"]
    turned = replace(treated, success=~treated.success)  # as if PyTorch had failed
    carry = Carry(TorchSubject(make).capture, parse_success("loss<0.8"), 30)
    told = carry.run({None: unchanged, "lr*0.01": turned})
    assert told.carried == ()
    assert "not the same training" in told.refused["lr*0.01"]
    assert [one.treatment for one in carry.run({None: unchanged, "lr*0.01": treated}).carried] == ["lr*0.01"]


def test_runs_that_are_all_the_same_are_not_multiplied():
    def make(_seed):
        x = torch.linspace(-1, 1, 60).reshape(20, 3)
        net = nn.Linear(3, 1)
        nn.init.zeros_(net.weight), nn.init.zeros_(net.bias)
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        return net, optimizer, torch.nn.functional.mse_loss, [(x, x[:, :1])] * 20

    told = prove(make, ["lr*10"], seeds=4, engine_seeds=30).engine
    assert told.carried == ()
    assert "every seed gives the same run" in told.refused["unchanged"]
    assert told.lines[0].startswith("not carried over to the engine: every seed")


def test_fishers_test_is_scipys():
    from scipy.stats import fisher_exact

    for a, b, c, d in [(0, 6, 10, 20), (3, 8, 150, 200), (5, 5, 5, 9)]:
        assert fisher(a, b, c, d) == pytest.approx(fisher_exact([[a, b - a], [c, d - c]])[1])


def test_what_was_seen_is_kept_without_loss(tmp_path):
    step = Step(0, 0.1, None, 2.0, None)
    facts = Facts(
        layers=[("0", "Linear", {"in_features": 1})], numbers={"betas": [0.9, 0.999]}, steps=(step,)
    )
    kept = Seen(
        facts, {"0.weight": np.ones((1, 1), np.float32)}, (np.ones((2, 1)),), (np.zeros(2, np.int64),)
    )
    kept.save(tmp_path)
    found = Seen.load(tmp_path)
    assert found.facts == facts
    assert found.state["0.weight"].dtype == np.float32
    assert found.targets[0].dtype == np.int64
    assert np.isnan(found.losses).all()
