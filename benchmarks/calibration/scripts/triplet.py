"""Metric learning with triplets on digits: anchor, positive, negative; F.triplet_margin_loss."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
X, y = load_digits(return_X_y=True)
X = torch.tensor((X - X.mean()) / X.std(), dtype=torch.float32)
y = torch.tensor(y)
train, test = slice(0, 1400), slice(1400, None)
by_class = [torch.nonzero(y[train] == c)[:, 0] for c in range(10)]

embed = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 8))
opt = torch.optim.Adam(embed.parameters(), lr=1e-3)


def sample(n):
    cls = torch.randint(10, (n,))
    other = (cls + torch.randint(1, 10, (n,))) % 10
    a, p, q = [], [], []
    for c, o in zip(cls.tolist(), other.tolist()):
        own, away = by_class[c], by_class[o]
        i = own[torch.randint(len(own), (2,))]
        a.append(i[0])
        p.append(i[1])
        q.append(away[torch.randint(len(away), (1,))[0]])
    return torch.stack(a), torch.stack(p), torch.stack(q)


for step in range(300):
    a, p, n = sample(64)
    loss = F.triplet_margin_loss(embed(X[a]), embed(X[p]), embed(X[n]), margin=1.0)
    opt.zero_grad()
    loss.backward()
    opt.step()

with torch.no_grad():
    a, p, n = sample(1000)
    left = F.triplet_margin_loss(embed(X[a]), embed(X[p]), embed(X[n]), margin=1.0).item()
    e = embed(X)
    near = torch.cdist(e[test], e[train]).argmin(1)
    acc = (y[near] == y[test]).float().mean().item()
print(f"1-NN accuracy {acc:.3f} ; margin reached {1 - left:.4f}")
