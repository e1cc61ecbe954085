"""Recommendations by matrix factorisation with the BPR loss: a bought item against one that was not."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

g = torch.Generator().manual_seed(12)
USERS, ITEMS, D = 200, 120, 4
taste = torch.randn(USERS, D, generator=g) @ torch.randn(D, ITEMS, generator=g)
bought = taste > taste.quantile(0.85, dim=1, keepdim=True)
pairs = bought.nonzero()
pairs = pairs[torch.randperm(len(pairs), generator=g)]
train, test = pairs[:-600], pairs[-600:]

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class MF(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.user = nn.Embedding(USERS, dim)
        self.item = nn.Embedding(ITEMS, dim)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)

    def forward(self, u, i):
        return (self.user(u) * self.item(i)).sum(-1)


model = MF()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(20):
    for rows in train[torch.randperm(len(train))].split(256):
        u, i = rows[:, 0], rows[:, 1]
        j = torch.randint(ITEMS, (len(u),))
        diff = model(u, i) - model(u, j)
        loss = -F.logsigmoid(diff).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    u, i = test[:, 0], test[:, 1]
    wins = 0.0
    for _ in range(20):
        j = torch.randint(ITEMS, (len(u),))
        ok = ~bought[u, j]
        wins += (model(u, i) > model(u, j))[ok].float().mean().item() / 20
print("AUC", round(wins, 4))
