"""Tags of short texts: bag of embedded words, one logit per tag, binary cross-entropy."""

import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 42
rng = np.random.default_rng(2)
VOCAB, TAGS, LEN = 400, 6, 20
topic_words = rng.permutation(VOCAB)[: TAGS * 20].reshape(TAGS, 20)


class Texts(Dataset):
    def __init__(self, n):
        self.x = rng.integers(0, VOCAB, (n, LEN))
        self.y = (rng.random((n, TAGS)) < 0.25).astype(np.float32)
        for i in range(n):
            on = np.flatnonzero(self.y[i])
            for k, tag in enumerate(on):
                self.x[i, k * 3 : k * 3 + 3] = rng.choice(topic_words[tag], 3)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return torch.tensor(self.x[i]), torch.tensor(self.y[i])


train_set, test_set = Texts(1500), Texts(400)
torch.manual_seed(SEED)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(VOCAB, 48, mode="mean")
        self.net = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 64), nn.SiLU(), nn.Linear(64, TAGS))

    def forward(self, tokens):
        return self.net(self.embedding(tokens))


model = Tagger()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)

for epoch in range(12):
    model.train()
    for tokens, tags in train_loader:
        optimizer.zero_grad()
        logits = model(tokens)
        loss = criterion(logits, tags)
        loss.backward()
        optimizer.step()

model.eval()
tp = fp = fn = 0
with torch.no_grad():
    for tokens, tags in DataLoader(test_set, batch_size=128):
        guess = model(tokens) > 0
        tp += (guess & (tags > 0.5)).sum().item()
        fp += (guess & (tags < 0.5)).sum().item()
        fn += (~guess & (tags > 0.5)).sum().item()
print(f"micro F1 {2 * tp / max(2 * tp + fp + fn, 1):.4f}")
