"""What answers depend on: other samples of the batch, one input of several."""

import copy

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

from digit_programs import X, Y, captions, entropy, recording, trained  # noqa: E402
from unstuck.sources.torch.record import record  # noqa: E402
from unstuck.sources.torch.tape import Tape  # noqa: E402

IMAGES = X.reshape(-1, 1, 8, 8)


@pytest.fixture(autouse=True)
def _nothing_is_compiled():
    """Other tests of the same process compile: then nothing is noted."""
    torch.compiler.reset()


class Pictures(nn.Module):
    """A small network of everything that must be done again with care; `arrange` may mix its samples."""

    def __init__(self, arrange=lambda h: h):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.drop = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.2)
        self.register_buffer("seen", torch.zeros(6, 6, 6))
        self.out, self.arrange = nn.Linear(6 * 36, 10), arrange

    def forward(self, x):
        h = F.relu(self.norm(self.conv(x)), inplace=True)
        self.seen.mul_(0.9).add_(h.detach().mean(0) * 0.1)
        return self.out(self.drop(self.arrange(h).reshape(len(x), -1)))


def mixing(model, data=(X, Y), loss=entropy, **more):
    """The last measurement of a watched training; None where it was not measured."""
    recorded = recording(model, data, loss, **more)
    return recorded.last("probe.mixing")


@pytest.mark.parametrize(
    ("arrange", "least", "most"),
    [
        (lambda h: h, 0, 1e-6),
        (lambda h: h.permute(1, 0, 2, 3), 0.5, 1e3),
        (lambda h: 50 * h.softmax(0), 0.1, 1e3),
        (lambda h: h + h.mean(0), 0.05, 1e3),
    ],
    ids=["apart", "permuted", "softmax over the batch", "mean over the batch"],
)
def test_samples_that_mix_are_seen_beside_batch_normalisation(arrange, least, most):
    assert least <= mixing(Pictures(arrange), (IMAGES, Y)) <= most


