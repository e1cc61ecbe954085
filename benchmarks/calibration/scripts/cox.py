"""Survival with a neural Cox model: partial likelihood within the batch."""

import sys

import numpy as np
import torch
import torch.nn as nn

rng = np.random.default_rng(6)
X = rng.normal(size=(1500, 5)).astype(np.float32)
risk = 1.2 * X[:, 0] - X[:, 1] ** 2 + X[:, 2] * X[:, 3]
time = rng.exponential(np.exp(-risk)).astype(np.float32)
censored = rng.exponential(2.0, 1500).astype(np.float32)
event = torch.tensor((time <= censored).astype(np.float32))
time = torch.tensor(np.minimum(time, censored))
X = torch.tensor(X)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)


def cox_loss(h, time, event):
    order = torch.argsort(time, descending=True)
    h, event = h[order], event[order]
    log_risk = torch.logcumsumexp(h, dim=0)
    return -((h - log_risk) * event).sum() / event.sum().clamp(min=1)


for epoch in range(20):
    for idx in torch.randperm(1200).split(100):
        loss = cox_loss(net(X[idx]).squeeze(1), time[idx], event[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    h, t, e = net(X[1200:]).squeeze(1), time[1200:], event[1200:]
    comparable = (t[:, None] < t[None]) & (e[:, None] == 1)
    index = (h[:, None] > h[None])[comparable].float().mean().item()
print(f"concordance {index:.4f}")
