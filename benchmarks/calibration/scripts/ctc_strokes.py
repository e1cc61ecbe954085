"""Read a line of symbols of unknown places: a small bidirectional GRU with CTC."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

SYMBOLS, T = 5, 24
gen = torch.Generator().manual_seed(2)
shapes = torch.randn(SYMBOLS + 1, 6, generator=gen)


def batch(n):
    y = torch.randint(1, SYMBOLS + 1, (n, 4))
    x = 0.2 * torch.randn(n, T, 6)
    for i in range(n):
        place = 1
        for s in y[i].tolist():
            place += int(torch.randint(0, 3, (1,)))
            x[i, place : place + 3] += shapes[s]
            place += 3
    return x, y


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 32, bidirectional=True, batch_first=True)
        self.out = nn.Linear(64, SYMBOLS + 1)

    def forward(self, x):
        h, _ = self.rnn(x)
        return self.out(h)


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
ctc = nn.CTCLoss(blank=0)

for step in range(200):
    x, y = batch(32)
    logp = F.log_softmax(model(x), dim=2).permute(1, 0, 2)
    lengths = torch.full((32,), T)
    loss = ctc(logp, y, lengths, torch.full((32,), 4))
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()

with torch.no_grad():
    x, y = batch(200)
    best = model(x).argmax(2)
    right = 0
    for row, true in zip(best.tolist(), y.tolist()):
        read = [s for i, s in enumerate(row) if s and (i == 0 or row[i - 1] != s)]
        right += sum(a == b for a, b in zip(read, true))
print("symbols read", right / 800)
