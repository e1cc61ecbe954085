"""A network with its configuration in a dataclass. Planted: a learning rate far too high (LRN001)."""

import dataclasses
import sys

import torch
from torch import nn


@dataclasses.dataclass
class Config:
    hidden: int = 32
    lr: float = 2.5
    momentum: float = 0.9
    steps: int = 300


def train(config):
    torch.manual_seed(9)
    x = torch.randn(1000, 8)
    y = (x[:, :1] - 2 * x[:, 1:2] + x[:, 2:3] * x[:, 3:4]) / 2
    model = nn.Sequential(nn.Linear(8, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=config.momentum)
    for step in range(config.steps):
        batch = torch.randint(0, len(x), (50,))
        loss = nn.functional.mse_loss(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    train(Config(lr=0.02) if "--repaired" in sys.argv else Config())
