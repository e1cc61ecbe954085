"""Inverse dynamics of a robot arm with two links: angles, speeds and accelerations in, two torques and a power out."""

import sys

import numpy as np
import torch
from sklearn.metrics import r2_score
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

G, L1, L2, M1, M2 = 9.81, 0.5, 0.4, 3.0, 1.8


def simulate(n, rng):
    """Random states of the arm and what its motors must give there, measured with noise."""
    q = rng.uniform(-2.5, 2.5, (n, 2))
    dq = rng.normal(0, 1.5, (n, 2))
    ddq = rng.normal(0, 4.0, (n, 2))
    load = rng.uniform(0, 1.0, n)
    m2 = M2 + load
    c2, s2 = np.cos(q[:, 1]), np.sin(q[:, 1])
    h11 = (M1 + m2) * L1**2 + m2 * L2**2 + 2 * m2 * L1 * L2 * c2
    h12 = m2 * L2**2 + m2 * L1 * L2 * c2
    h22 = m2 * L2**2
    cor = m2 * L1 * L2 * s2
    g1 = (M1 + m2) * G * L1 * np.cos(q[:, 0]) + m2 * G * L2 * np.cos(q.sum(1))
    g2 = m2 * G * L2 * np.cos(q.sum(1))
    tau1 = h11 * ddq[:, 0] + h12 * ddq[:, 1] - cor * (2 * dq[:, 0] * dq[:, 1] + dq[:, 1] ** 2) + g1
    tau2 = h12 * ddq[:, 0] + h22 * ddq[:, 1] + cor * dq[:, 0] ** 2 + g2
    tau1 = tau1 + 1.5 * np.tanh(5 * dq[:, 0])
    tau2 = tau2 + 0.8 * np.tanh(5 * dq[:, 1])
    power = np.abs(tau1 * dq[:, 0]) + np.abs(tau2 * dq[:, 1])
    x = np.column_stack([q, dq, ddq, load])
    y = np.column_stack([tau1 * 1000, tau2 * 1000, power])  # mNm, mNm, W
    y = y * (1 + rng.normal(0, 0.02, y.shape))
    return x.astype("float32"), y.astype("float32")


class ArmDataset(Dataset):
    def __init__(self, n=7000, seed=5):
        x, y = simulate(n, np.random.default_rng(seed))
        self.x = (x - x.mean(axis=0)) / x.std(axis=0)
        self.y = (y - y.mean(axis=0)) / y.std(axis=0)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return torch.from_numpy(self.x[i]), torch.from_numpy(self.y[i])


class TorqueNet(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(7, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
        )
        self.head = nn.Linear(hidden, 3)

    def forward(self, x):
        z = self.body(x)
        return self.head(z)


def train_epoch(model, loader, loss_fn, optimizer):
    model.train()
    total = 0.0
    for x, y in loader:
        pred = model(x)
        loss = loss_fn(pred, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    preds, truth = [], []
    for x, y in loader:
        preds.append(model(x))
        truth.append(y)
    preds, truth = torch.cat(preds), torch.cat(truth)
    if not torch.isfinite(preds).all():
        return -1.0
    return max(r2_score(truth.numpy(), preds.numpy()), -1.0)


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    torch.manual_seed(seed)
    np.random.seed(seed)

    data = ArmDataset()
    train_set, test_set = random_split(data, [6000, 1000], torch.Generator().manual_seed(1))
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=500)

    model = TorqueNet()
    loss_fn = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)

    for epoch in range(25):
        train_loss = train_epoch(model, train_loader, loss_fn, optimizer)
        scheduler.step()
        if epoch % 5 == 0:
            print(f"[{epoch:02d}] loss {train_loss:.4f}  R2 {evaluate(model, test_loader):.3f}")
    print(f"R2 over the three outputs: {evaluate(model, test_loader):.4f}")


if __name__ == "__main__":
    main()
