"""House prices, Kaggle style: standardise, train on RMSE, report R2 on the validation rows."""

import sys

import numpy as np
import torch
import torch.nn as nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
rng = np.random.default_rng(7)

n = 1500
area = rng.gamma(8, 15, n)
rooms = np.clip((area / 28 + rng.normal(0, 1, n)).round(), 1, 9)
year = rng.integers(1900, 2022, n)
dist = rng.exponential(5, n)
cond = rng.integers(1, 6, n)
noise = rng.normal(0, 15, (n, 3))
price = 900 * area * np.exp(-dist / 12) * (0.7 + 0.1 * cond) + 400 * (year - 1900) + rng.normal(0, 9000, n)
X = np.column_stack([area, rooms, year, dist, cond, noise]).astype(np.float32)

mean, std = X[:1200].mean(0), X[:1200].std(0)
X = (X - mean) / std
y_mean, y_std = price[:1200].mean(), price[:1200].std()
y = ((price - y_mean) / y_std).astype(np.float32)

X_train, y_train = torch.tensor(X[:1200]), torch.tensor(y[:1200])
X_val, y_val = torch.tensor(X[1200:]), torch.tensor(y[1200:])

model = nn.Sequential(
    nn.Linear(8, 64),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 1),
)


def rmse(pred, target):
    return torch.sqrt(torch.mean((pred - target) ** 2) + 1e-8)


optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(12):
    model.train()
    perm = torch.randperm(len(X_train))
    for i in range(0, len(perm), 32):
        idx = perm[i : i + 32]
        optimizer.zero_grad()
        loss = rmse(model(X_train[idx]).squeeze(1), y_train[idx])
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    pred = model(X_val).squeeze(1)
    r2 = 1 - ((pred - y_val) ** 2).sum() / ((y_val - y_val.mean()) ** 2).sum()
print(f"validation R2: {r2.item():.4f}")
