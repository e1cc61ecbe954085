"""Two classes, one output. Planted: its softmax is always 1 (OUT005). Repaired: --repaired."""

import argparse

import torch
from torch import nn


def points(n):
    """Two half moons, drawn by hand."""
    angle = torch.rand(n) * torch.pi
    label = (torch.arange(n) % 2).float()
    x = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
    x = torch.where(label[:, None] == 1, torch.tensor([1.0, 0.4]) - x, x)
    return x + 0.08 * torch.randn(n, 2), label[:, None]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repaired", action="store_true")
    parser.add_argument("--lr", type=float, default=0.02)
    args = parser.parse_args()
    torch.manual_seed(4)
    x, y = points(600)
    model = nn.Sequential()
    model.add_module("hidden", nn.Linear(2, 24))
    model.add_module("relu", nn.ReLU())
    model.add_module("score", nn.Linear(24, 1))
    model.add_module("probability", nn.Sigmoid() if args.repaired else nn.Softmax(dim=1))
    loss_fn = nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(15):
        for batch in torch.randperm(len(x)).split(40):
            optimizer.zero_grad()
            loss = loss_fn(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
