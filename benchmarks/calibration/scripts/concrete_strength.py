"""How strong will this concrete be? A made-up table of mixes, a residual MLP, functional losses."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)
torch.set_num_threads(1)


def load_mixes(n=2600):
    rng = np.random.default_rng(11)
    cement = rng.uniform(120, 540, n)
    slag = np.where(rng.random(n) < 0.45, 0.0, rng.uniform(20, 250, n))
    ash = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(60, 180, n))
    water = rng.normal(182, 20, n).clip(125, 245)
    plasticizer = np.where(rng.random(n) < 0.35, 0.0, rng.gamma(4, 2.2, n))
    coarse = rng.normal(970, 75, n)
    fine = rng.normal(775, 75, n)
    age = rng.choice([3, 7, 14, 28, 56, 90, 180], n)
    binder = cement + 0.75 * slag + 0.45 * ash
    ratio = (water - 1.6 * plasticizer) / binder
    ripe = (np.log1p(age) / np.log1p(28)) ** (0.8 + 0.6 * ash / binder)
    strength = 110 * np.exp(-1.9 * ratio) * ripe + rng.normal(0, 2.5, n)
    plast = np.log1p(plasticizer)
    X = np.stack([cement, slag, ash, water, plast, coarse, fine, np.log(age)], axis=1)
    return X.astype(np.float32), strength.clip(2).astype(np.float32)


class ResBlock(nn.Module):
    def __init__(self, width, p=0.05):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.p = p

    def forward(self, x):
        h = F.relu(self.fc1(self.norm(x)))
        h = F.dropout(h, self.p, self.training)
        return x + self.fc2(h)


class ResidualMLP(nn.Module):
    def __init__(self, n_in, width=64, depth=3):
        super().__init__()
        self.stem = nn.Linear(n_in, width)
        self.blocks = nn.Sequential(*[ResBlock(width) for _ in range(depth)])
        self.head = nn.Linear(width, 1)
        for name, p in self.named_parameters():
            if name.endswith("weight") and p.dim() == 2:
                nn.init.xavier_uniform_(p)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(self.blocks(x))
        return self.head(x).squeeze(1)


X, y = load_mixes()
order = np.random.default_rng(3).permutation(len(X))
X, y = X[order], y[order]
n_train = 2000
mean, std = X[:n_train].mean(axis=0), X[:n_train].std(axis=0)
y_mean, y_std = y[:n_train].mean(), y[:n_train].std()
X = torch.from_numpy((X - mean) / std)
y = torch.from_numpy((y - y_mean) / y_std)
X_train, y_train, X_test, y_test = X[:n_train], y[:n_train], X[n_train:], y[n_train:]


def train_epoch(model, optimizer, batch_size=32):
    model.train()
    total = 0.0
    idx = torch.randperm(len(X_train))
    for start in range(0, len(idx), batch_size):
        b = idx[start : start + batch_size]
        optimizer.zero_grad()
        loss = F.smooth_l1_loss(model(X_train[b]), y_train[b])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(b)
    return total / len(idx)


@torch.no_grad()
def evaluate(model):
    model.eval()
    pred = model(X_test).reshape(-1)
    mse = F.mse_loss(pred, y_test).item()
    r2 = 1 - mse / y_test.var(unbiased=False).item()
    return mse, r2 if np.isfinite(r2) else -1.0


def main():
    epochs = 45
    model = ResidualMLP(X.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(1, epochs + 1):
        loss = train_epoch(model, optimizer)
        scheduler.step()
        if epoch % 5 == 0:
            print(f"epoch {epoch:3d}  train {loss:.4f}  test mse {evaluate(model)[0]:.4f}")
    print("test R2:", round(max(evaluate(model)[1], -1.0), 4))


if __name__ == "__main__":
    main()
