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
