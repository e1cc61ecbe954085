"""What is measured of models that are given several inputs."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from digit_programs import X, Y, captions, entropy, recording  # noqa: E402
from traces import every, facts, linear, recorded  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402
from unstuck.sources.torch.tape import named  # noqa: E402


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    """Other tests of the same process compile: then nothing is noted."""
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("picture", "needed"),
    [
        (lambda seen: seen, True),
        (lambda seen: seen * 0, False),
        (lambda seen: seen.mean(0, keepdim=True).expand(len(seen), -1), False),
    ],
    ids=["seen", "times 0", "one for all"],
)
def test_what_is_learned_without_one_of_the_inputs_is_not_all(picture, needed):
    found = captions(picture)
    diagnosis = found.diagnose()
    times = found.last("shuffled.loss", "input.image")
    assert found.last("forced", "input.words") == 1
    if needed:
        assert times > 1.5
        assert diagnosis.status == "healthy"
    else:
        assert times == pytest.approx(1, abs=1e-3)
        assert diagnosis.outcome.word == "not learned"
        assert diagnosis.status == "faulty"


def test_what_a_decoder_is_told_is_no_substitute_for_its_source():
    """Answers depend on the picture and are no better for it: were no words told, noise could be meant."""

    def judged(forced):
        run = recorded([linear("out", "input")], "CrossEntropyLoss", facts("out"), start=1.0, baseline=2.3)
        every(run, "input.image", shuffled__loss=1.0, shuffled__answer=0.1)
        return every(run, "input.words", forced=forced).diagnose().outcome.word

    assert judged(forced=1.0) == "not learned"
    assert judged(forced=0.2) == "learned"


def test_an_input_that_says_nothing_is_no_fault():
    """Noise that is drawn anew for each batch, as generators get it; the other input tells all there is."""
    torch.manual_seed(0)

    class Conditioned(nn.Module):
        def __init__(self):
            super().__init__()
            self.noise, self.features, self.out = nn.Linear(64, 16), nn.Linear(6, 16), nn.Linear(32, 2)

        def forward(self, noise, features):
            return self.out(torch.relu(torch.cat([self.noise(noise), self.features(features)], 1)))

    model = Conditioned()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    with record(model, optimiser) as run:
        for _ in range(300):
            features = torch.randn(40, 6)
            targets = (features.sum(1) + 0.8 * torch.randn(40) > 0).long()
            loss = F.cross_entropy(model(torch.randn(40, 64), features), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    diagnosis = run.recording.diagnose()
    assert diagnosis.status == "healthy"
    assert [(found.code, found.severity) for found in diagnosis.findings] == [("OUT010", "info")]
    assert "does not need the input 'noise'" in diagnosis.findings[0].summary


def test_an_input_that_is_the_same_for_all_samples_cannot_be_exchanged():
    """Places of pixels, a mask: the answer does not depend on whose they are."""

    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.look, self.out = nn.Linear(64, 16), nn.Linear(64, 24), nn.Linear(24, 10)
            self.gate = nn.Linear(16, 24)

        def forward(self, places, image):
            return self.out(torch.relu(self.look(image)) * torch.sigmoid(self.gate(self.places(places))))

    torch.manual_seed(0)
    found = recording(Placed(), (torch.rand(1, 64).expand(300, -1), X, Y), lr=0.1, steps=120)
    assert not found.layers("shuffled.loss")
    assert found.last("data.alike") == 0
    assert found.diagnose().status == "healthy"


def test_inputs_are_named_as_the_model_names_them():
    class Model(nn.Module):
        def forward(self, image, *more, words=None): ...

    one, two, three = (torch.zeros(i) for i in (1, 2, 3))
    assert [name for name, _ in named(Model(), (one,), {"words": two})] == ["image", "words"]
    assert [name for name, _ in named(Model(), ([one, two], three), {})] == ["image[0]", "image[1]", "more"]


@pytest.mark.parametrize(("first", "mixes"), [(True, False), (False, True)])
def test_a_loader_tells_on_which_axis_samples_lie(first, mixes):
    """One answer for each place of a sequence, as a tagger gives: its shape alone could be either way."""

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.out = nn.GRU(8, 16, batch_first=first), nn.Linear(16, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    rows = X.reshape(-1, 8, 8)
    tags = (rows.sum(2).cumsum(1) > 8).long()
    model = Tagger()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        for x, y in DataLoader(TensorDataset(rows, tags), batch_size=20):
            optimizer.zero_grad()
            entropy(model(x).flatten(0, 1), y.flatten()).backward()
            optimizer.step()
    found = run.recording.last("probe.mixing")
    assert found > 0.1 if mixes else found < 1e-6


def test_scores_of_all_pairs_of_a_batch_are_no_mixture():
    """Two towers, and the other samples of the batch for what does not belong together."""

    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.upper, self.lower = nn.Linear(32, 16), nn.Linear(32, 16)

        def forward(self, upper, lower):
            u, v = F.normalize(self.upper(upper), dim=1), F.normalize(self.lower(lower), dim=1)
            return u @ v.T / 0.2

    def own(scores, _):
        return entropy(scores, torch.arange(len(scores)))

    found = recording(Towers(), (X[:, :32], X[:, 32:], Y), own, lr=0.5, steps=200)
    assert not found.has("probe.mixing")
    diagnosis = found.diagnose()
    assert diagnosis.status == "healthy"
    assert diagnosis.outcome.fraction > 0.5
