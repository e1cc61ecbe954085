"""Part-of-speech-like tagging of padded sentences: bidirectional GRU, gradient accumulation, ignore_index."""

import random
import sys

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(1)
torch.manual_seed(seed)
PAD, TAGS, VOCAB = -100, 5, 60


def sentence():
    n = random.randint(4, 14)
    toks = [random.randint(1, VOCAB - 1) for _ in range(n)]
    tags = []
    for i, t in enumerate(toks):
        prev = toks[i - 1] if i else 0
        tags.append((t % 3 + (2 if prev % 2 else 0)) % TAGS)
    return torch.tensor(toks), torch.tensor(tags)


corpus = [sentence() for _ in range(800)]


def collate(batch):
    xs, ys = zip(*batch)
    return pad_sequence(xs, batch_first=True), pad_sequence(ys, batch_first=True, padding_value=PAD)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, 24, padding_idx=0)
        self.gru = nn.GRU(24, 32, bidirectional=True, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(64, TAGS)

    def forward(self, x):
        h, _ = self.gru(self.emb(x))
        return self.fc(self.drop(h))


model = Tagger()
loss_fn = nn.CrossEntropyLoss(ignore_index=PAD)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
train, test = corpus[:700], corpus[700:]
ACCUM = 2

model.train()
for epoch in range(8):
    loader = torch.utils.data.DataLoader(train, batch_size=16, shuffle=True, collate_fn=collate)
    optimizer.zero_grad()
    for i, (x, y) in enumerate(loader):
        scores = model(x)
        loss = loss_fn(scores.transpose(1, 2), y) / ACCUM
        loss.backward()
        if (i + 1) % ACCUM == 0:
            optimizer.step()
            optimizer.zero_grad()

model.eval()
x, y = collate(test)
with torch.no_grad():
    pred = model(x).argmax(-1)
mask = y != PAD
print("tag accuracy:", round((pred[mask] == y[mask]).float().mean().item(), 4))
