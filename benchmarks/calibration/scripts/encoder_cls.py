"""A transformer encoder tells which kind of token a sequence holds most of."""

import math
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
g = torch.Generator().manual_seed(0)
vocab, length, classes, n = 32, 20, 4, 1800
labels = torch.randint(classes, (n,), generator=g)
tokens = torch.randint(vocab, (n, length), generator=g)
swap = torch.rand(n, length, generator=g) < 0.35
own = labels[:, None] * 8 + torch.randint(8, (n, length), generator=g)
tokens = torch.where(swap, own, tokens)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=100):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div)
        pe[0, :, 1::2] = torch.cos(position * div)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[:, : x.size(1)]


class Classifier(nn.Module):
    def __init__(self, d_model=32):
        super().__init__()
        self.embed = nn.Embedding(vocab, d_model)
        self.pos = PositionalEncoding(d_model)
        layer = nn.TransformerEncoderLayer(
            d_model, nhead=4, dim_feedforward=64, dropout=0.1, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.out = nn.Linear(d_model, classes)

    def forward(self, x):
        h = self.pos(self.embed(x) * math.sqrt(32))
        h = self.encoder(h)
        h = h.mean(dim=1)
        return self.out(h)


torch.manual_seed(seed)
model = Classifier()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
train_loader = DataLoader(TensorDataset(tokens[:1400], labels[:1400]), batch_size=32, shuffle=True)
total_steps = 8 * len(train_loader)
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda s: min((s + 1) / 40, max(0.0, (total_steps - s) / total_steps))
)
for epoch in range(8):
    model.train()
    for xb, yb in train_loader:
        logits = model(xb)
        loss = criterion(logits, yb)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    print(epoch, round(loss.item(), 4))

model.eval()
with torch.no_grad():
    print("accuracy", (model(tokens[1400:]).argmax(-1) == labels[1400:]).float().mean().item())
