"""Two tasks weighted by learned uncertainties (Kendall et al.): a depth and a normal, say."""

import sys

import torch
import torch.nn as nn

g = torch.Generator().manual_seed(17)
X = torch.randn(1800, 10, generator=g)
depth = (torch.sin(X[:, 0] * 1.5) + X[:, 1] * X[:, 2]).unsqueeze(1)
normal = torch.stack([X[:, 3].abs() - 0.8, X[:, 4] * X[:, 5]], 1)
depth = depth + 0.1 * torch.randn(1800, 1, generator=g)

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU())
        self.depth = nn.Linear(64, 1)
        self.normal = nn.Linear(64, 2)
        self.log_vars = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        h = self.trunk(x)
        return self.depth(h), self.normal(h)


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)


def total(d, n, rows):
    loss_d = ((d - depth[rows]) ** 2).mean()
    loss_n = (n - normal[rows]).abs().mean()
    s = net.log_vars
    return torch.exp(-s[0]) * loss_d + s[0] + torch.exp(-s[1]) * loss_n + s[1]


for epoch in range(15):
    for rows in torch.randperm(1500).split(50):
        d, n = net(X[rows])
        loss = total(d, n, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

with torch.no_grad():
    d, n = net(X[1500:])
    r_d = 1 - ((d - depth[1500:]) ** 2).mean() / depth[1500:].var()
    r_n = 1 - ((n - normal[1500:]) ** 2).mean() / normal[1500:].var()
print("R2 of both", round((max(r_d.item(), -1) + max(r_n.item(), -1)) / 2, 4))
