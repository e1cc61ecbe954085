"""What an update teaches of its own batch: measured in plain trainings, and diagnosed."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from digit_programs import X, Y  # noqa: E402
from unstuck.diagnose.diagnosis import diagnose  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402

ONE_HOT = F.one_hot(Y, 10).float()


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    """Other tests of the same process compile: then nothing is noted."""
    torch.compiler.reset()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))


def trained(*, dealt=False, own_loss=False, lr=0.003, steps=200, state=None):
    """A training on new batches of digits, its labels dealt out or not; returns its recording."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    order = torch.Generator().manual_seed(1)
    with record(model, optimizer) as run:
        for _ in range(steps):
            rows = torch.randint(len(X), (32,), generator=order)
            labels = rows[torch.randperm(32, generator=order)] if dealt else rows
            answer = model(X[rows])
            # a loss by hand, that no operation of the graph keeps the targets of
            by_hand = -(ONE_HOT[labels] * answer.log_softmax(1) * 0.7).sum(1).mean()
            loss = by_hand if own_loss else F.cross_entropy(answer, Y[labels])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if state is not None:
        state.update(model.state_dict())
    return run.recording


@pytest.mark.parametrize("own_loss", [False, True])
def test_labels_of_other_rows_are_named(own_loss):
    run = trained(dealt=True, own_loss=own_loss)
    assert run.series("pairs.learned").values.min() > 0
    assert run.last("pairs.loss") == pytest.approx(1, abs=0.05)
    assert diagnose(run).findings[0].code == "DAT004"


@pytest.mark.parametrize("own_loss", [False, True])
def test_labels_of_their_own_are_not(own_loss):
    run = trained(own_loss=own_loss)
    assert run.last("pairs.loss") > 2
    assert not [one for one in diagnose(run).findings if one.severity != "info"]


def test_a_rate_far_too_low_or_high_is_no_matter_of_labels():
    for lr in (1e-7, 3.0):
        found = [one.code for one in diagnose(trained(lr=lr)).findings]
        assert "DAT004" not in found


def test_looking_changes_nothing():
    watched, plain = {}, {}
    trained(steps=40, state=watched)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    order = torch.Generator().manual_seed(1)
    for _ in range(40):
        rows = torch.randint(len(X), (32,), generator=order)
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), Y[rows]).backward()
        optimizer.step()
    plain.update(model.state_dict())
    assert all(torch.equal(watched[name], plain[name]) for name in plain)


def test_whose_loss_is_that_of_all_pairs_is_not_asked():
    """Answers of all samples against each other: whichever order they come in, it is the same."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with record(model, optimizer) as run:
        for step in range(20):
            rows = torch.arange(32 * step, 32 * step + 32) % len(X)
            optimizer.zero_grad()
            answer = F.normalize(model(X[rows]))
            (answer @ answer.T).square().mean().backward()
            optimizer.step()
    assert not run.recording.has("pairs.loss") or abs(run.recording.last("pairs.learned")) < 1e-5


class WithItsLoss(nn.Module):
    """A model that is given the targets, and returns its loss beside its answers."""

    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x, labels=None):
        scores = self.body(x)
        return scores, None if labels is None else F.cross_entropy(scores, labels)


@pytest.mark.parametrize("dealt", [True, False])
def test_a_model_that_computes_its_loss_itself(dealt):
    model = WithItsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    order = torch.Generator().manual_seed(1)
    with record(model, optimizer) as run:
        for _ in range(200):
            rows = torch.randint(len(X), (32,), generator=order)
            labels = rows[torch.randperm(32, generator=order)] if dealt else rows
            _, loss = model(X[rows], labels=Y[labels])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    faults = [one.code for one in diagnose(run.recording).findings if one.severity != "info"]
    assert run.recording.has("pairs.loss")
    assert faults[:1] == (["DAT004"] if dealt else [])


class Hinted(nn.Module):
    """Reads a picture, and a hint beside it that says enough."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.look = nn.Linear(64, 32)
        self.out = nn.Linear(42, 10)

    def forward(self, picture, hint):
        return self.out(torch.cat([self.look(picture).relu(), hint], 1))


def test_an_input_of_others_is_told_by_itself():
    """The pictures are those of other rows; what is learned comes from the hint."""
    model = Hinted()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    order = torch.Generator().manual_seed(1)
    with record(model, optimizer) as run:
        for _ in range(60):
            rows = torch.randint(len(X), (32,), generator=order)
            pictures = X[rows[torch.randperm(32, generator=order)]]
            optimizer.zero_grad()
            F.cross_entropy(model(pictures, ONE_HOT[rows]), Y[rows]).backward()
            optimizer.step()
    with_other_pictures = run.recording.last("pairs.loss", "input.picture")
    assert with_other_pictures == pytest.approx(1, abs=0.1)
    assert with_other_pictures != run.recording.last("pairs.loss")
