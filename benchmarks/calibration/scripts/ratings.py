"""Matrix factorisation of ratings with biases (made-up films), trained with Adam."""

import sys

import numpy as np
import torch
from torch import nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
rng = np.random.default_rng(8)
U, V, K = 120, 80, 4
user_f, item_f = rng.normal(size=(U, K)), rng.normal(size=(V, K))
users, items = rng.integers(U, size=8000), rng.integers(V, size=8000)
scores = 3 + 0.6 * (user_f[users] * item_f[items]).sum(1) + 0.2 * rng.normal(size=8000)
ratings = np.clip(scores, 1, 5).astype(np.float32)
users, items, ratings = torch.tensor(users), torch.tensor(items), torch.tensor(ratings)
mean = ratings[:7000].mean()


class MF(nn.Module):
    def __init__(self, n_users, n_items, dim=8):
        super().__init__()
        self.user_emb = nn.Embedding(n_users, dim)
        self.item_emb = nn.Embedding(n_items, dim)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        nn.init.normal_(self.user_emb.weight, std=0.1)
        nn.init.normal_(self.item_emb.weight, std=0.1)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, u, i):
        dot = (self.user_emb(u) * self.item_emb(i)).sum(1)
        return mean + dot + self.user_bias(u).squeeze(1) + self.item_bias(i).squeeze(1)


torch.manual_seed(seed)
model = MF(U, V)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-5)
for epoch in range(8):
    perm = torch.randperm(7000)
    total = 0.0
    for b in perm.split(64):
        pred = model(users[b], items[b])
        loss = ((pred - ratings[b]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, total / 110)

with torch.no_grad():
    pred = model(users[7000:], items[7000:])
    mse = ((pred - ratings[7000:]) ** 2).mean().item()
print("explained", max(-1.0, 1 - mse / ratings[7000:].var().item()))
