"""Heartbeats (made up): a 1-d CNN with global average pooling, three kinds of beat."""

import sys

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

rng = np.random.default_rng(21)


def beat(kind):
    t = np.linspace(0, 1, 96)
    shift = rng.uniform(-0.08, 0.08)
    wave = np.exp(-(((t - 0.5 - shift) / 0.03) ** 2)) * rng.uniform(0.8, 1.2)
    if kind == 1:
        wave = np.exp(-(((t - 0.5 - shift) / 0.09) ** 2)) * rng.uniform(0.8, 1.2)
    if kind == 2:
        wave = wave - 0.5 * np.exp(-(((t - 0.62 - shift) / 0.05) ** 2))
    return 900 + 120 * (wave + 0.12 * rng.normal(size=96))


class Beats(Dataset):
    def __init__(self, n):
        self.y = rng.integers(3, size=n)
        self.x = np.stack([beat(k) for k in self.y]).astype(np.float32)
        self.x = (self.x - self.x.mean()) / self.x.std()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i])[None], int(self.y[i])


class ECGNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 16, 7, padding=3)
        self.conv2 = nn.Conv1d(16, 32, 5, padding=2)
        self.conv3 = nn.Conv1d(32, 32, 3, padding=1)
        self.pool = nn.MaxPool1d(2)
        self.gap = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.conv3(x))
        x = self.gap(x).squeeze(-1)
        return self.fc(x)


train_data, test_data = Beats(900), Beats(300)
torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = ECGNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
train_loader = DataLoader(train_data, batch_size=32, shuffle=True)
for epoch in range(10):
    model.train()
    losses = []
    for signal, label in train_loader:
        optimizer.zero_grad()
        logits = model(signal)
        loss = criterion(logits, label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(epoch, np.mean(losses))

model.eval()
hits = 0
with torch.no_grad():
    for signal, label in DataLoader(test_data, batch_size=100):
        hits += (model(signal).argmax(1) == label).sum().item()
print("accuracy", hits / len(test_data))
