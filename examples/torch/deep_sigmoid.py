"""Ten layers. Planted: sigmoids all the way, so no gradient arrives (GRD001). Repaired: --repaired."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn


class Deep(nn.Module):
    def __init__(self, depth, width, activation):
        super().__init__()
        sizes = [64, *[width] * (depth - 1)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.head = nn.Linear(width, 10)
        self.activation = activation

    def forward(self, x):
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.head(x)


def main():
    torch.manual_seed(16)
    repaired = "--repaired" in sys.argv
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    model = Deep(10 if not repaired else 4, 32, torch.relu if repaired else torch.sigmoid)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(8):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
