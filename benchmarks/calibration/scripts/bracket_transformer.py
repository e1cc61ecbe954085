"""Is this string of brackets balanced? A small transformer encoder reads it."""

import random
import sys

import torch
from torch import nn

PAIRS = {"(": ")", "[": "]"}
VOCAB = {ch: i for i, ch in enumerate("()[]")}
LENGTH = 12


def dyck(n):
    if n == 0:
        return ""
    k = random.randrange(n)
    left = random.choice("([")
    return left + dyck(k) + PAIRS[left] + dyck(n - 1 - k)


def is_balanced(text):
    stack = []
    for ch in text:
        if ch in PAIRS:
            stack.append(PAIRS[ch])
        elif not stack or stack.pop() != ch:
            return False
    return not stack


def make(n):
    texts, labels = [], []
    while len(texts) < n:
        s = list(dyck(LENGTH // 2))
        if random.random() < 0.5:
            for _ in range(random.choice([1, 2])):
                s[random.randrange(LENGTH)] = random.choice("()[]")
        texts.append([VOCAB[ch] for ch in s])
        labels.append(int(is_balanced(s)))
    return torch.tensor(texts), torch.tensor(labels)


class Checker(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.tok = nn.Embedding(len(VOCAB), dim)
        self.pos = nn.Parameter(0.02 * torch.randn(LENGTH, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.cls = nn.Linear(dim, 2)

    def forward(self, ids):
        h = self.encoder(self.tok(ids) + self.pos)
        return self.cls(h.mean(dim=1))


random.seed(42)
train_x, train_y = make(3000)
test_x, test_y = make(600)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = Checker()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
warmup = 50
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda s: min((s + 1) / warmup, (warmup / (s + 1)) ** 0.5)
)

for epoch in range(16):
    order = torch.randperm(len(train_x))
    running = 0.0
    for batch in order.split(60):
        logits = model(train_x[batch])
        loss = criterion(logits, train_y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        running += loss.item()
    print(f"epoch {epoch}: loss {running / 50:.4f}")

model.eval()
with torch.no_grad():
    print(f"test accuracy: {(model(test_x).argmax(1) == test_y).float().mean().item():.4f}")
