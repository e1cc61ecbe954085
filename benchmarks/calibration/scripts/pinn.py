"""Physics-informed network: u'' = -w^2 u with u(0) = 1, u'(0) = 0, by automatic differentiation."""

import math
import sys

import torch
import torch.nn as nn

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
w = 2.0


class PINN(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, t):
        return self.net(t)


model = PINN()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


def derivative(u, t):
    return torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)[0]


for it in range(1000):
    t = torch.rand(64, 1) * 2
    t.requires_grad_(True)
    u = model(t)
    du = derivative(u, t)
    ddu = derivative(du, t)
    physics = ((ddu + w**2 * u) ** 2).mean()
    t0 = torch.zeros(1, 1, requires_grad=True)
    u0 = model(t0)
    boundary = (u0 - 1).pow(2).mean() + derivative(u0, t0).pow(2).mean()
    loss = physics + 10 * boundary
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    t = torch.linspace(0, 2, 100)[:, None]
    truth = torch.cos(w * t)
    r2 = 1 - ((model(t) - truth) ** 2).mean() / truth.var()
print("explained", round(r2.item(), 4))
