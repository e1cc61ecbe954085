"""Retrieval with two towers: readers and articles, in-batch negatives, recall at ten among all articles."""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser()
parser.add_argument("seed", type=int, nargs="?", default=0)
parser.add_argument("--dim", type=int, default=32)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--weight-decay", type=float, default=1e-5)
parser.add_argument("--temperature", type=float, default=0.1)
args = parser.parse_args()
torch.manual_seed(args.seed)

N_USERS, N_ITEMS, N_TOPICS, N_AUTHORS = 600, 400, 20, 30


def make_clicks():
    rng = np.random.default_rng(5)
    topic = rng.integers(0, N_TOPICS, N_ITEMS)
    author = rng.integers(0, N_AUTHORS, N_ITEMS)
    length = rng.normal(0, 1, N_ITEMS)
    city = rng.integers(0, 12, N_USERS)
    age = rng.normal(0, 1, N_USERS)
    favourite = (city[:, None] + np.array([0, 5])) % N_TOPICS  # every city has two topics of its own
    taste = rng.normal(0, 0.3, (N_USERS, N_TOPICS))
    taste[np.arange(N_USERS)[:, None], favourite] += 5.0
    liked = rng.normal(0, 1.0, (12, N_AUTHORS))
    score = taste[:, topic] + liked[city][:, author] + 1.2 * age[:, None] * length[None]
    p = np.exp(score - score.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    pairs = [(u, i) for u in range(N_USERS) for i in rng.choice(N_ITEMS, 14, replace=False, p=p[u])]
    rng.shuffle(pairs)
    users = {"city": torch.tensor(city), "age": torch.tensor(age, dtype=torch.float32)}
    items = {
        "topic": torch.tensor(topic),
        "author": torch.tensor(author),
        "length": torch.tensor(length, dtype=torch.float32),
    }
    return users, items, torch.tensor(np.array(pairs))


class Clicks(Dataset):
    def __init__(self, pairs, users, items):
        self.pairs, self.users, self.items = pairs, users, items

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, k):
        u, i = self.pairs[k]
        return {key: v[u] for key, v in self.users.items()}, {key: v[i] for key, v in self.items.items()}


class Tower(nn.Module):
    def __init__(self, sizes, numeric, dim):
        super().__init__()
        self.embeddings = nn.ModuleDict({name: nn.Embedding(n, 16) for name, n in sizes.items()})
        self.numeric = numeric
        self.mlp = nn.Sequential(nn.Linear(16 * len(sizes) + 1, 64), nn.ReLU(), nn.Linear(64, dim))

    def forward(self, batch):
        parts = [embedding(batch[name]) for name, embedding in self.embeddings.items()]
        parts.append(batch[self.numeric].unsqueeze(1))
        return F.normalize(self.mlp(torch.cat(parts, dim=1)), dim=1)


class TwoTower(nn.Module):
    def __init__(self, dim, temperature):
        super().__init__()
        self.user_tower = Tower({"city": 12}, "age", dim)
        self.item_tower = Tower({"topic": N_TOPICS, "author": N_AUTHORS}, "length", dim)
        self.temperature = temperature

    def forward(self, user_batch, item_batch):
        u = self.user_tower(user_batch)
        v = self.item_tower(item_batch)
        return u @ v.T / self.temperature


def train(model, loader, optimizer):
    model.train()
    total = 0.0
    for user_batch, item_batch in loader:
        logits = model(user_batch, item_batch)
        labels = torch.arange(len(logits))
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def recall_at_10(model, users, items, seen, held_out):
    """How often is an article read later among the ten of the highest scores that were not read yet?"""
    model.eval()
    scores = model(users, items)
    scores[seen[:, 0], seen[:, 1]] = -float("inf")
    top = scores.topk(10, dim=1).indices
    return (top[held_out[:, 0]] == held_out[:, 1:]).any(dim=1).float().mean().item()


users, items, pairs = make_clicks()
train_pairs, test_pairs = pairs[:7200], pairs[7200:]
loader = DataLoader(Clicks(train_pairs, users, items), batch_size=args.batch_size, shuffle=True)
model = TwoTower(args.dim, args.temperature)
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
for epoch in range(args.epochs):
    print(f"epoch {epoch}: loss {train(model, loader, optimizer):.4f}")
print(
    "all clicks:",
    len(pairs),
    "recall@10:",
    round(recall_at_10(model, users, items, train_pairs, test_pairs), 4),
)
