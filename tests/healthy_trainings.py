"""Healthy trainings in PyTorch, of many kinds: no fault may be found in them; bounds are read off them."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import cycle, pairwise

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import unstuck  # noqa: F401  (wires `Recording.diagnose`)
from unstuck import datasets
from unstuck.sources.torch.record import record
from unstuck.trace.recording import Recording

DIGITS = datasets.digits()
IMAGES = torch.tensor(DIGITS.inputs[:600])
FLAT = IMAGES.reshape(600, -1)
LABELS = torch.tensor(DIGITS.targets[:600]).long()
HEALTHY: dict[str, Callable[[], Recording]] = {}


def healthy(make: Callable[[], Recording]) -> Callable[[], Recording]:
    HEALTHY[make.__name__] = make
    return make


def batches(size: int, *tensors: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    while True:
        order = torch.randperm(len(tensors[0]), generator=generator)
        for begin in range(0, len(order) - size + 1, size):
            yield [tensor[order[begin : begin + size]] for tensor in tensors]


def watched(model, loss, data, *, lr=1e-3, steps=300, size=32, optimizer=None) -> Recording:
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr)
    given = batches(size, *data) if size else cycle([data])
    with record(model, optimizer) as run:
        for _ in range(steps):
            x, y = next(given)
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return run.recording


def seeded(*layers: Callable[[], nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*[layer() for layer in layers])


def dense(*widths: int, hidden: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), hidden()]
    return nn.Sequential(*layers[:-1])


def he(model: nn.Module) -> nn.Module:
    for one in model.modules():
        if isinstance(one, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(one.weight, nonlinearity="relu")
            nn.init.zeros_(one.bias)
    return model


@healthy
def wide_dense() -> Recording:
    return watched(dense(64, 256, 10), F.cross_entropy, (FLAT, LABELS))


@healthy
def narrow_dense() -> Recording:
    return watched(dense(64, 12, 10), F.cross_entropy, (FLAT, LABELS), lr=5e-3)


@healthy
def deep_dense_he() -> Recording:
    return watched(he(dense(64, *[32] * 8, 10)), F.cross_entropy, (FLAT, LABELS))


@healthy
def plain_descent_he() -> Recording:
    model = he(dense(64, 64, 64, 10))
    return watched(
        model, F.cross_entropy, (FLAT, LABELS), optimizer=torch.optim.SGD(model.parameters(), 0.05, 0.9)
    )


@healthy
def convolutions_he() -> Recording:
    model = he(
        seeded(
            lambda: nn.Conv2d(1, 16, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(2),
            lambda: nn.Conv2d(16, 32, 3, padding=1), nn.ReLU, lambda: nn.MaxPool2d(2),
            nn.Flatten, lambda: nn.Linear(128, 10),
        )
    )  # fmt: skip
    return watched(model, F.cross_entropy, (IMAGES, LABELS))


@healthy
def wide_images_with_a_black_border() -> Recording:
    """Only some positions of these outputs are looked at; the first ones see nothing but black."""
    model = he(
        seeded(
            lambda: nn.Conv2d(1, 32, 3, padding=1), nn.ReLU, lambda: nn.Conv2d(32, 32, 3, padding=1), nn.ReLU,
            lambda: nn.AdaptiveAvgPool2d(4), nn.Flatten, lambda: nn.Linear(512, 10),
        )
    )  # fmt: skip
    framed = F.pad(F.interpolate(IMAGES, scale_factor=2), (6, 6, 6, 6))
    return watched(model, F.cross_entropy, (framed, LABELS), lr=3e-3, steps=150, size=64)


@healthy
def convolutions_with_batch_norm() -> Recording:
    model = seeded(
        lambda: nn.Conv2d(1, 8, 3, bias=False), lambda: nn.BatchNorm2d(8), nn.ReLU,
        lambda: nn.Conv2d(8, 16, 3, bias=False), lambda: nn.BatchNorm2d(16), nn.ReLU,
        nn.Flatten, lambda: nn.Linear(256, 10),
    )  # fmt: skip
    return watched(model, F.cross_entropy, (IMAGES, LABELS))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm1, self.norm2, self.act = nn.BatchNorm2d(16), nn.BatchNorm2d(16), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x))))))


@healthy
def residual_blocks() -> Recording:
    model = seeded(
        lambda: nn.Conv2d(1, 16, 3, padding=1), nn.ReLU, Block, Block, lambda: nn.AdaptiveAvgPool2d(2),
        nn.Flatten, lambda: nn.Linear(64, 10),
    )  # fmt: skip
    return watched(model, F.cross_entropy, (IMAGES, LABELS), steps=150)


@healthy
def autoencoder_with_a_narrow_middle() -> Recording:
    model = dense(64, 32, 6, 32, 64)
    return watched(nn.Sequential(*model, nn.Sigmoid()), F.mse_loss, (FLAT, FLAT), lr=5e-3, steps=600)


@healthy
def autoencoder_of_standardised_images() -> Recording:
    flat = (FLAT - FLAT.mean()) / FLAT.std()
    return watched(dense(64, 32, 8, 32, 64), F.mse_loss, (flat, flat), lr=3e-3, steps=400)


@healthy
def regression_on_a_line() -> Recording:
    x = torch.linspace(-1, 1, 200)[:, None]
    return watched(dense(1, 32, 32, 1), F.mse_loss, (x, torch.sin(4 * x)), lr=5e-3, steps=500)


@healthy
def regression_on_positive_inputs() -> Recording:
    x = torch.linspace(0, 1, 200)[:, None]
    return watched(he(dense(1, 64, 64, 1)), F.mse_loss, (x, torch.sin(4 * x)), lr=5e-3, steps=500)


@healthy
def noisy_regression() -> Recording:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(500, 10, generator=generator)
    y = x[:, :1] + 1.5 * torch.randn(500, 1, generator=generator)
    return watched(dense(10, 64, 64, 1), F.mse_loss, (x, y), steps=200)


@healthy
def one_sample_at_a_time() -> Recording:
    return watched(dense(64, 32, 10), F.cross_entropy, (FLAT, LABELS), lr=1e-3, steps=900, size=1)


@healthy
def one_whole_batch() -> Recording:
    return watched(dense(64, 32, 10), F.cross_entropy, (FLAT, LABELS), lr=1e-2, steps=100, size=0)


@healthy
def sparse_by_decay() -> Recording:
    model = dense(64, 128, 10)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.3)
    return watched(model, F.cross_entropy, (FLAT, LABELS), steps=400, optimizer=optimizer)


@healthy
def dropout_and_ones() -> Recording:
    model = seeded(
        lambda: nn.Linear(64, 128), nn.ReLU, lambda: nn.Dropout(0.5), lambda: nn.Linear(128, 1), nn.Sigmoid
    )
    return watched(model, F.binary_cross_entropy, (FLAT, (LABELS[:, None] > 4).float()), lr=3e-3)


class Words(nn.Module):
    """The mean of embeddings, then a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden, self.head = nn.Embedding(17, 16), nn.Linear(16, 32), nn.Linear(32, 10)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.hidden(self.table(tokens).flatten(2).mean(1))))


