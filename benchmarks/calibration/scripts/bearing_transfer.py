"""Bearings: a 1-d CNN first learns which part is damaged; then its body is frozen and a new head says how deep (few labels)."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

RATE, LENGTH = 2048, 256
PARTS = ["healthy", "outer race", "inner race", "ball", "cage"]
FAULT_HZ = {"outer race": 89.0, "inner race": 135.0, "ball": 59.0, "cage": 24.0}


def record(part, depth, rng):
    """Acceleration of a bearing over an eighth of a second, in units of g; depth of the damage in millimetres."""
    t = np.arange(LENGTH) / RATE
    shaft = rng.uniform(24, 26)
    signal = 0.5 * np.sin(2 * np.pi * shaft * t + rng.uniform(0, 6.28))
    signal += 0.2 * np.sin(4 * np.pi * shaft * t + rng.uniform(0, 6.28))
    if part != "healthy":
        period = 1 / (FAULT_HZ[part] * rng.uniform(0.97, 1.03))
        since = np.mod(t + rng.uniform(0, period), period)
        ring = np.exp(-since * 250) * np.sin(2 * np.pi * 600 * since)
        load = 1 + 0.5 * np.sin(2 * np.pi * shaft * t) if part == "inner race" else 1.0
        signal += 4.0 * depth * load * ring
    return signal + rng.normal(0, 0.15, LENGTH)


def dataset(n, rng, parts=PARTS):
    label = rng.integers(0, len(parts), n)
    depth = rng.uniform(0.2, 1.0, n)
    x = np.stack([record(parts[k], d, rng) for k, d in zip(label, depth)])
    return (
        torch.tensor(x[:, None], dtype=torch.float32),
        torch.from_numpy(label),
        torch.tensor(depth, dtype=torch.float32),
    )


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 16, 15, stride=2, padding=7, bias=False)
        self.bn1 = nn.BatchNorm1d(16)
        self.conv2 = nn.Conv1d(16, 32, 9, stride=2, padding=4, bias=False)
        self.bn2 = nn.BatchNorm1d(32)
        self.conv3 = nn.Conv1d(32, 32, 9, stride=2, padding=4, bias=False)
        self.bn3 = nn.BatchNorm1d(32)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        return x.mean(2)


class Net(nn.Module):
    def __init__(self, n_out):
        super().__init__()
        self.body = Body()
        self.head = nn.Linear(32, n_out)

    def forward(self, x):
        return self.head(self.body(x))


def batches(n, size):
    return torch.randperm(n).split(size)


seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)
rng = np.random.default_rng(31)
damaged = PARTS[1:]
x_parts, y_parts, _ = dataset(3000, rng)
x_val, y_val, _ = dataset(500, rng)
x_few, _, depth_few = dataset(400, rng, damaged)
x_test, _, depth_test = dataset(500, rng, damaged)

# --- 1. which part? plenty of labels
net = Net(len(PARTS))
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(6):
    net.train()
    for idx in batches(len(x_parts), 64):
        loss = F.cross_entropy(net(x_parts[idx]), y_parts[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        acc = (net(x_val).argmax(1) == y_val).float().mean().item()
    print(f"part: epoch {epoch} loss {loss.item():.3f} val acc {acc:.3f}")

# --- 2. how deep? few labels: the body stays as it is, only the head learns
for p in net.body.parameters():
    p.requires_grad = False
net.head = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(net.head.parameters(), lr=3e-3)
center, scale = depth_few.mean(), depth_few.std()
targets = (depth_few - center) / scale
for epoch in range(40):
    net.eval()  # keeps the running statistics of the body
    total = 0.0
    for idx in batches(len(x_few), 32):
        pred = net(x_few[idx]).squeeze(1)
        loss = F.mse_loss(pred, targets[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 10 == 9:
        print(f"depth: epoch {epoch} mse {total / len(x_few):.4f}")

net.eval()
with torch.no_grad():
    pred = net(x_test).squeeze(1) * scale + center
ss_res = ((pred - depth_test) ** 2).sum().item()
ss_tot = ((depth_test - depth_test.mean()) ** 2).sum().item()
print("R2 of the depth:", round(max(1 - ss_res / ss_tot, -1.0), 4) if np.isfinite(ss_res) else -1.0)