def test_a_network_is_trained_as_if_nobody_looked():
    plain, watched = Pictures(), Pictures()
    states = []
    for model, look in ((plain, False), (watched, True)):
        if look:
            recording(model, (IMAGES, Y))
        else:
            torch.manual_seed(0)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            for i in range(30):
                rows = torch.arange(i * 50, (i + 1) * 50) % 300
                optimizer.zero_grad()
                entropy(model(IMAGES[rows]), Y[rows]).backward()
                optimizer.step()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    for (name, one), other in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_samples_on_the_second_axis_are_no_mixture():
    class Reader(nn.Module):
        def __init__(self, first):
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.out, self.first = nn.GRU(8, 16, batch_first=first), nn.Linear(16, 10), first

        def forward(self, x):
            hidden = self.rnn(x)[0]
            return self.out(hidden[:, -1] if self.first else hidden[-1])

    class Turned(Reader):
        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    rows = X.reshape(-1, 8, 8)
    assert mixing(Reader(first=True), (rows, Y)) < 1e-6
    columns = rows[:50].transpose(0, 1).contiguous()
    model = Reader(first=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with record(model, optimizer) as run:
        for _ in range(12):
            optimizer.zero_grad()
            entropy(model(columns), Y[:50]).backward()
            optimizer.step()
    assert run.recording.last("probe.mixing") < 1e-6
    assert mixing(Turned(first=False), (rows, Y)) > 0.1

    def told(model, steps):
        found = recording(model, (rows, Y), lr=0.5, steps=steps).diagnose()
        return found.outcome.word, [(one.code, one.severity, one.layer) for one in found.findings[:1]]

    assert told(Reader(first=True), 600) == ("learned", [])
    assert told(Turned(first=False), 600) == ("learned", [("OUT011", "warning", "rnn")])


@pytest.mark.parametrize(("first", "mixes"), [(True, False), (False, True)])
def test_answers_that_are_masked_are_compared_where_they_are_numbers(first, mixes):
    """A pointer into a sequence with padding, and an answer that is never allowed."""

    class Pointer(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.out = nn.GRU(8, 16, batch_first=first), nn.Linear(16, 1)

        def forward(self, x):
            scores = self.out(self.rnn(x)[0]).squeeze(2).masked_fill(x.sum(2) == 0, float("-inf"))
            return F.pad(scores, (0, 1), value=float("-inf"))

    rows = X.reshape(-1, 8, 8).clone()
    rows[::3, 6:] = 0
    found = mixing(Pointer(), (rows, rows[:, :6].sum(2).argmax(1)))
    assert found > 0.1 if mixes else found < 1e-6


def by_hand(h):
    return (h - h.mean(0)) / (h.std(0) + 1)


def out_of_sight(h):
    return h * torch.from_numpy(h.detach().numpy() > 0)


GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "arrange",
    [
        by_hand,
        out_of_sight,
        lambda h: h * torch.bernoulli(torch.full_like(h, 0.8), generator=GENERATOR),
        lambda h: (torch.ones(50, 50) @ h.flatten(1)).reshape(h.shape),
        lambda h: F.rrelu(h - 0.5, training=True),
    ],
    ids=["normalised by hand", "through NumPy", "own generator", "a graph", "random slopes"],
)
def test_what_cannot_be_told_is_not_measured(arrange):
    assert mixing(Pictures(arrange), (IMAGES, Y)) is None


def test_own_functions_and_half_precision_are_done_again():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, x):
            return x / 2

        @staticmethod
        def backward(_ctx, grad):
            return grad / 2

    class Cast(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.inner(x).float()

    assert mixing(Pictures(Half.apply), (IMAGES, Y)) < 1e-6

    def mixed(h):
        return h.permute(1, 0, 2, 3)

    model = Pictures(mixed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with record(model, optimizer) as run:
        for _ in range(12):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = entropy(model(IMAGES[:50]), Y[:50])
            loss.backward()
            optimizer.step()
    assert run.recording.last("probe.mixing") > 0.5
    # where only a part of the model computes so, nothing is said rather than something wrong
    assert (mixing(Cast(Pictures()), (IMAGES, Y)) or 0.0) < 1e-6


def test_a_plain_run_names_mixed_samples_and_lets_a_sound_sibling_be():
    def codes(arrange):
        found = trained(Pictures(arrange), data=(IMAGES, Y), lr=0.1)
        return [one.code for one in found.findings if one.severity != "info"]

    assert codes(lambda h: h.permute(1, 0, 2, 3))[0] == "OUT011"
    assert codes(lambda h: h) == []


def test_places_alone_are_not_what_was_to_be_learned():
    """Sorted numbers: the place tells much of them, the input all."""
    torch.manual_seed(0)
    rows = torch.rand(300, 12)
    targets = rows.sort(dim=1).values

    def told(model):
        found = recording(model, (rows, targets), F.mse_loss, lr=0.5, steps=300)
        return found.last("dealt.loss"), found.diagnose().outcome.word

    class Places(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.weight = nn.Parameter(torch.zeros(12)), nn.Linear(12, 12)

        def forward(self, x):
            return self.places + 1e-4 * self.weight(x)

    class Sorter(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 12))

        def forward(self, x):
            return self.body(x)

    times, word = told(Places())
    assert times == pytest.approx(1, abs=0.01)
    assert word == "not learned"
    times, word = told(Sorter())
    assert times > 1.1
    assert word == "learned"


def test_a_tape_tells_what_happens_inside_from_what_follows():
    tape, x, w = Tape(), torch.ones(3), torch.ones(3, requires_grad=True)
    tape.entered([("x", x)])
    answer = (x * w).exp()
    tape.answered("model", [answer])
    loss = (answer - x).square().mean()
    tape.pause()
    assert [call.name for call in tape.needed(loss)] == ["sub", "square", "mean"]
    assert [call.name for call in tape.making(loss)] == ["mul", "exp", "sub", "square", "mean"]
    assert [call.inside for call in tape.making(loss)] == [True, True, False, False, False]
    tape.forget()
    assert copy.copy(tape.inputs) == {}


class Tagger(nn.Module):
    """A tag for each of eight rows of a picture."""

    def __init__(self, *, last_only=False):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out, self.last_only = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 10), last_only

    def forward(self, x):
        states = self.rnn(x)[0]
        return self.out(states[-1:].expand_as(states) if self.last_only else states)


TAGS = (X.reshape(-1, 8, 8).sum(2) / 4).long().clamp(max=9)


@pytest.mark.parametrize(
    ("flat", "tags", "mixed"),
    [
        (lambda scores: scores, lambda tags: tags, False),
        (lambda scores: scores.transpose(0, 1), lambda tags: tags.t(), False),
        (lambda scores: scores.transpose(0, 1), lambda tags: tags, True),
    ],
    ids=["by sample", "by place", "one of each"],
)
def test_rows_in_another_order_than_their_targets_are_mixed_samples(flat, tags, mixed):
    def loss(scores, wanted):
        return entropy(flat(scores).reshape(-1, 10), tags(wanted).reshape(-1))

    found = mixing(Tagger(), (X.reshape(-1, 8, 8), TAGS), loss)
    assert found > 0.1 if mixed else found < 1e-6


def test_the_last_sample_that_stands_for_all_mixes_with_them():
    def loss(scores, wanted):
        return entropy(scores.transpose(1, 2), wanted)

    assert mixing(Tagger(last_only=True), (X.reshape(-1, 8, 8), TAGS), loss) > 0.1
    assert mixing(Tagger(), (X.reshape(-1, 8, 8), TAGS), loss) < 1e-6


@pytest.mark.parametrize(
    ("turned", "named"),
    [
        (lambda scores: scores.reshape(len(scores), 10, 8), True),
        (lambda scores: scores.transpose(1, 2), False),
        (lambda scores: scores.reshape(-1, 10), False),
    ],
    ids=["viewed", "transposed", "flat"],
)
def test_a_view_in_the_place_of_a_transpose_is_named(turned, named):
    def loss(scores, wanted):
        told = turned(scores)
        return entropy(told, wanted if told.dim() == 3 else wanted.reshape(-1))

    found = recording(Tagger(), (X.reshape(-1, 8, 8), TAGS), loss, lr=0.5, steps=200)
    assert found.has("view.before") == named
    codes = [one.code for one in found.diagnose().findings if one.severity != "info"]
    assert codes == (["OUT011"] if named else [])


def test_large_models_are_not_kept_alive(monkeypatch):
    monkeypatch.setattr("unstuck.sources.torch.tape.MOST_BYTES", 10_000)
    kept = []
    hide = Tape._hide

    def watched(tape, because):
        hide(tape, because)
        kept.append((because, len(tape._known), len(tape.calls)))

    monkeypatch.setattr(Tape, "_hide", watched)
    assert mixing(Pictures(lambda h: h.permute(1, 0, 2, 3)), (IMAGES, Y)) is None
    assert kept[0] == ("too large", 0, 0)


def test_passes_without_a_backward_are_not_collected():
    model = Pictures()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    seen = []
    entered = Tape.entered

    def watched(tape, given):
        entered(tape, given)
        seen.append((len(tape.calls), tape.hidden))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tape, "entered", watched)
        with record(model, optimizer) as run:
            for _ in range(6):
                for _ in range(20):  # a validation that forgot no_grad
                    model(IMAGES[50:100])
                optimizer.zero_grad()
                entropy(model(IMAGES[:50]), Y[:50]).backward()
                optimizer.step()
    assert max(calls for calls, _ in seen) < 300  # of 580
    assert "too many passes through models" in {hidden for _, hidden in seen}
    assert run.recording.last("probe.mixing") is None


