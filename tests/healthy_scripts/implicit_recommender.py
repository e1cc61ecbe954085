"""Clicks of a large catalogue, most of whose rows no batch ever uses: tables only, sampled negatives."""

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
USERS, ITEMS, USED = 3000, 5000, 150
taste, kind = torch.randn(USED, 4), torch.randn(USED, 4)
likes = (taste @ kind.T) > 1.5
pairs = likes.nonzero()
user, item = nn.Embedding(USERS, 16), nn.Embedding(ITEMS, 16)
for table in (user, item):
    nn.init.normal_(table.weight, std=0.1)
model = nn.ModuleList([user, item])
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-6)
for _ in range(12):
    for rows in pairs[torch.randperm(len(pairs))].split(128):
        u, i = rows[:, 0], rows[:, 1]
        j = torch.randint(USED, (len(u),))
        scores = torch.cat([(user(u) * item(i)).sum(1), (user(u) * item(j)).sum(1)])
        truth = torch.cat([torch.ones(len(u)), likes[u, j].float()])
        loss = F.binary_cross_entropy_with_logits(scores, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print(loss.item())
