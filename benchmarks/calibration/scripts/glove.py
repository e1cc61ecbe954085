"""Word vectors from counts of neighbours (GloVe) in a made-up corpus of six topics."""

import sys

import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(33)
TOPICS, PER_TOPIC, COMMON = 6, 15, 10
VOCAB = TOPICS * PER_TOPIC + COMMON
topic_of = np.repeat(np.arange(TOPICS), PER_TOPIC)


def sentence():
    t = rng.integers(TOPICS)
    words = t * PER_TOPIC + np.minimum(rng.geometric(0.15, 10) - 1, PER_TOPIC - 1)
    common = rng.integers(TOPICS * PER_TOPIC, VOCAB, 10)
    strange = rng.integers(0, VOCAB, 10)
    u = rng.random(10)
    return np.where(u < 0.6, words, np.where(u < 0.85, common, strange))


counts = np.zeros((VOCAB, VOCAB))
for _ in range(4000):
    s = sentence()
    for offset in (1, 2, 3):
        np.add.at(counts, (s[:-offset], s[offset:]), 1 / offset)
counts = counts + counts.T
rows, cols = np.nonzero(counts)
X = torch.tensor(counts[rows, cols], dtype=torch.float32)
rows, cols = torch.tensor(rows), torch.tensor(cols)


class GloVe(nn.Module):
    def __init__(self, vocab, dim=16):
        super().__init__()
        self.w = nn.Embedding(vocab, dim)
        self.w_ctx = nn.Embedding(vocab, dim)
        self.b = nn.Embedding(vocab, 1)
        self.b_ctx = nn.Embedding(vocab, 1)
        for emb in (self.w, self.w_ctx, self.b, self.b_ctx):
            nn.init.uniform_(emb.weight, -0.1, 0.1)

    def forward(self, i, j):
        dot = (self.w(i) * self.w_ctx(j)).sum(dim=1)
        return dot + self.b(i).squeeze(1) + self.b_ctx(j).squeeze(1)


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = GloVe(VOCAB)
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
x_max, alpha = 50.0, 0.75
weight = torch.clamp(X / x_max, max=1.0) ** alpha
log_x = torch.log(X)

for epoch in range(25):
    total, batches = 0.0, 0
    for k in torch.randperm(len(X)).split(128):
        optimizer.zero_grad()
        diff = model(rows[k], cols[k]) - log_x[k]
        loss = (weight[k] * diff**2).mean()
        loss.backward()
        optimizer.step()
        total, batches = total + loss.item(), batches + 1
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: {total / batches:.5f}")

with torch.no_grad():
    vec = (model.w.weight + model.w_ctx.weight)[: TOPICS * PER_TOPIC]
    vec = nn.functional.normalize(vec, dim=1)
    near = (vec @ vec.T - 2 * torch.eye(len(vec))).topk(5, dim=1).indices.numpy()
print(f"neighbours of the same topic: {(topic_of[near] == topic_of[:, None]).mean():.4f}")
