"""How much wheat will a field give? Made-up fields, a small residual MLP, one-cycle rate, batches by index."""

import sys

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)

# ------------------------------------------------------------------ the fields
rng = np.random.default_rng(314)
N = 4000
fields = pd.DataFrame(
    {
        "year": rng.integers(1995, 2024, N),
        "rain": (
            rng.gamma(4, 110, N) * (rng.random(N) > 0.02)
        ).round(),  # mm in the season, sometimes none at all
        "temp": rng.normal(15.5, 3.0, N).round(1),
        "nitrogen": rng.uniform(0, 240, N).round(),
        "ph": rng.normal(6.5, 0.7, N).round(2),
        "clay": rng.beta(2, 4, N).round(2),
        "sun_hours": rng.normal(1350, 180, N).round(),
    }
)
water = fields["rain"] * (0.7 + 0.8 * fields["clay"])
crop = 9.5 * np.exp(-(((np.log1p(water) - 6.0) / 0.55) ** 2))  # neither drought nor flood
crop *= np.exp(-(((fields["temp"] - 15.5) / 4.0) ** 2))  # nor frost nor heat
crop *= np.exp(-(((fields["ph"] - 6.5) / 1.1) ** 2))
crop *= 0.55 + 0.45 * np.sin(np.pi * fields["nitrogen"] / 240)  # too much makes it fall over
crop *= 1 + 0.0004 * (fields["sun_hours"] - 1350)
fields["tons"] = (crop + rng.normal(0, 0.25, N)).clip(0)

fields["rain"] = np.log1p(fields["rain"])
columns = ["year", "rain", "temp", "nitrogen", "ph", "clay", "sun_hours"]
y = fields["tons"].to_numpy(dtype=np.float32)
X = fields[columns].to_numpy(dtype=np.float32)

order = rng.permutation(N)
train, test = order[:3200], order[3200:]
X = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
y_mean, y_std = y[train].mean(), y[train].std()
y = (y - y_mean) / y_std
X_train, y_train = torch.tensor(X[train]), torch.tensor(y[train])
X_test, y_test = torch.tensor(X[test]), torch.tensor(y[test])


# ------------------------------------------------------------------ the net
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a = nn.Linear(width, width)
        self.b = nn.Linear(width, width)

    def forward(self, x):
        h = F.relu(self.a(x))
        return F.relu(x + self.b(h))


class YieldNet(nn.Module):
    def __init__(self, n_features, width=64, depth=2):
        super().__init__()
        self.inp = nn.Linear(n_features, width)
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])
        self.out = nn.Linear(width, 1)
        self.reset()

    def reset(self):
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        x = F.relu(self.inp(x))
        for block in self.blocks:
            x = block(x)
        return self.out(x).squeeze(-1)


model = YieldNet(len(columns))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
epochs, batch_size = 20, 64
steps = epochs * (len(X_train) // batch_size)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)

# ------------------------------------------------------------------ training
for epoch in range(1, epochs + 1):
    model.train()
    perm = torch.randperm(len(X_train))
    total = 0.0
    for i in range(len(X_train) // batch_size):
        idx = perm[i * batch_size : (i + 1) * batch_size]
        optimizer.zero_grad()
        pred = model(X_train[idx])
        loss = F.mse_loss(pred, y_train[idx])
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
    if epoch % 5 == 0:
        model.eval()
        with torch.no_grad():
            test_mse = F.mse_loss(model(X_test), y_test).item()
        print(f"epoch {epoch:3d}  train {total / (i + 1):.4f}  test {test_mse:.4f}")

model.eval()
with torch.no_grad():
    residual = y_test - model(X_test)
r2 = 1 - (residual**2).sum() / ((y_test - y_test.mean()) ** 2).sum()
print("R2", max(r2.item(), -1.0) if torch.isfinite(r2) else -1.0)
