"""House values from a table in mixed units (made up): AdamW, Huber loss, early stopping, a ReduceLROnPlateau."""

import copy
import sys

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
rng = np.random.default_rng(11)
n = 3000
income = rng.lognormal(1.2, 0.45, n)
age = rng.uniform(1, 52, n)
rooms = rng.normal(5.4, 1.1, n)
population = rng.lognormal(7.0, 0.7, n)
lat = rng.uniform(32, 42, n)
lon = rng.uniform(-124, -114, n)
value = (
    0.45 * income
    + 0.006 * age
    - 0.12 * np.maximum(0, np.hypot(lat - 34, lon + 118) - 1)
    + 0.1 * rooms * (income > 3)
    + 0.15 * rng.normal(size=n)
)
X = np.stack([income, age, rooms, population, lat, lon], axis=1)
y = value.reshape(-1, 1)

train_idx, val_idx = np.arange(2400), np.arange(2400, n)
mean, std = X[train_idx].mean(0), X[train_idx].std(0)
X = (X - mean) / std
y_mean, y_std = y[train_idx].mean(), y[train_idx].std()
y = (y - y_mean) / y_std

torch.manual_seed(seed)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
train_dl = DataLoader(TensorDataset(X[train_idx], y[train_idx]), batch_size=64, shuffle=True)
X_val, y_val = X[val_idx], y[val_idx]


class Regressor(nn.Module):
    def __init__(self, n_in, hidden=64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x)


model = Regressor(X.shape[1])
criterion = nn.SmoothL1Loss()
optimizer = optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)
best, best_state, patience = float("inf"), copy.deepcopy(model.state_dict()), 0
for epoch in range(30):
    model.train()
    for xb, yb in train_dl:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val_loss = criterion(model(X_val), y_val).item()
    scheduler.step(val_loss)
    if val_loss < best:
        best, best_state, patience = val_loss, copy.deepcopy(model.state_dict()), 0
    else:
        patience += 1
        if patience >= 8:
            print("early stopping at", epoch)
            break

model.load_state_dict(best_state)
with torch.no_grad():
    error = ((model(X_val).squeeze(1) - y_val.squeeze(1)) ** 2).mean() / y_val.var()
print("explained", max(1 - error.item(), -1.0))
