import numpy as np
import pytest

from traces import facts, linear, recorded, told
from unstuck.diagnose.bounds import load_bounds
from unstuck.diagnose.diagnosis import diagnose
from unstuck.diagnose.registry import NotChecked
from unstuck.diagnose.rules.imbalance import class_imbalance
from unstuck.trace.baseline import baseline_loss
from unstuck.trace.minority import minority_stats

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.nn import functional as F  # noqa: E402, N812  (after the test for PyTorch)

from unstuck.sources.torch.record import record  # noqa: E402

BOUNDS = load_bounds()


def two_kinds(rare, apart, count=2000):
    draw = torch.Generator().manual_seed(0)
    y = (torch.rand(count, generator=draw) < rare).long()
    x = torch.randn(count, 10, generator=draw)
    x[:, :3] += apart * y[:, None]
    return x, y


def trained(x, y, *, lr=0.1, steps=200, decay=0.0, weight=None, binary=False):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2 - binary))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=decay)
    with record(model, optimizer) as run:
        for step in range(steps):
            rows = torch.arange(100 * step, 100 * step + 100) % len(x)
            optimizer.zero_grad()
            if binary:
                loss = F.binary_cross_entropy_with_logits(model(x[rows])[:, 0], y[rows].float())
            else:
                loss = F.cross_entropy(model(x[rows]), y[rows], weight=weight)
            loss.backward()
            optimizer.step()
    return run.recording


@pytest.mark.parametrize("binary", [False, True], ids=["two scores", "yes or no"])
def test_rare_samples_that_are_told_apart_and_never_named(binary):
    run = trained(*two_kinds(0.04, 2.5), decay=0.1, binary=binary)
    assert told(class_imbalance(run, BOUNDS)) == [("DAT005", "warning", None)]
    (first,) = [one for one in diagnose(run).findings if one.code == "DAT005"]
    assert [one.id for one in first.treatments] == ["weights=balanced"]


def test_the_same_with_balanced_weights_is_healthy():
    x, y = two_kinds(0.04, 2.5)
    run = trained(x, y, decay=0.1, weight=1 / torch.bincount(y))
    assert diagnose(run).healthy  # the best constant answer is that of the weighted loss
    assert class_imbalance(run, BOUNDS) == []


SOUND = {
    "rare and learned": lambda: trained(*two_kinds(0.04, 3.0), lr=0.3, steps=300),
    "rare and learned, yes or no": lambda: trained(*two_kinds(0.04, 3.0), lr=0.3, steps=300, binary=True),
    "fifteen of a hundred": lambda: trained(*two_kinds(0.15, 2.0), steps=150),
    "as many of both": lambda: trained(*two_kinds(0.5, 1.0), steps=150),
    "a third": lambda: trained(*two_kinds(0.33, 1.0), steps=150),
    "overlapping classes": lambda: trained(*two_kinds(0.06, 0.8), lr=0.3, steps=300),
    "no signal": lambda: trained(*two_kinds(0.05, 0.0), steps=150),
}


@pytest.mark.parametrize("name", SOUND)
def test_imbalance_that_does_no_harm(name):
    assert [one for one in class_imbalance(SOUND[name](), BOUNDS) if one.severity != "info"] == []


# ---- by its numbers


def run_of(share=0.04, samples=4.0, recall=0.0, apart=0.99, final=0.1, **more):
    network = {"minority__share": share, "minority__samples": samples, "minority__recall": recall}
    return recorded(
        [linear("fc", "input")], "CrossEntropyLoss", facts("fc"), start=0.7, final=final, baseline=0.17,
        minority__apart=apart, **network, **more,
    )  # fmt: skip


def test_numbers():
    assert told(class_imbalance(run_of(), BOUNDS)) == [("DAT005", "warning", None)]
    assert told(class_imbalance(run_of(apart=0.85), BOUNDS)) == [("DAT005", "info", None)]  # they overlap
    assert class_imbalance(run_of(apart=0.6), BOUNDS) == []
    assert class_imbalance(run_of(recall=0.5), BOUNDS) == []
    assert class_imbalance(run_of(share=0.3), BOUNDS) == []
    with pytest.raises(NotChecked, match="10 are needed"):
        class_imbalance(run_of(samples=0.1), BOUNDS)


# ---- what is measured


def test_minority_against_plain_counting():
    rng = np.random.default_rng(0)
    labels = np.where(rng.uniform(size=60) < 0.2, rng.integers(1, 3, 60), 0)
    scores = rng.standard_normal((60, 3)).round(1)  # with ties
    found = minority_stats(scores, labels, labels, "CrossEntropyLoss")
    rare = [i for i in range(60) if labels[i] != 0]
    margin = [scores[i, 0] - max(scores[i, 1], scores[i, 2]) for i in range(60)]
    wins = [
        1.0 if margin[i] < margin[j] else 0.5 if margin[i] == margin[j] else 0.0
        for i in rare for j in range(60) if labels[j] == 0
    ]  # fmt: skip
    assert found["minority.samples"] == len(rare)
    assert found["minority.share"] == pytest.approx(len(rare) / 60)
    assert found["minority.recall"] == pytest.approx(
        sum(int(np.argmax(scores[i])) == labels[i] for i in rare) / len(rare)
    )
    assert found["minority.apart"] == pytest.approx(sum(wins) / len(wins))


def test_what_has_no_minority():
    even = np.array([0, 1, 0, 1])
    assert minority_stats(np.zeros((4, 2)), even, even, "CrossEntropyLoss") == {"minority.share": 0.5}
    assert minority_stats(np.zeros((4, 1)), np.array([0.2, 0, 0, 1]), None, "BCEWithLogitsLoss") == {}
    assert minority_stats(np.full((4, 2), np.nan), even, even, "CrossEntropyLoss") == {}
    outside = np.array([0, 0, 0, 7])
    assert minority_stats(np.zeros((4, 2)), outside, outside, "CrossEntropyLoss") == {}


def test_the_best_constant_answer_of_a_weighted_loss():
    labels, weights = np.array([0, 0, 0, 1]), np.array([1.0, 3.0])
    assert baseline_loss("CrossEntropyLoss", labels, 2, weights) == pytest.approx(np.log(2))
    scores = torch.zeros(4, 2)
    best = F.cross_entropy(scores, torch.tensor(labels), weight=torch.tensor(weights).float())
    assert best.item() == pytest.approx(np.log(2))
