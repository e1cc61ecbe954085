"""Prices with outliers: Huber loss, summed over the batch, plain SGD."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

g = torch.Generator().manual_seed(31)
X = torch.randn(1600, 6, generator=g)
y = 2 * torch.tanh(X[:, 0] + X[:, 1]) + X[:, 2] * X[:, 3]
y = y + 0.1 * torch.randn(1600, generator=g)
wild = torch.rand(1600, generator=g) < 0.05
y[wild] += 10 * torch.randn(int(wild.sum()), generator=g)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Price(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 64)
        self.b = nn.Linear(64, 64)
        self.c = nn.Linear(64, 1)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.relu(self.a(x))))).squeeze(1)


net = Price()
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
for epoch in range(20):
    for idx in torch.randperm(1300).split(32):
        loss = F.huber_loss(net(X[idx]), y[idx], reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    clean = torch.arange(1300, 1600)[~wild[1300:]]
    r2 = 1 - (net(X[clean]) - y[clean]).abs().mean() / (y[clean] - y[:1300].median()).abs().mean()
print("absolute error explained", round(r2.item(), 4))
