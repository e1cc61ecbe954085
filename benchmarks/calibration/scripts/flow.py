"""Normalising flow (RealNVP) of two moons: maximum likelihood."""

import math
import sys

import torch
import torch.nn as nn
from sklearn.datasets import make_moons

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
data = torch.tensor(make_moons(2000, noise=0.05, random_state=1)[0], dtype=torch.float32)
data = (data - data.mean(0)) / data.std(0)


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x):
        a, b = x[:, :1], x[:, 1:]
        if self.flip:
            a, b = b, a
        s, t = self.net(a).chunk(2, dim=1)
        s = torch.tanh(s)
        b = b * torch.exp(s) + t
        out = torch.cat([b, a] if self.flip else [a, b], dim=1)
        return out, s.sum(1)


class Flow(nn.Module):
    def __init__(self, depth=6):
        super().__init__()
        self.layers = nn.ModuleList(Coupling(i % 2 == 1) for i in range(depth))

    def forward(self, x):
        log_det = 0.0
        for layer in self.layers:
            x, ld = layer(x)
            log_det = log_det + ld
        return x, log_det


def log_prob(z, log_det):
    return (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).sum(1) + log_det


flow = Flow()
optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
for epoch in range(15):
    for x in data[torch.randperm(1600)].split(80):
        loss = -log_prob(*flow(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    gained = log_prob(*flow(data[1600:])).mean().item() + 2.838  # over a normal density
print("nats over a normal density", round(gained, 4))
