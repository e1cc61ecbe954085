"""Is TATAAT before or after TTGACA? Made-up promoters, a transformer with attention written out, time first."""

import math
import random
import sys

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)

VOCAB = {"N": 0, "A": 1, "C": 2, "G": 3, "T": 4}
LENGTH = 32


def make_sequence(rng, label):
    """Two motifs with at most one letter changed; the label says which comes first."""
    seq = [rng.choice("ACGT") for _ in range(LENGTH)]
    motifs = ["TTGACA", "TATAAT"] if label else ["TATAAT", "TTGACA"]
    starts = (rng.randrange(0, 10), rng.randrange(16, LENGTH - 6))
    for motif, start in zip(motifs, starts, strict=True):
        letters = list(motif)
        if rng.random() < 0.3:
            letters[rng.randrange(6)] = rng.choice("ACGT")
        seq[start : start + 6] = letters
    return "".join(seq)


def make_set(n, rng):
    labels = [rng.randrange(2) for _ in range(n)]
    tokens = [[VOCAB.get(c, 0) for c in make_sequence(rng, y)] for y in labels]
    return torch.tensor(tokens), torch.tensor(labels)


class SelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        time, batch, dim = x.shape
        qkv = self.qkv(x).view(time, batch, 3, self.heads, self.head_dim)
        q, k, v = qkv.unbind(2)
        scores = torch.einsum("qbhd,kbhd->bhqk", q, k) / math.sqrt(self.head_dim)
        weights = scores.softmax(dim=-1)
        mixed = torch.einsum("bhqk,kbhd->qbhd", weights, v)
        return self.out(mixed.reshape(time, batch, dim))


class Block(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class PromoterNet(nn.Module):
    def __init__(self, dim=32, heads=4, depth=2, dropout=0.05):
        super().__init__()
        self.letters = nn.Embedding(len(VOCAB), dim)
        self.places = nn.Parameter(0.2 * torch.randn(LENGTH, 1, dim))
        self.words = nn.Conv1d(dim, dim, 7, padding=3)
        self.blocks = nn.ModuleList([Block(dim, heads, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 2)

    def forward(self, tokens):
        x = self.letters(tokens)
        x = torch.relu(self.words(x.transpose(1, 2))).transpose(1, 2)
        x = x.transpose(0, 1)
        x = x + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=0))


rng = random.Random(5)
train_x, train_y = make_set(2400, rng)
test_x, test_y = make_set(500, rng)
loader = DataLoader(TensorDataset(train_x, train_y), batch_size=64, shuffle=True)

model = PromoterNet()
criterion = nn.CrossEntropyLoss()
base_lr, warmup, epochs = 3e-3, 30, 7
optimizer = torch.optim.AdamW(model.parameters(), lr=base_lr, weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))

for epoch in range(epochs):
    model.train()
    for x, y in loader:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        accuracy = (model(test_x).argmax(dim=1) == test_y).float().mean().item()
    print(f"{epoch}: last loss {loss.item():.3f}, test accuracy {accuracy:.3f}")
