"""word2vec: skip-gram with negative sampling on made-up sentences; words of one theme should end up close."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

rng = np.random.default_rng(77)
THEMES, SIZE = 8, 12
VOCAB = THEMES * SIZE
theme = np.repeat(np.arange(THEMES), SIZE)
shares = 1 / np.arange(1, SIZE + 1) ** 0.7
shares /= shares.sum()


def sentence(length=9):
    t = rng.integers(THEMES)
    own = t * SIZE + rng.choice(SIZE, length, p=shares)
    return np.where(rng.random(length) < 0.75, own, rng.integers(0, VOCAB, length))


corpus = [sentence() for _ in range(2500)]
window = 2
centers, contexts = [], []
for s in corpus:
    for i, w in enumerate(s):
        for j in range(max(0, i - window), min(len(s), i + window + 1)):
            if j != i:
                centers.append(w)
                contexts.append(s[j])
centers, contexts = torch.tensor(np.array(centers)), torch.tensor(np.array(contexts))
freq = torch.bincount(centers, minlength=VOCAB).float() ** 0.75


class SkipGram(nn.Module):
    def __init__(self, vocab_size, dim):
        super().__init__()
        self.in_embed = nn.Embedding(vocab_size, dim)
        self.out_embed = nn.Embedding(vocab_size, dim)
        self.in_embed.weight.data.uniform_(-0.5 / dim, 0.5 / dim)
        self.out_embed.weight.data.uniform_(-0.5 / dim, 0.5 / dim)

    def forward(self, center, context, negatives):
        v = self.in_embed(center)
        u = self.out_embed(context)
        n = self.out_embed(negatives)
        positive = (v * u).sum(1)
        negative = torch.bmm(n, v.unsqueeze(2)).squeeze(2)
        return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean()


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = SkipGram(VOCAB, 24)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(4):
    losses = []
    for batch in torch.randperm(len(centers)).split(128):
        negatives = torch.multinomial(freq, len(batch) * 5, replacement=True).view(-1, 5)
        loss = model(centers[batch], contexts[batch], negatives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch + 1} loss {sum(losses) / len(losses):.4f}")

vectors = F.normalize(model.in_embed.weight.data, dim=1)
similar = (vectors @ vectors.T - 2 * torch.eye(VOCAB)).topk(5).indices.numpy()
print(f"similar words of the same theme: {(theme[similar] == theme[:, None]).mean():.4f}")
