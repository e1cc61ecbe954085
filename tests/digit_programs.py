"""Programs in PyTorch that learn digits, for the rules' tests: trained while watched, and diagnosed."""

import torch
from torch import nn

import unstuck  # noqa: F401  (wires `Recording.diagnose`)
from unstuck import datasets
from unstuck.sources.torch.record import record

DIGITS = datasets.digits()
X = torch.tensor(DIGITS.inputs[:300].reshape(300, -1))
Y = torch.tensor(DIGITS.targets[:300]).long()
YES = (Y[:, None] > 4).float()
BATCH = 50
entropy = nn.CrossEntropyLoss()


def mlp(*more, out=10, hidden=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), hidden(), nn.Linear(32, out), *more)


def batches(steps, *tensors):
    for i in range(steps):
        rows = torch.arange(i * BATCH, (i + 1) * BATCH) % 300
        yield [tensor[rows] for tensor in tensors]


def watched(models, optimizers, step, *, steps=60, data=(X, Y)):
    """The diagnosis of a program that makes `step(x, y)` on each batch."""
    torch.manual_seed(0)
    with record(models, optimizers) as run:
        for x, y in batches(steps, *data):
            step(x, y)
    return run.diagnose()


def trained(model, loss=entropy, optimizer=None, *, lr=0.5, clear=True, **more):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr)

    def step(x, y):
        if clear:
            optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()

    return watched(model, optimizer, step, **more)


def first(diagnosis):
    found = diagnosis.findings[0]
    return found.code, found.severity, found.layer


def faults(diagnosis):
    return [(found.code, found.layer) for found in diagnosis.findings if found.severity != "info"]


def recording(model, data=(X, Y), loss=entropy, *, lr=0.05, steps=30):
    """Of a watched training on batches of 50, which come in the same order again and again."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    torch.manual_seed(0)
    with record(model, optimizer) as run:
        for i in range(steps):
            rows = torch.arange(i * 50, (i + 1) * 50) % 300
            optimizer.zero_grad()
            loss(model(*(one[rows] for one in data[:-1])), data[-1][rows]).backward()
            optimizer.step()
    return run.recording


class Caption(nn.Module):
    """Writes the number of a picture and what follows it, from the picture and from what is written."""

    def __init__(self, picture):
        super().__init__()
        torch.manual_seed(0)
        self.look, self.words, self.out = nn.Linear(64, 24), nn.Embedding(30, 24), nn.Linear(24, 30)
        self.picture = picture

    def forward(self, image, words):
        seen = self.picture(torch.relu(self.look(image)))
        return self.out(torch.tanh(seen[:, None] + self.words(words)))


def captions(picture, steps=250):
    starts, second = torch.full_like(Y, 29), Y + 10
    words, answers = torch.stack([starts, Y, second], 1), torch.stack([Y, second, starts], 1)
    return recording(
        Caption(picture),
        (X, words, answers),
        lambda scores, wanted: entropy(scores.transpose(1, 2), wanted),
        lr=0.5,
        steps=steps,
    )
