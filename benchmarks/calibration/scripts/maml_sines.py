"""MAML: learn a start from which five points of a new sine suffice for a good fit after two steps."""

import math
import sys

import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


def sample_task():
    amplitude = torch.rand(1) * 2.0 + 0.5
    phase = torch.rand(1) * math.pi
    return lambda x: amplitude * torch.sin(x + phase)


def points(task, n):
    x = torch.rand(n, 1) * 6 - 3
    return x, task(x)


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(1, 40)
        self.fc2 = nn.Linear(40, 40)
        self.fc3 = nn.Linear(40, 1)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def adapt(model, x, y, inner_lr=0.03, steps=2, train=True):
    """Parameters after a few steps on the support points."""
    fast = dict(model.named_parameters())
    for _ in range(steps):
        loss = ((functional_call(model, fast, (x,)) - y) ** 2).mean()
        grads = torch.autograd.grad(loss, list(fast.values()), create_graph=train)
        fast = {name: w - inner_lr * g for (name, w), g in zip(fast.items(), grads)}
    return fast


model = Regressor()
meta_opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for iteration in range(700):
    meta_loss = 0.0
    for _ in range(4):
        task = sample_task()
        support_x, support_y = points(task, 10)
        query_x, query_y = points(task, 20)
        fast = adapt(model, support_x, support_y)
        meta_loss = meta_loss + ((functional_call(model, fast, (query_x,)) - query_y) ** 2).mean()
    meta_loss = meta_loss / 4
    meta_opt.zero_grad()
    meta_loss.backward()
    meta_opt.step()
    if iteration % 100 == 99:
        print(f"{iteration + 1}: query loss {meta_loss.item():.4f}")

before = after = spread = 0.0
for _ in range(200):
    task = sample_task()
    (sx, sy), (qx, qy) = points(task, 10), points(task, 50)
    fast = adapt(model, sx, sy, train=False)
    with torch.no_grad():
        after += ((functional_call(model, fast, (qx,)) - qy) ** 2).mean().item()
        spread += (qy**2).mean().item()
print(f"explained after two steps {max(-1.0, 1 - after / spread):.4f}")
