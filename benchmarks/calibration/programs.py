"""Programs in styles that the generator does not know: each trains and returns what its own yardstick says.

A program takes a kit and a function that watches (model, optimizer), and returns its loss on fixed samples
before and after the training. It knows nothing of any diagnosis.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from kit import Kit
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from unstuck import datasets

Watch = Callable[[Any, Any], AbstractContextManager[Any]]
Program = Callable[[Kit, Watch], tuple[float, float]]
PROGRAMS: dict[str, Program] = {}


def program(make: Program) -> Program:
    """Register one."""
    PROGRAMS[make.__name__] = make
    return make


def digits() -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) and labels."""
    data = datasets.digits()
    return torch.tensor(data.inputs[:1200]), torch.tensor(data.targets[:1200]).long()


def _classify(
    kit: Kit, watch: Watch, net: nn.Module, optimizer: Any, steps: int, **options: Any
) -> tuple[float, float]:
    """A plain loop of digits with cross entropy."""
    x, y = digits()
    loss = nn.CrossEntropyLoss(**options)
    before = _entropy(net, x, y)
    fed = kit.inputs(x)
    with watch(net, optimizer):
        for a, b in kit.batches(32, steps, fed, y):
            kit.step(optimizer, loss(net(a), b), net)
    return before, _entropy(net, fed, y)


@torch.no_grad()
def _entropy(net: nn.Module, x: Tensor, y: Tensor) -> float:
    net.eval()
    value = float(F.cross_entropy(net(x[:500]), y[:500]))
    net.train()
    return value


class Basic(nn.Module):
    """A residual block whose last scale starts at 0, as is usual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.n, self.m = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        nn.init.zeros_(self.m.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Input plus branch."""
        return F.relu(x + self.m(self.b(F.relu(self.n(self.a(x))))))


@program
def resnet(kit: Kit, watch: Watch) -> tuple[float, float]:
    """Residual network, SGD with momentum and decay, label smoothing."""
    net = kit.model(
        lambda: nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            *(Basic(12) for _ in range(3)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 10),
        )
    )
    optimizer = kit.optimizer(torch.optim.SGD, net.parameters(), 0.05, **_decay(kit, 5e-4), momentum=0.9)
    return _classify(kit, watch, net, optimizer, 300, label_smoothing=0.1)


def _decay(kit: Kit, usual: float) -> dict[str, float]:
    return {} if kit.fault == "decay dominates" else {"weight_decay": usual}


@program
def depthwise(kit: Kit, watch: Watch) -> tuple[float, float]:
    """Depthwise separable convolutions with group normalisation and SiLU."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, before, 3, padding=1, groups=before),
            nn.Conv2d(before, after, 1),
            nn.GroupNorm(4, after),
            nn.SiLU(),
        ]

    net = kit.model(
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.SiLU(),
            *block(16, 32),
            nn.MaxPool2d(2),
            *block(32, 32),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
    )
    optimizer = kit.optimizer(torch.optim.AdamW, net.parameters(), 2e-3)
    return _classify(kit, watch, net, optimizer, 250)


class Mixer(nn.Module):
    """Mixes over tokens, then over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(4, 24)
        self.tokens, self.channels = nn.Linear(16, 16), nn.Linear(24, 24)
        self.first, self.second = nn.LayerNorm(24), nn.LayerNorm(24)
        self.out = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of images."""
        z = self.patch(F.unfold(x, 2, stride=2).transpose(1, 2))
        z = z + F.gelu(self.tokens(self.first(z).transpose(1, 2))).transpose(1, 2)
        z = z + F.gelu(self.channels(self.second(z)))
        return self.out(z.mean(1))


@program
def mixer(kit: Kit, watch: Watch) -> tuple[float, float]:
    """An MLP-mixer with Adam."""
    net = kit.model(Mixer)
    return _classify(kit, watch, net, kit.optimizer(torch.optim.Adam, net.parameters(), 3e-3), 400)


@program
def handmade(kit: Kit, watch: Watch) -> tuple[float, float]:
    """Everything functional; the loss by hand."""

    class Handmade(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(64, 48), nn.Linear(48, 48), nn.Linear(48, 10)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.one(x.flatten(1) - 0.3))
            h = torch.tanh(self.two(h))
            return F.log_softmax(self.three(h), dim=-1)

    net = kit.model(Handmade)
    optimizer = kit.optimizer(torch.optim.SGD, net.parameters(), 0.1)
    x, y = digits()
    fed = kit.inputs(x)

    def error() -> float:
        with torch.no_grad():
            return float(-net(fed[:500])[torch.arange(500), y[:500]].mean())

    before = error()
    with watch(net, optimizer):
        for a, b in kit.batches(32, 500, fed, y):
            kit.step(optimizer, -net(a).gather(1, b[:, None]).mean(), net)
    return before, error()


@program
def transformer(kit: Kit, watch: Watch) -> tuple[float, float]:
    """A small encoder that finds which token comes most often; warm-up."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(40, 32), nn.Embedding(12, 32)
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.out = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            z = self.tokens(x) + self.places(torch.arange(x.shape[1]))
            return self.out(self.body(z).mean(1))

    rng = np.random.default_rng(2)
    y = rng.integers(0, 4, 1500)
    rows = np.where(
        rng.random((1500, 12)) < 0.5,
        y[:, None] * 8 + rng.integers(0, 8, (1500, 12)),
        rng.integers(0, 32, (1500, 12)),
    )
    x, labels = torch.tensor(rows), torch.tensor(y)
    net = kit.model(Encoder)
    optimizer = kit.optimizer(torch.optim.AdamW, net.parameters(), 1e-3)
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 40))
    fed = kit.inputs(x)
    before = _entropy(net, fed, labels)
    with watch(net, optimizer):
        for a, b in kit.batches(32, 250, fed, labels):
            kit.step(optimizer, F.cross_entropy(net(a), b), net)
            warm.step()
    return before, _entropy(net, fed, labels)


