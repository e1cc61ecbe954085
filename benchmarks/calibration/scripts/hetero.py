"""Heteroscedastic regression: mean and variance by two heads, nn.GaussianNLLLoss."""

import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(3)
X = rng.uniform(-2, 2, (1600, 3)).astype(np.float32)
f = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
sd = 0.1 + 0.3 * (X[:, 0] > 0)
Y = (f + sd * rng.normal(size=1600)).astype(np.float32)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class MeanVar(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.mean = nn.Linear(64, 1)
        self.raw = nn.Linear(64, 1)

    def forward(self, x):
        h = self.hidden(x)
        return self.mean(h).squeeze(-1), nn.functional.softplus(self.raw(h)).squeeze(-1) + 1e-3


net = MeanVar()
criterion = nn.GaussianNLLLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
data = DataLoader(TensorDataset(torch.tensor(X[:1200]), torch.tensor(Y[:1200])), batch_size=48, shuffle=True)

for epoch in range(15):
    for xb, yb in data:
        optimizer.zero_grad()
        mean, var = net(xb)
        loss = criterion(mean, yb, var)
        loss.backward()
        optimizer.step()

net.eval()
with torch.no_grad():
    mean, var = net(torch.tensor(X[1200:]))
    y = torch.tensor(Y[1200:])
    nll = criterion(mean, y, var).item()
    constant = criterion(
        torch.full_like(y, float(Y[:1200].mean())), y, torch.full_like(y, float(Y[:1200].var()))
    ).item()
print(f"nll {nll:.3f}, constant {constant:.3f}, gained {constant - nll:.4f}")
