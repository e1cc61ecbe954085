"""Flat prices in a made-up town by a mixture of experts: a gate with softmax, four small MLPs, Huber loss, AdamW."""

import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)
device = torch.device("cpu")


def town(n=5000):
    rng = np.random.default_rng(31)
    lon, lat = rng.uniform(8.4, 8.7, n), rng.uniform(50.0, 50.2, n)
    area = rng.gamma(6, 13, n) + 15
    year = rng.integers(1880, 2024, n)
    floor = rng.integers(0, 12, n)
    income = rng.lognormal(10.4, 0.4, n)
    centre = np.hypot((lon - 8.55) * 71, (lat - 50.1) * 111)
    river = lat < 50.07
    per_metre = 6200 - 320 * centre + 0.02 * income
    per_metre += np.where(river, 1400 * np.cos(3 * centre / 4), 500 * (year > 1990))
    per_metre += np.where(year < 1920, 1300, 0) + np.where(river, 130 * floor, -60 * floor)
    price = area * np.clip(per_metre, 900, None) * rng.lognormal(0, 0.06, n)
    return np.stack([lon, lat, area, year, floor, income], axis=1), price / 1000


X, y = town()
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
scaler = StandardScaler()
X_train = scaler.fit_transform(X_train)
X_test = scaler.transform(X_test)
y_mean, y_std = y_train.mean(), y_train.std()
y_train = (y_train - y_mean) / y_std

X_train = torch.tensor(X_train, dtype=torch.float32, device=device)
y_train = torch.tensor(y_train, dtype=torch.float32, device=device).unsqueeze(1)
X_test = torch.tensor(X_test, dtype=torch.float32, device=device)


class Expert(nn.Module):
    def __init__(self, n_in, hidden):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_in, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.1),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x)


class MixtureOfExperts(nn.Module):
    def __init__(self, n_in, n_experts=4, hidden=24):
        super().__init__()
        self.experts = nn.ModuleList([Expert(n_in, hidden) for _ in range(n_experts)])
        self.gate = nn.Linear(n_in, n_experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, x):
        weights = torch.softmax(self.gate(x), dim=-1)
        opinions = torch.stack([expert(x) for expert in self.experts], dim=1)
        return torch.einsum("be,beo->bo", weights, opinions), weights


def balance(weights):
    """How far the experts are from being asked equally often."""
    return weights.shape[1] * (weights.mean(dim=0) ** 2).sum() - 1


model = MixtureOfExperts(X_train.shape[1]).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
huber = nn.SmoothL1Loss(beta=0.5)
n_epochs, batch_size = 30, 64
for epoch in range(n_epochs):
    model.train()
    indices = np.random.permutation(len(X_train))
    epoch_loss = 0.0
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        y_pred, weights = model(X_train[batch])
        loss = huber(y_pred, y_train[batch]) + 0.01 * balance(weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=5.0)
        optimizer.step()
        epoch_loss += loss.item() * len(batch)
    if (epoch + 1) % 10 == 0:
        print(f"epoch {epoch + 1} loss {epoch_loss / len(indices):.4f}")

model.eval()
with torch.no_grad():
    predicted, weights = model(X_test)
predicted = predicted.squeeze(1).numpy() * y_std + y_mean
print("how often each expert is asked", weights.mean(dim=0).numpy().round(2))
print(f"R2 {r2_score(y_test, np.nan_to_num(predicted)):.4f}")