@program
def lstm(kit: Kit, watch: Watch) -> tuple[float, float]:
    """A recurrent network that adds up a series: a quantity is wanted."""

    class Adder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory, self.out = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.memory(x)[0][:, -1]).squeeze(-1)

    x = torch.randn(1000, 10, 1, generator=torch.Generator().manual_seed(0))
    y = x.sum((1, 2)) / 10**0.5
    return _regress(kit, watch, Adder, x, y, (torch.optim.Adam, 5e-3), 400)


def _regress(
    kit: Kit,
    watch: Watch,
    make: Callable[[], nn.Module],
    x: Tensor,
    y: Tensor,
    how: tuple[Any, float],
    steps: int,
) -> tuple[float, float]:
    net = kit.model(make)
    optimizer = kit.optimizer(how[0], net.parameters(), how[1])
    fed, wanted = kit.inputs(x), kit.targets(y)
    spread = float(wanted.var())

    def error() -> float:
        net.eval()
        with torch.no_grad():
            value = float(F.mse_loss(net(fed[:500]), wanted[:500])) / spread
        net.train()
        return value

    before = error()
    with watch(net, optimizer):
        for a, b in kit.batches(32, steps, fed, wanted):
            kit.step(optimizer, F.mse_loss(net(a), b), net)
    return min(before, 1.0), error()


@program
def series(kit: Kit, watch: Watch) -> tuple[float, float]:
    """One-dimensional convolutions over a series; Huber-like data with smooth targets."""
    t = torch.arange(1200).float()
    signal = (
        torch.sin(t / 9)
        + 0.5 * torch.sin(t / 23)
        + 0.1 * torch.randn(1200, generator=torch.Generator().manual_seed(0))
    )
    x = signal.unfold(0, 24, 1)[:-1, None]
    y = signal[24:, None]

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(1, 12, 5),
            nn.ReLU(),
            nn.Conv1d(12, 12, 5, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 1),
        )

    return _regress(kit, watch, make, x, y, (torch.optim.RMSprop, 1e-3), 300)


@program
def sets(kit: Kit, watch: Watch) -> tuple[float, float]:
    """A network of sets: shared layers, mean over members, layers behind."""

    class Sets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.each = nn.Sequential(nn.Linear(2, 32), nn.ELU(), nn.Linear(32, 32), nn.ELU())
            self.all = nn.Sequential(nn.Linear(32, 32), nn.ELU(), nn.Linear(32, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.all(self.each(x).mean(1))

    x = torch.randn(1200, 9, 2, generator=torch.Generator().manual_seed(0))
    y = (x[..., 0] * x[..., 1]).mean(1, keepdim=True) * 3
    return _regress(kit, watch, Sets, x, y, (torch.optim.Adam, 3e-3), 500)


@program
def autoencoder(kit: Kit, watch: Watch) -> tuple[float, float]:
    """Digits through eight numbers and back; the inputs are the targets."""
    x = digits()[0].flatten(1)

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, 48),
            nn.ReLU(),
            nn.Linear(48, 8),
            nn.Linear(8, 48),
            nn.ReLU(),
            nn.Linear(48, 64),
            nn.Sigmoid(),
        )

    return _regress(kit, watch, make, x, x, (torch.optim.Adam, 3e-3), 600)


@program
def factors(kit: Kit, watch: Watch) -> tuple[float, float]:
    """Matrix factorisation for ratings: two tables of which a batch uses few rows."""

    class Factors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.people, self.things = nn.Embedding(120, 8), nn.Embedding(90, 8)
            self.out = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.cat([self.people(x[:, 0]), self.things(x[:, 1])], 1))

    rng = np.random.default_rng(4)
    x = np.stack([rng.integers(0, 120, 3000), rng.integers(0, 90, 3000)], 1)
    taste = rng.normal(size=120)[x[:, 0]] + rng.normal(size=90)[x[:, 1]]
    y = torch.tensor(taste + 0.2 * rng.normal(size=3000), dtype=torch.float32)[:, None] / 1.4
    return _regress(kit, watch, Factors, torch.tensor(x), y, (torch.optim.Adam, 1e-2), 500)


