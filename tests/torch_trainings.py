"""Trainings in PyTorch for the recorder's tests: small, of every usual shape, from a fixed seed."""

import copy

import torch
from torch import nn
from torch.nn import functional

from unstuck.sources.torch.record import record


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 8, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.place = nn.Parameter(torch.randn(1, 6, 8) * 0.1)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.layer(self.embed(x) + self.place)).flatten(0, 1)


def mlp():
    return nn.Sequential(
        nn.Linear(6, 12), nn.Sigmoid(), nn.Linear(12, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)
    )


def cnn():
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*body, nn.Flatten(), nn.Dropout(0.3), nn.Linear(36, 3))


def supervised(model, make_batch, loss=functional.cross_entropy, optimizer=None, steps=12):
    """(models, optimisers, function that trains)."""
    opt = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)))(model.parameters())

    def train():
        for _ in range(steps):
            x, y = make_batch()
            opt.zero_grad()
            loss(model(x), y).backward()
            opt.step()

    return [model], [opt], train


def vectors():
    return torch.randn(16, 6), torch.randint(3, (16,))


def images():
    return torch.randn(8, 1, 8, 8), torch.randint(3, (8,))


def plain_mlp():
    return supervised(mlp(), vectors)


def batch_norm_and_dropout():
    return supervised(cnn(), images, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))


def lstm():
    return supervised(Recurrent(), lambda: (torch.randn(8, 5, 3), torch.randint(2, (8,))))


def transformer():
    model = Transformer()

    def batch():
        x = torch.randint(11, (4, 6))
        return x, x.roll(1, 1).flatten()

    return supervised(model, batch, optimizer=lambda p: torch.optim.AdamW(p, lr=0.01))


def gan():
    g = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    d = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    opt_g, opt_d = torch.optim.Adam(g.parameters(), lr=1e-3), torch.optim.Adam(d.parameters(), lr=1e-3)

    def train():
        ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
        for _ in range(10):
            real, fake = torch.randn(16, 2) + 3, g(torch.randn(16, 4))
            opt_d.zero_grad()
            functional.binary_cross_entropy_with_logits(d(real), ones).backward()
            functional.binary_cross_entropy_with_logits(d(fake.detach()), zeros).backward()
            opt_d.step()
            opt_g.zero_grad()
            functional.binary_cross_entropy_with_logits(d(fake), ones).backward()
            opt_g.step()

    return [g, d], [opt_g, opt_d], train


def half_precision():
    model = cnn()
    opt = torch.optim.SGD(model.parameters(), lr=0.05)

    def train():
        for _ in range(10):
            x, y = images()
            opt.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()

    return [model], [opt], train


def scaled():
    """With a gradient scaler, and one step that overflows."""
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)

    def train():
        for step in range(10):
            x, y = vectors()
            opt.zero_grad()
            loss = functional.cross_entropy(model(x), y) * (float("inf") if step == 4 else 1.0)
            scaler.scale(loss).backward()
            scaler.unscale_(opt)
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            scaler.step(opt)
            scaler.update()

    return [model], [opt], train


def accumulation():
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(opt, 3, 0.5)

    def train():
        for step in range(32):
            x, y = vectors()
            (functional.cross_entropy(model(x), y) / 4).backward()
            if step % 4 == 3:
                opt.step()
                opt.zero_grad(set_to_none=False)
                schedule.step()

    return [model], [opt], train


def lbfgs():
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    opt = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    x, y = torch.randn(20, 6), torch.randn(20, 1)

    def closure():
        opt.zero_grad()
        loss = functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    def train():
        for _ in range(6):
            opt.step(closure)

    return [model], [opt], train


def checkpointed():
    from torch.utils.checkpoint import checkpoint

    inner, head = (
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)),
        nn.Linear(8, 3),
    )
    model = nn.ModuleDict({"inner": inner, "head": head})
    opt = torch.optim.SGD(model.parameters(), lr=0.1)

    def train():
        for _ in range(8):
            x, y = vectors()
            opt.zero_grad()
            functional.cross_entropy(head(checkpoint(inner, x, use_reentrant=False)), y).backward()
            opt.step()

    return [model], [opt], train


def frozen_part():
    model = mlp()
    model[0].requires_grad_(requires_grad=False)
    return supervised(model, vectors)


def sparse():
    model = nn.Sequential(nn.Embedding(50, 4, sparse=True), nn.Flatten(), nn.Linear(12, 2))
    table = torch.optim.SparseAdam(model[0].parameters(), lr=0.01)
    rest = torch.optim.SGD(model[2].parameters(), lr=0.1)

    def train():
        for _ in range(8):
            table.zero_grad()
            rest.zero_grad()
            functional.cross_entropy(model(torch.randint(50, (8, 3))), torch.randint(2, (8,))).backward()
            table.step()
            rest.step()

    return [model], [table, rest], train


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.spectrum = nn.Parameter(torch.randn(4, 3, dtype=torch.cfloat))

    def forward(self, x):
        return (x.to(torch.cfloat) @ self.spectrum.T).abs()


def complex_numbers():
    model = Complex()
    return supervised(
        model,
        lambda: (torch.randn(8, 3), torch.randn(8, 4)),
        functional.mse_loss,
        torch.optim.Adam,
    )


def half_weights():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(torch.bfloat16)
    return supervised(model, lambda: (torch.randn(8, 6).to(torch.bfloat16), torch.randint(3, (8,))))


def by_hand():
    """No optimiser, weights that stand alone."""
    model = nn.Module()
    model.W1, model.b1 = nn.Parameter(torch.randn(6, 8) * 0.3), nn.Parameter(torch.zeros(8))
    model.W2, model.b2 = nn.Parameter(torch.randn(8, 3) * 0.3), nn.Parameter(torch.zeros(3))
    opt = torch.optim.SGD(model.parameters(), lr=0.1)

    def train():
        for _ in range(8):
            x, y = vectors()
            opt.zero_grad()
            hidden = torch.relu(x @ model.W1 + model.b1)
            functional.cross_entropy(hidden @ model.W2 + model.b2, y).backward()
            opt.step()

    return [model], [opt], train


def evaluated():
    """Validation between the steps, with and without gradients."""
    model = cnn()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)

    def train():
        for step in range(10):
            x, y = images()
            model.train()
            opt.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            opt.step()
            model.eval()
            if step % 2:
                functional.cross_entropy(model(x * 100), y)
            with torch.no_grad():
                model(x * 100)

    return [model], [opt], train


def clipped():
    model = mlp()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)

    def train():
        for _ in range(10):
            x, y = vectors()
            opt.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            opt.step()

    return [model], [opt], train


ALL = [
    plain_mlp, batch_norm_and_dropout, lstm, transformer, gan, half_precision, scaled, accumulation, lbfgs,
    checkpointed, frozen_part, sparse, complex_numbers, half_weights, by_hand, evaluated, clipped,
]  # fmt: skip


def made(make, seed=0):
    """Built from the seed, the rest of the program's randomness seeded too."""
    torch.manual_seed(seed)
    return make()


def state(models):
    """Copies of all parameters and buffers."""
    return [copy.deepcopy(model.state_dict()) for model in models]


def trained(model, batches, loss=functional.cross_entropy, lr=0.1, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    with record(model, optimizer, **options) as run:
        for x, y in batches:
            optimizer.zero_grad()
            value = loss(model(x), y)
            losses.append(value.item())
            value.backward()
            optimizer.step()
    return run, losses


def random_batches(count, samples=8):
    torch.manual_seed(1)
    return [(torch.randn(samples, 6), torch.randint(3, (samples,))) for _ in range(count)]
