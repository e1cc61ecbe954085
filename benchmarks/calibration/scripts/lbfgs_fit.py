"""Friedman's function fitted with a small tanh network and L-BFGS on all rows at once."""

import sys

import torch
from sklearn.datasets import make_friedman1
from sklearn.preprocessing import StandardScaler
from torch import nn

X, y = make_friedman1(n_samples=1600, n_features=8, noise=0.6, random_state=5)
X = StandardScaler().fit_transform(X)
y = StandardScaler().fit_transform(y[:, None])
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
X_train, X_val, y_train, y_val = X[:1200], X[1200:], y[:1200], y[1200:]

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = nn.Sequential(
    nn.Linear(8, 24),
    nn.Tanh(),
    nn.Linear(24, 24),
    nn.Tanh(),
    nn.Linear(24, 1),
)
criterion = nn.MSELoss()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=8, history_size=10)


def penalty():
    return 1e-4 * sum((p**2).sum() for p in model.parameters())


def closure():
    optimizer.zero_grad()
    output = model(X_train)
    loss = criterion(output, y_train) + penalty()
    loss.backward()
    return loss


for step in range(120):
    loss = optimizer.step(closure)
    if step % 20 == 19:
        with torch.no_grad():
            val = criterion(model(X_val), y_val)
        print(f"step {step + 1}: train {loss.item():.4f} val {val.item():.4f}")

with torch.no_grad():
    rest = criterion(model(X_val), y_val).item() / y_val.var().item()
print(f"R2 {max(-1.0, 1 - rest):.4f}")
