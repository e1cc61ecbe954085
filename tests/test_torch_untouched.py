"""Models with state and random numbers of their own stay the same, bit for bit, while they are watched."""

import contextlib

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from unstuck.sources.torch.record import record  # noqa: E402


class Model(nn.Module):
    """A layer, something in between, and an answer."""

    def __init__(self, width=16):
        super().__init__()
        self.one, self.two = nn.Linear(8, width), nn.Linear(width, 10)


class Mapped(Model):
    def forward(self, x):
        return self.two(torch.vmap(lambda row: torch.tanh(self.one(row)))(x))


class Called(Model):
    def forward(self, x):
        own = dict(self.one.named_parameters())
        return self.two(F.relu(torch.func.functional_call(self.one, own, (x,))))


class Recomputed(Model):
    def forward(self, x):
        return self.two(checkpoint(lambda y: F.dropout(self.one(y), 0.3).relu(), x, use_reentrant=False))


class Attentive(Model):
    def __init__(self):
        super().__init__()
        self.start = nn.Linear(1, 16)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True), 2)

    def forward(self, x):
        hidden = x < -1.0
        hidden[:, 0] = False
        return self.two(self.body(self.start(x[..., None]), src_key_padding_mask=hidden).mean(1))


class Packed(Model):
    def __init__(self):
        super().__init__()
        self.body = nn.LSTM(1, 8, 2, dropout=0.2, batch_first=True, bidirectional=True)

    def forward(self, x):
        lengths = torch.full((len(x),), 8)
        lengths[::2] = 5
        packed = nn.utils.rnn.pack_padded_sequence(
            x[..., None], lengths, batch_first=True, enforce_sorted=False
        )
        states = nn.utils.rnn.pad_packed_sequence(self.body(packed)[0], batch_first=True)[0]
        return self.two(states.sum(1))


class Normed(Model):
    def __init__(self):
        super().__init__()
        self.one = nn.utils.parametrizations.weight_norm(self.one)
        self.two = nn.utils.parametrizations.spectral_norm(self.two)

    def forward(self, x):
        return self.two(F.gelu(self.one(x)))


class Remembering(Model):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("bank", torch.zeros(50, 8))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        self.mean.lerp_(x.mean(0), 0.1)
        self.bank[: len(x)] = x.detach()
        self.bank.index_copy_(0, torch.arange(len(x)), x.detach() * 2)
        noise = 0.1 * torch.randn(len(x), 10)
        return self.two(self.one(x - self.mean + 0.01 * self.bank[: len(x)])) + noise


class Coded(Model):
    def __init__(self):
        super().__init__(4)
        self.codes = nn.Embedding(16, 4, max_norm=1.0)

    def forward(self, x):
        given = self.one(x)
        code = self.codes(torch.cdist(given, self.codes.weight).argmin(1))
        return self.two(given + (code - given).detach())


class Generating(Model):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x):
        kept = torch.bernoulli(torch.full_like(x, 0.8), generator=self.generator)
        return self.two(self.one(x * kept))


class Writing(Model):
    def __init__(self):
        super().__init__()
        self.register_buffer("room", torch.empty(50, 8))

    def forward(self, x):
        torch.mul(x, 2, out=self.room)
        return self.two(self.one(self.room.clone()))


class Counting(Model):
    def __init__(self):
        super().__init__(24)
        self.conv, self.norm = nn.Conv1d(1, 4, 3), nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        self.mean = nn.BatchNorm1d(4, momentum=None)

    def forward(self, x):
        return self.two(self.mean(self.norm(self.conv(x[:, None]))).relu_().flatten(1))


class Drawn(Model):
    def __init__(self):
        super().__init__()
        self.parts = nn.Sequential(nn.RReLU(), nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.1))

    def forward(self, x):
        return self.two(self.parts(self.one(x)))


def end(make, *, look):
    """Losses, state, random numbers and the number of times that a hook of the program was called."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model, calls = make(), []
    model.two.register_forward_hook(lambda *_: calls.append(1))
    inputs, targets = torch.randn(300, 8), torch.randint(10, (300,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    with record(model, optimizer) if look else contextlib.nullcontext():
        for i in range(12):
            rows = torch.arange(i * 50, (i + 1) * 50) % 300
            loss = F.cross_entropy(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    own = getattr(model, "generator", None)
    states = [*losses, *model.state_dict().values(), torch.get_rng_state()]
    return [*states, own.get_state()] if own is not None else states, len(calls)


MODELS = [
    Mapped,
    Called,
    Recomputed,
    Attentive,
    Packed,
    Normed,
    Remembering,
    Coded,
    Generating,
    Writing,
    Counting,
]


@pytest.mark.parametrize("make", [*MODELS, Drawn], ids=lambda one: one.__name__)
def test_a_model_is_the_same_with_its_insides_done_once_more(make):
    plain, watched = end(make, look=False), end(make, look=True)
    assert plain[1] == watched[1]
    assert all(torch.equal(one, other) for one, other in zip(plain[0], watched[0], strict=True))
