"""Planted: a body that was never trained is frozen (LRN006). Repaired: --repaired."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn


def body():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 2, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )


class Classifier(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.features = features
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.features(x))


def main():
    torch.manual_seed(12)
    digits = load_digits()
    x = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)
    y = torch.tensor(digits.target)
    model = Classifier(body())
    if "--repaired" not in sys.argv:
        model.features.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for epoch in range(6):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
