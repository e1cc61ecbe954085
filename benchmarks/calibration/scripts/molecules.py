"""A graph network by hand, dense adjacency: does a made-up molecule hold a ring of three?"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
g = torch.Generator().manual_seed(12)
N, V = 900, 10
adj = torch.zeros(N, V, V)
kinds = torch.randint(4, (N, V), generator=g)
for n in range(N):
    for v in range(1, V):
        u = int(torch.randint(v, (1,), generator=g))
        adj[n, u, v] = adj[n, v, u] = 1
    for _ in range(2):
        a, b = torch.randint(V, (2,), generator=g).tolist()
        if a != b:
            adj[n, a, b] = adj[n, b, a] = 1
bonded = (
    F.one_hot(kinds, 4)[:, :, 0].float().unsqueeze(1)
    @ adj
    @ F.one_hot(kinds, 4)[:, :, 1].float().unsqueeze(2)
)
score = bonded.flatten() + 0.5 * adj.sum((1, 2)) / V
labels = (score > score.median()).float()
feats = F.one_hot(kinds, 4).float()


class GraphLayer(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.own = nn.Linear(i, o)
        self.neighbours = nn.Linear(i, o, bias=False)

    def forward(self, h, a):
        return F.relu(self.own(h) + self.neighbours(a @ h))


class GNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = GraphLayer(4, 32)
        self.l2 = GraphLayer(32, 32)
        self.readout = nn.Linear(32, 1)

    def forward(self, h, a):
        h = self.l1(h, a)
        h = self.l2(h, a)
        h = h.sum(dim=1)
        return self.readout(h).view(-1)


torch.manual_seed(seed)
model = GNN()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(30):
    perm = torch.randperm(700)
    for idx in perm.split(35):
        logits = model(feats[idx], adj[idx])
        loss = F.binary_cross_entropy_with_logits(logits, labels[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 0:
        print(epoch, loss.item())

with torch.no_grad():
    guess = model(feats[700:], adj[700:]) > 0
print("accuracy", (guess == (labels[700:] > 0.5)).float().mean().item())