@program
def fine_tuning(kit: Kit, watch: Watch) -> tuple[float, float]:
    """A body trained before and frozen; a new head on it."""
    x, y = digits()
    torch.manual_seed(100)
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU())
    old = nn.Linear(32, 2)
    first = torch.optim.Adam([*body.parameters(), *old.parameters()], 3e-3)
    for a, b in Kit(1).batches(64, 200, x, (y % 2)):
        first.zero_grad()
        F.cross_entropy(old(body(a)), b).backward()
        first.step()
    for p in body.parameters():
        p.requires_grad_(requires_grad=False)
    net = kit.model(lambda: nn.Sequential(body, nn.Linear(32, 10)))
    optimizer = kit.optimizer(torch.optim.Adam, [p for p in net.parameters() if p.requires_grad], 1e-2)
    return _classify(kit, watch, net, optimizer, 300)


@program
def segments(kit: Kit, watch: Watch) -> tuple[float, float]:
    """A label for every pixel: encoder, decoder, a bridge between them."""

    class Bridge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.middle = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 12, 3, padding=1)
            self.up, self.out = nn.Conv2d(24, 12, 3, padding=1), nn.Conv2d(12, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            a = F.leaky_relu(self.down(x))
            b = F.leaky_relu(self.middle(F.max_pool2d(a, 2)))
            c = torch.cat([a, F.interpolate(b, scale_factor=2)], 1)
            return self.out(F.leaky_relu(self.up(c)))

    x, _ = digits()
    y = (F.avg_pool2d(x, 3, 1, 1)[:, 0] > 0.45).long()
    noisy = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    net = kit.model(Bridge)
    optimizer = kit.optimizer(torch.optim.Adam, net.parameters(), 3e-3)
    fed = kit.inputs(noisy)
    before = _entropy(net, fed, y)
    with watch(net, optimizer):
        for a, b in kit.batches(16, 250, fed, y):
            kit.step(optimizer, F.cross_entropy(net(a), b), net)
    return before, _entropy(net, fed, y)


@program
def language(kit: Kit, watch: Watch) -> tuple[float, float]:
    """The next letter; the output layer is the table of letters itself."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(27, 24)
            self.memory, self.back = nn.GRU(24, 48, batch_first=True), nn.Linear(48, 24)
            self.out = nn.Linear(24, 27)
            self.out.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.back(self.memory(self.table(x))[0]))

    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.full(27, 0.15), 27)
    text = [0]
    for _ in range(6000):
        text.append(int(rng.choice(27, p=chain[text[-1]])))
    rows = torch.tensor(text).unfold(0, 17, 4)
    net = kit.model(Tied)
    optimizer = kit.optimizer(torch.optim.Adam, net.parameters(), 3e-3)
    fed = kit.inputs(rows[:, :-1])

    def error() -> float:
        with torch.no_grad():
            return float(F.cross_entropy(net(fed[:300]).reshape(-1, 27), rows[:300, 1:].reshape(-1)))

    before = error()
    with watch(net, optimizer):
        for a, b in kit.batches(32, 300, fed, rows[:, 1:]):
            kit.step(optimizer, F.cross_entropy(net(a).reshape(-1, 27), b.reshape(-1)), net)
    return before, error()


@program
def rare(kit: Kit, watch: Watch) -> tuple[float, float]:
    """One class in twelve, which can be learned: binary cross entropy on scores."""
    rng = np.random.default_rng(6)
    x = torch.tensor(rng.normal(size=(2400, 6)), dtype=torch.float32)
    y = ((x[:, 0] * x[:, 1] + x[:, 2]) > 1.9).float()
    net = kit.model(
        lambda: nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    )
    optimizer = kit.optimizer(torch.optim.Adam, net.parameters(), 2e-3)
    fed = kit.inputs(x)
    loss = nn.BCEWithLogitsLoss()

    def error() -> float:
        with torch.no_grad():
            return float(loss(net(fed)[:, 0], y))

    before = error()
    with watch(net, optimizer):
        for a, b in kit.batches(64, 500, fed, y):
            kit.step(optimizer, loss(net(a)[:, 0], b), net)
    return min(before, 0.29), error()


@program
def two_heads(kit: Kit, watch: Watch) -> tuple[float, float]:
    """Digit and brightness at once: a sum of two losses."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()
            )
            self.digit, self.light = nn.Linear(32, 10), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.body(x)
            return self.digit(h), self.light(h)

    x, y = digits()
    light = (x.mean((1, 2, 3)) - 0.3)[:, None] * 10
    net = kit.model(Heads)
    optimizer = kit.optimizer(torch.optim.Adam, net.parameters(), 2e-3)
    fed = kit.inputs(x)

    def both(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        digit, bright = net(a)
        return F.cross_entropy(digit, b) + F.mse_loss(bright, c)

    def error() -> float:
        with torch.no_grad():
            return float(both(fed[:500], y[:500], light[:500]))

    before = error()
    with watch(net, optimizer):
        for a, b, c in kit.batches(32, 300, fed, y, light):
            kit.step(optimizer, both(a, b, c), net)
    return before, error()
