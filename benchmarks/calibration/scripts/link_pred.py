"""Who will cite whom? Link prediction with GraphSAGE written with index_add, a made-up graph of eight fields."""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)


def make_graph(n=700, fields=8, n_words=60):
    """Papers with words; most links stay within the field, some go to the next one."""
    rng = np.random.default_rng(31)
    field = rng.integers(0, fields, n)
    pairs = set()
    while len(pairs) < 3600:
        a, b = rng.integers(0, n, 2)
        chance = 1.0 if field[a] == field[b] else 0.15 if (field[a] + 1) % fields == field[b] else 0.005
        if a != b and rng.random() < chance:
            pairs.add((min(a, b), max(a, b)))
    topics = rng.random((fields, n_words)) < 0.15
    words = (rng.random((n, n_words)) < 0.03 + 0.3 * topics[field]).astype(np.float32)
    pairs = np.array(sorted(pairs))
    return words, rng.permutation(pairs)


words, pairs = make_graph()
x = torch.tensor(words)
x = x / x.sum(dim=1, keepdim=True).clamp(min=1) * 5
edges = torch.tensor(pairs).t().contiguous()
n_nodes = len(x)
train_pos, test_pos = edges[:, :3000], edges[:, 3000:]
message_edges = torch.cat([train_pos, train_pos.flip(0)], dim=1)
known = {(int(a), int(b)) for a, b in pairs}


def sample_negatives(count, generator=None):
    found = []
    while len(found) < count:
        a, b = torch.randint(0, n_nodes, (2,), generator=generator).tolist()
        if a != b and (min(a, b), max(a, b)) not in known:
            found.append((a, b))
    return torch.tensor(found).t()


class SAGEConv(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.lin_self = nn.Linear(n_in, n_out)
        self.lin_neigh = nn.Linear(n_in, n_out, bias=False)

    def forward(self, x, edge_index):
        src, dst = edge_index
        total = torch.zeros_like(x).index_add(0, dst, x[src])
        degree = torch.zeros(len(x)).index_add(0, dst, torch.ones(len(dst))).clamp(min=1)
        return self.lin_self(x) + self.lin_neigh(total / degree.unsqueeze(1))


class LinkPredictor(nn.Module):
    def __init__(self, n_in, hidden=48, n_out=24, dropout=0.4):
        super().__init__()
        self.conv1 = SAGEConv(n_in, hidden)
        self.conv2 = SAGEConv(hidden, n_out)
        self.dropout = dropout
        self.score = nn.Sequential(nn.Linear(2 * n_out, 32), nn.ReLU(), nn.Linear(32, 1))

    def encode(self, x, edge_index):
        h = F.relu(self.conv1(x, edge_index))
        h = F.dropout(h, p=self.dropout, training=self.training)
        return self.conv2(h, edge_index)

    def decode(self, z, pairs):
        a, b = z[pairs[0]], z[pairs[1]]
        return self.score(torch.cat([a * b, (a - b).abs()], dim=1)).view(-1)


model = LinkPredictor(x.size(1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)


def train():
    model.train()
    optimizer.zero_grad()
    z = model.encode(x, message_edges)
    batch = train_pos[:, torch.randperm(train_pos.size(1))[:1000]]
    negatives = sample_negatives(batch.size(1))
    logits = model.decode(z, torch.cat([batch, negatives], dim=1))
    labels = torch.cat([torch.ones(batch.size(1)), torch.zeros(negatives.size(1))])
    loss = F.binary_cross_entropy_with_logits(logits, labels)
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    z = model.encode(x, message_edges)
    negatives = sample_negatives(test_pos.size(1), torch.Generator().manual_seed(8))
    hit = (model.decode(z, test_pos) > 0).float().mean()
    reject = (model.decode(z, negatives) <= 0).float().mean()
    return ((hit + reject) / 2).item()


for epoch in range(1, 101):
    loss = train()
    if epoch % 25 == 0:
        print(f"epoch {epoch:3d}, loss {loss:.4f}, test accuracy {test():.4f}")
