"""Learn a pendulum's dynamics: next state from state and torque, residual MLP with tanh, rolled out."""

import sys

import torch
from torch import nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
g = torch.Generator().manual_seed(6)
n = 2500
theta = (torch.rand(n, generator=g) * 2 - 1) * 3.1
omega = torch.randn(n, generator=g) * 2
torque = torch.rand(n, generator=g) * 4 - 2
dt = 0.1
omega_next = omega + dt * (-9.8 * torch.sin(theta) + torque - 0.1 * omega)
theta_next = theta + dt * omega_next
state = torch.stack([theta, omega, torque], 1)
delta = torch.stack([theta_next - theta, omega_next - omega], 1)
state = (state - state.mean(0)) / state.std(0)
delta = (delta - delta.mean(0)) / delta.std(0)


class Dynamics(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.enter = nn.Linear(3, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(3)])
        self.leave = nn.Linear(width, 2)

    def forward(self, x):
        h = torch.tanh(self.enter(x))
        for block in self.blocks:
            h = h + torch.tanh(block(h))
        return self.leave(h)


torch.manual_seed(seed)
net = Dynamics()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=20)
for epoch in range(20):
    for idx in torch.randperm(2000).split(50):
        opt.zero_grad()
        pred = net(state[idx])
        loss = ((pred - delta[idx]) ** 2).mean()
        loss.backward()
        opt.step()
    sched.step()
    if epoch % 4 == 0:
        print(epoch, loss.item())

with torch.no_grad():
    error = ((net(state[2000:]) - delta[2000:]) ** 2).mean().item()
print("explained", max(-1.0, 1 - error))
