"""Card fraud (made up): one payment in sixteen is bad, and a network ranks them."""

import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import average_precision_score

rng = np.random.default_rng(2024)
n = 9000
y = (rng.random(n) < 0.06).astype(np.float32)
hour = rng.integers(0, 24, n).astype(float)
hour = np.where((y == 1) & (rng.random(n) < 0.5), rng.integers(1, 5, n), hour)
amount = np.exp(rng.normal(3.5, 1.0, n) + 0.9 * y)
age_days = rng.gamma(2.0, 400, n) * np.where(y == 1, 0.5, 1.0)
distance = np.abs(rng.normal(0, 30, n)) * np.where((y == 1) & (rng.random(n) < 0.6), 6, 1)
foreign = (rng.random(n) < np.where(y == 1, 0.4, 0.08)).astype(float)
noise = rng.normal(size=(n, 4))
X = np.column_stack(
    [
        np.log(amount),
        np.sin(hour / 24 * 2 * np.pi),
        np.cos(hour / 24 * 2 * np.pi),
        np.log1p(age_days),
        np.log1p(distance),
        foreign,
        noise,
    ]
)
X = (X - X.mean(0)) / X.std(0)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
X_train, y_train, X_test, y_test = X[:6500], y[:6500], X[6500:], y[6500:]


class FraudNet(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_features, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Linear(32, 1),
        )

    def forward(self, x):
        return self.net(x)


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = FraudNet(X.shape[1])
pos_weight = (1 - y_train).sum() / y_train.sum()
loss_fn = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)

for epoch in range(16):
    model.train()
    losses = []
    for rows in torch.randperm(len(X_train)).split(100):
        out = model(X_train[rows])
        loss = loss_fn(out, y_train[rows].unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {np.mean(losses):.4f}")

model.eval()
with torch.no_grad():
    scores = torch.nan_to_num(model(X_test)).squeeze(1).numpy()
print(f"average precision {average_precision_score(y_test.numpy(), scores):.4f}")
