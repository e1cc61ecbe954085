"""An own normalising layer. Planted: a unit that rests at 0 becomes 0 / 0 (GRD004). Repaired: --repaired."""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn


class Standardise(nn.Module):
    def __init__(self, epsilon):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x):
        return (x - x.mean(dim=0)) / (x.std(dim=0) + self.epsilon)


class Net(nn.Module):
    def __init__(self, epsilon):
        super().__init__()
        self.fc1 = nn.Linear(64, 32)
        self.normalise = Standardise(epsilon)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc2(self.normalise(torch.relu(self.fc1(x))))


def main():
    torch.manual_seed(7)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    model = Net(epsilon=1e-5 if "--repaired" in sys.argv else 0.0)
    with torch.no_grad():
        model.fc1.bias[0] = -100.0  # one unit that is never active
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(5):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            loss = loss_fn(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
