"""Quantile regression of electricity load: three quantiles at once, pinball loss."""

import sys

import torch
import torch.nn as nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
g = torch.Generator().manual_seed(11)
hours = torch.arange(3000).float()
temp = 12 + 8 * torch.sin(hours / 400) + 3 * torch.randn(3000, generator=g)
daily = torch.sin(hours * 2 * torch.pi / 24)
weekend = ((hours // 24) % 7 >= 5).float()
load = 3000 + 600 * daily - 500 * weekend + 35 * (temp - 16).abs() ** 1.2
load = load + (80 + 120 * weekend) * torch.randn(3000, generator=g)

features = torch.stack(
    [
        torch.sin(hours * 2 * torch.pi / 24),
        torch.cos(hours * 2 * torch.pi / 24),
        weekend,
        (temp - temp.mean()) / temp.std(),
    ],
    dim=1,
)
scale = (load.mean(), load.std())
y = ((load - scale[0]) / scale[1]).unsqueeze(1)
QUANTILES = torch.tensor([0.1, 0.5, 0.9])


def pinball(pred, target):
    diff = target - pred
    return torch.maximum(QUANTILES * diff, (QUANTILES - 1) * diff).mean()


torch.manual_seed(seed)
net = nn.Sequential(nn.Linear(4, 48), nn.ELU(), nn.Linear(48, 48), nn.ELU(), nn.Linear(48, 3))
optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)

for epoch in range(10):
    order = torch.randperm(2400)
    for rows in order.split(48):
        loss = pinball(net(features[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scheduler.step()

with torch.no_grad():
    test = pinball(net(features[2400:]), y[2400:])
    naive = pinball(torch.quantile(y[:2400], QUANTILES).expand(600, 3), y[2400:])
print(f"pinball skill {1 - (test / naive).item():.4f}")
