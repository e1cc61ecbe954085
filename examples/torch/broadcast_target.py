"""Regression with closures. Planted: (N, 1) predictions against (N,) targets make an N x N table (OUT006)."""

import sys
import warnings

import torch
from torch import nn

warnings.filterwarnings("ignore", message="Using a target size")  # as many do


def make_data(n=512):
    x = torch.rand(n, 3) * 2 - 1
    y = torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.3
    return x, y if "--repaired" not in sys.argv else y.unsqueeze(1)


def make_step(model, optimizer, criterion):
    def step(inputs, targets):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main():
    torch.manual_seed(5)
    x, y = make_data()
    model = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
    step = make_step(model, torch.optim.Adam(model.parameters(), lr=0.01), nn.MSELoss())
    for epoch in range(15):
        losses = [step(x[i : i + 32], y[i : i + 32]) for i in range(0, len(x), 32)]
        print(f"epoch {epoch}: loss {sum(losses) / len(losses):.4f}")


main()
