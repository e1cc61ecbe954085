"""Two modules, one optimiser. Planted: it holds the head only, by mistake (LRN005). Repaired: --repaired."""

import itertools
import sys

import torch
from torch import nn


class Encoder(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, 2)

    def forward(self, x):
        return torch.tanh(self.second(torch.tanh(self.first(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(2, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


def main():
    torch.manual_seed(11)
    x = torch.rand(800, 2) * 2 - 1
    y = (x[:, :1] * x[:, 1:] > 0).float()  # opposite corners: no linear head can do it alone
    net = Net()
    parameters = net.head.parameters()
    if "--repaired" in sys.argv:
        parameters = itertools.chain(net.encoder.parameters(), net.head.parameters())
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(20):
        for batch in torch.randperm(len(x)).split(40):
            optimizer.zero_grad()
            loss = criterion(net(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