@healthy
def embeddings() -> Recording:
    torch.manual_seed(0)
    return watched(Words(), F.cross_entropy, ((FLAT * 16).long(), LABELS), lr=1e-2, steps=900)


class Encoder(nn.Module):
    """PyTorch copies the first layer of an encoder: all of them start equal."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 3), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(x.view(-1, 8, 8)).flatten(1))


@healthy
def transformer() -> Recording:
    torch.manual_seed(0)
    return watched(Encoder(), F.cross_entropy, (FLAT, LABELS), lr=3e-3, steps=200)


@healthy
def tanh_outputs_in_reach() -> Recording:
    x = torch.linspace(-1, 1, 200)[:, None]
    model = dense(1, 32, 1, hidden=nn.Tanh)
    return watched(
        nn.Sequential(*model, nn.Tanh()), F.mse_loss, (x, 1.02 * torch.sin(4 * x)), lr=1e-2, steps=500
    )


@healthy
def counts_from_a_relu() -> Recording:
    """A ReLU at the end of a network whose targets are never negative."""
    x = torch.linspace(-1, 1, 200)[:, None]
    torch.manual_seed(1)
    model = nn.Sequential(*dense(1, 32, 32, 1), nn.ReLU())
    with torch.no_grad():
        model[-2].bias.fill_(0.5)
    return watched(model, F.mse_loss, (x, 1 + x), lr=5e-3, steps=400)


@healthy
def derivative_in_the_loss() -> Recording:
    """A network that solves an equation: the loss holds its derivative, so each layer is seen twice."""
    torch.manual_seed(4)
    model = dense(1, 32, 32, 1, hidden=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    with record(model, optimizer, goal="loss<2") as run:
        for _ in range(300):
            x = (6.3 * torch.rand(64, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
            loss = ((slope - torch.cos(x)) ** 2).mean() + 10 * model(torch.zeros(1, 1)).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return run.recording


@healthy
def black_borders_and_a_loss_of_their_own() -> Recording:
    """The digit in the middle; the loss has no known baseline, so nothing shows that this learns."""
    torch.manual_seed(0)
    images = F.pad(IMAGES, (4, 4, 4, 4))
    model = nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    teacher = deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with record(model, optimizer) as run:
        for (x, y), _ in zip(batches(64, images, LABELS), range(200), strict=False):
            optimizer.zero_grad()
            guess = model(x)
            calm = F.mse_loss(guess.softmax(1), teacher(x).softmax(1).detach())
            (F.cross_entropy(guess, y) + calm).backward()
            optimizer.step()
            with torch.no_grad():
                for slow, quick in zip(teacher.parameters(), model.parameters(), strict=True):
                    slow.lerp_(quick, 0.01)
    return run.recording
