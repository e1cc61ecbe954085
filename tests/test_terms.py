"""Losses that are sums of several: which of their terms is learned, and why another is not."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from digit_programs import X, Y  # noqa: E402
from unstuck.diagnose import terms as told  # noqa: E402
from unstuck.diagnose.bounds import load_bounds  # noqa: E402
from unstuck.diagnose.diagnosis import diagnose  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402
from unstuck.sources.torch.tape import Tape  # noqa: E402
from unstuck.sources.torch.terms import terms  # noqa: E402

INK = X.mean(1, keepdim=True)
"""A second thing to be said of a digit: how much of the picture is black."""
INK = (INK - INK.mean()) / INK.std()


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    """Other tests of the same process compile: then nothing is noted."""
    torch.compiler.reset()


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
        self.kind, self.ink = nn.Linear(48, 10), nn.Linear(48, 1)

    def forward(self, x):
        features = self.trunk(x)
        return self.kind(features), self.ink(features)


def trained(total, *, dealt=False, steps=400, twice=False):
    """A training of two heads on a sum of two losses, that `total` makes; returns its recording."""
    torch.manual_seed(0)
    model = TwoHeads()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    with record(model, optimizer) as run:
        for _ in range(steps):
            rows = torch.randint(len(X), (32,))
            kind, ink = model(X[rows])
            labels = Y[rows.roll(1)] if dealt else Y[rows]
            optimizer.zero_grad()
            found = total(kind, labels, ink, INK[rows])
            if twice:
                first, second = found
                first.backward(retain_graph=True)
                second.backward()
            else:
                found.backward()
            optimizer.step()
    return run.recording


def both(kind, y, ink, wanted):
    return F.cross_entropy(kind, y) + 2 * F.mse_loss(ink, wanted)


def argmax(kind, y, ink, wanted):
    return (kind.argmax(1) - y).float().square().mean() + F.mse_loss(ink, wanted)


def subtracted(kind, y, ink, wanted):
    return F.cross_entropy(kind, y) - 2 * F.mse_loss(ink, wanted)


def left_out(kind, y, ink, wanted):
    F.mse_loss(ink, wanted)
    return F.cross_entropy(kind, y)


def watched(kind, y, ink, wanted):
    """Errors that are printed, of answers that are trained by others."""
    F.l1_loss(ink, wanted)
    return F.cross_entropy(kind, y) + F.mse_loss(ink, wanted) + 0.01 * ink.square().mean()


def apart(kind, y, ink, wanted):
    return F.cross_entropy(kind, y), F.mse_loss(ink, wanted)


def first(run):
    found = diagnose(run).findings
    return (found[0].code, found[0].severity) if found else None


@pytest.mark.parametrize("total", [both, watched])
def test_what_is_learned_is_healthy(total):
    run = trained(total)
    assert diagnose(run).healthy
    found = {one.name: one for one in told.of_loss(run)}
    assert found["cross_entropy"].times > 2
    assert found["mse_loss"].times > 2


def test_a_penalty_compares_nothing():
    found = {one.name: one for one in told.of_loss(trained(watched))}
    assert found["mean"].blind
    assert not found["mse_loss"].blind


def test_two_backward_passes_forget_nothing():
    run = trained(apart, twice=True)
    assert not run.has("term.forgotten", "loss.mse_loss")
    assert diagnose(run).healthy


def test_a_term_that_lets_no_gradient_pass():
    run = trained(argmax)
    assert first(run) == ("GRD003", "warning")
    assert "argmax" in diagnose(run).findings[0].summary


def test_a_term_with_a_minus():
    assert first(trained(subtracted)) == ("OUT009", "error")


def test_a_loss_that_is_no_part_of_the_sum():
    run = trained(left_out)
    assert first(run) == ("GRD003", "warning")
    assert diagnose(run).findings[0].layer == "ink"


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.view_as(x)

    @staticmethod
    def backward(_, gradient):
        return -gradient


def test_a_guess_that_is_to_be_made_impossible():
    """Ganin et al. (2016): features from which nobody can tell where a picture is from."""

    class Adversarial(TwoHeads):
        def __init__(self):
            super().__init__()
            self.where = nn.Linear(48, 2)

        def forward(self, x):
            features = self.trunk(x)
            return self.kind(features), self.where(Reversed.apply(features))

    torch.manual_seed(0)
    model = Adversarial()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    with record(model, optimizer) as run:
        for _ in range(300):
            rows, where = torch.randint(len(X), (64,)), torch.randint(0, 2, (64,))
            kind, place = model(X[rows])
            optimizer.zero_grad()
            (F.cross_entropy(kind, Y[rows]) + F.cross_entropy(place, where)).backward()
            optimizer.step()
    assert {one.own for one in told.of_loss(run.recording)} == {False, True}
    assert told.left_out(run.recording, load_bounds()) is None


def test_an_answer_that_is_written_twice():
    class Span(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.start, self.end = nn.Linear(64, 48), nn.Linear(48, 10), nn.Linear(48, 10)

        def forward(self, x):
            features = self.trunk(x).relu()
            return self.start(features), self.end(features)

    def run(second):
        torch.manual_seed(0)
        model = Span()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
        with record(model, optimizer) as watched:
            for _ in range(300):
                rows = torch.randint(len(X), (32,))
                answers = model(X[rows])
                loss = F.cross_entropy(answers[0], Y[rows])
                loss = loss + F.cross_entropy(answers[second], (Y[rows] + 1) % 10)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return watched.recording

    found = diagnose(run(0)).findings[0]
    assert (found.code, found.layer) == ("GRD003", "end")
    assert "twice" in found.summary
    assert diagnose(run(1)).healthy


def test_labels_of_others_in_one_of_two_terms():
    run = trained(both, dealt=True)
    assert told.left_out(run, load_bounds()).summary.startswith("cross_entropy, one of the 2 terms")
    assert first(run)[0] in {"OUT010", "DAT008", "DAT004"}


def test_rows_that_do_not_fit_each_other_say_nothing():
    run = trained(both, steps=60)
    assert len(told.of_loss(run)) == 2
    run.add(59, "loss.mse_loss", "term.others", 1.0)
    assert told.of_loss(run) == []


def test_sums_differences_and_factors_are_taken_apart():
    answer = torch.ones(4, 1, requires_grad=True) * 2
    with torch.no_grad():
        wanted = torch.zeros(4, 1)
    tape = Tape()
    tape.answered("model", [answer])
    loss = 1 - (
        F.mse_loss(answer, wanted) / 4 - 3 * F.l1_loss(answer, wanted) + F.mse_loss(answer, 5 + wanted)
    )
    tape.pause()
    found = {one.name: one.factor for one in terms(tape.needed(loss), loss)}
    tape.forget()
    assert found == {"mse_loss": -1.0, "mse_loss 2": -0.25, "l1_loss": 3.0}
