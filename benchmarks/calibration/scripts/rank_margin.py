"""Learning to rank: a page should score higher than a worse one of the same query, hinge loss by hand."""

import sys

import torch
import torch.nn as nn

g = torch.Generator().manual_seed(23)
Q, DOCS, F_ = 150, 12, 9
X = torch.randn(Q, DOCS, F_, generator=g)
relevance = (X[..., 0] * 1.2 + torch.tanh(2 * X[..., 1]) * X[..., 2]) + 0.1 * torch.randn(
    Q, DOCS, generator=g
)
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

scorer = nn.Sequential(nn.Linear(F_, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(scorer.parameters(), lr=2e-3)


def hinge(better, worse):
    return torch.clamp(1.0 - (better - worse), min=0).mean()


for it in range(600):
    q = torch.randint(120, (48,))
    i, j = torch.randint(DOCS, (48,)), torch.randint(DOCS, (48,))
    swap = relevance[q, i] < relevance[q, j]
    i, j = torch.where(swap, j, i), torch.where(swap, i, j)
    loss = hinge(scorer(X[q, i]), scorer(X[q, j]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    s = scorer(X[120:]).squeeze(-1)
    r = relevance[120:]
    ordered = r[:, :, None] > r[:, None, :]
    right = (s[:, :, None] > s[:, None, :])[ordered].float().mean().item()
print(f"pairs in order {right:.4f}")
