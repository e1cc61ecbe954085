"""Sets of points: which shape were they drawn from? Shared MLP, max over points (a small PointNet)."""

import math
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
gen = torch.Generator().manual_seed(31)


def cloud(kind):
    u, v = torch.rand(48, generator=gen), torch.rand(48, generator=gen)
    a, z = 2 * math.pi * u, 2 * v - 1
    if kind == 0:
        s = torch.sqrt(1 - z**2)
        p = torch.stack([s * a.cos(), s * a.sin(), z], 1)
    elif kind == 1:
        p = torch.stack([a.cos(), a.sin(), z], 1)
    elif kind == 2:
        p = torch.stack([2 * u - 1, z, torch.sign(torch.rand(48, generator=gen) - 0.5)], 1)
    else:
        p = torch.stack([(1 - v) * a.cos(), (1 - v) * a.sin(), z], 1)
    return p + 0.03 * torch.randn(48, 3, generator=gen)


kinds = torch.randint(4, (900,), generator=gen)
clouds = torch.stack([cloud(int(k)) for k in kinds])


class PointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp1 = nn.Conv1d(3, 32, 1)
        self.mlp2 = nn.Conv1d(32, 64, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(32), nn.BatchNorm1d(64)
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 4)

    def forward(self, pts):
        x = pts.transpose(1, 2)
        x = F.relu(self.bn1(self.mlp1(x)))
        x = F.relu(self.bn2(self.mlp2(x)))
        x = torch.max(x, dim=2).values
        x = F.relu(self.fc1(x))
        return self.fc2(x)


torch.manual_seed(seed)
model = PointNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.5)
for epoch in range(12):
    model.train()
    for idx in torch.randperm(700).split(28):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(clouds[idx]), kinds[idx])
        loss.backward()
        optimizer.step()
    scheduler.step()
    print(epoch, loss.item())
model.eval()
with torch.no_grad():
    print("accuracy", (model(clouds[700:]).argmax(1) == kinds[700:]).float().mean().item())
