"""The adding problem with a GRU: sequences grow longer as the training goes on."""

import sys

import torch
from torch import nn

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


def batch_of(n, length):
    """Numbers, two of them marked: the answer is the sum of the marked ones."""
    values = torch.rand(n, length)
    marks = torch.zeros(n, length)
    half = length // 2
    rows = torch.arange(n)
    marks[rows, torch.randint(0, half, (n,))] = 1
    marks[rows, torch.randint(half, length, (n,))] = 1
    target = (values * marks).sum(1)
    x = torch.stack([values, marks], dim=2)
    return x, target


class Adder(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.rnn = nn.GRU(2, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.readout(states[:, -1]).squeeze(-1)


model = Adder()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
mse = nn.MSELoss()
for length in [4, 6, 8, 12, 16]:
    total = 0.0
    for step in range(160):
        x, target = batch_of(32, length)
        optimizer.zero_grad()
        loss = mse(model(x), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    print(f"length {length}: mse {total / 160:.4f}")

model.eval()
with torch.no_grad():
    x, target = batch_of(1000, 16)
    r2 = 1 - mse(model(x), target).item() / target.var().item()
print(f"R2 {max(-1.0, r2):.4f}")
