"""Energy use next hour from four sensors: GRU, gradient clipping, SGD with Nesterov."""

import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
rng = np.random.default_rng(5)
hours = np.arange(2400)
temperature = 12 + 8 * np.sin(2 * np.pi * hours / 24) + rng.normal(0, 1, len(hours))
humidity = 60 - 1.5 * temperature + rng.normal(0, 3, len(hours))
occupied = ((hours % 24 > 7) & (hours % 24 < 19)).astype(float)
use = 30 + 1.2 * np.abs(temperature - 18) + 15 * occupied
use = use + 0.4 * np.roll(use, 2) + rng.normal(0, 1.5, len(hours))
table = np.stack([temperature, humidity, occupied, use], axis=1)[5:]
mu, sigma = table[:1800].mean(0), table[:1800].std(0)
table = ((table - mu) / sigma).astype(np.float32)


class Windows(Dataset):
    def __init__(self, table, length=16):
        self.table, self.length = torch.from_numpy(table), length

    def __len__(self):
        return len(self.table) - self.length

    def __getitem__(self, i):
        return self.table[i : i + self.length], self.table[i + self.length, 3]


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        _, h = self.gru(x)
        return self.head(h[-1]).squeeze(-1)


torch.manual_seed(seed)
train_loader = DataLoader(Windows(table[:1800]), batch_size=32, shuffle=True)
test_loader = DataLoader(Windows(table[1800:]), batch_size=128)
model = Forecaster()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
mse = nn.MSELoss()
for epoch in range(10):
    model.train()
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = mse(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
    print(epoch, loss.item())

model.eval()
truth, guess = [], []
with torch.no_grad():
    for x, y in test_loader:
        truth.append(y)
        guess.append(model(x).flatten())
truth, guess = torch.cat(truth), torch.cat(guess)
print("R2:", max(-1.0, 1 - ((truth - guess) ** 2).sum().item() / ((truth - truth.mean()) ** 2).sum().item()))