def test_what_is_known_is_not_measured_again():
    found = recording(Pictures(), (IMAGES, Y), steps=60)
    assert found.series("probe.mixing").steps.tolist() == [4, 6]
    two = captions(lambda seen: seen, steps=60)
    assert two.series("probe.mixing").values.size == 2
    assert two.series("shuffled.loss", "input.image").steps.tolist() == [25, 40]


# ---- shapes that are hardly ever meant


class Places(nn.Module):
    """A class for each of 64 places of an image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


BRIGHT = (IMAGES[:, 0] > 0.3).long() + (IMAGES[:, 0] > 0.7).long()


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        (lambda out: out.view(-1, 3), 3.0),
        (lambda out: out.permute(0, 2, 3, 1).reshape(-1, 3), None),
        (lambda out: out.flatten(2).transpose(1, 2).reshape(-1, 3), None),
    ],
    ids=["view", "permute before", "transpose before"],
)
def test_a_view_to_rows_of_another_axis(rows, seen):
    run = recording(Places(), (IMAGES, BRIGHT), lambda out, y: F.cross_entropy(rows(out), y.reshape(-1)))
    assert run.last("view.row") == seen
    assert run.last("view.last") == (None if seen is None else 8.0)


@pytest.mark.parametrize(
    ("loss", "seen"),
    [
        (lambda out, y: (y * F.softplus(-out) + (1 - y) * F.softplus(out)).mean(), 50.0),
        (lambda out, y: (y[:, None] * F.softplus(-out) + (1 - y[:, None]) * F.softplus(out)).mean(), None),
        (lambda out, _y: (out - out.squeeze(1)).abs().mean(), None),  # all pairs of answers: on purpose
        (lambda out, y: F.mse_loss(out, y) + F.relu(out).mean(), 50.0),  # in a term of a sum
        (lambda out, y: F.mse_loss(out.squeeze(1), y) + F.relu(out).mean(), None),
    ],
    ids=["(N, 1) and (N,)", "(N, 1) and (N, 1)", "answers among themselves", "in a term", "not in a term"],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_table_in_a_loss_written_by_hand(loss, seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 1))
    assert recording(model, (X, (Y > 4).float()), loss).last("table.samples") == seen


class Packed(nn.Module):
    """The last states of packed sequences, joined rightly or by a view of both directions."""

    def __init__(self, join):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(8, 6, batch_first=True, bidirectional=True)
        self.head, self.join = nn.Linear(12, 10), join

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(self.join(self.rnn(packed)[1]))


@pytest.mark.parametrize(
    ("join", "least", "most"),
    [(lambda h: torch.cat((h[0], h[1]), 1), 0, 1e-6), (lambda h: h.view(h.shape[1], -1), 0.1, 1e3)],
    ids=["side by side", "by view"],
)
def test_packed_sequences_are_looked_at(join, least, most):
    lengths = torch.arange(300) % 5 + 4
    assert least <= mixing(Packed(join), (X.reshape(-1, 8, 8), lengths, Y)) <= most
    run = recording(Packed(join), (X.reshape(-1, 8, 8), lengths, Y), F.cross_entropy)
    assert (run.last("view.parts") == 2) == bool(least)
