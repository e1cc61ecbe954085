"""A neural ODE learns a bent spiral from noisy pieces of its path, with midpoint steps."""

import sys

import torch
from torch import nn

A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])


def true_field(y):
    return (y**3) @ A / 4 + 0.1 * y.flip(-1)


def odeint(field, y, steps, dt=0.05):
    path = [y]
    for _ in range(steps):
        half = y + 0.5 * dt * field(y)
        y = y + dt * field(half)
        path.append(y)
    return torch.stack(path, dim=1)


gen = torch.Generator().manual_seed(3)
starts = torch.rand(220, 2, generator=gen) * 4 - 2
with torch.no_grad():
    paths = odeint(true_field, starts, 60)
paths = paths + 0.02 * torch.randn(paths.shape, generator=gen)
train_paths, test_paths = paths[:180], paths[180:]


class Field(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 2),
        )

    def forward(self, y):
        return self.net(y)


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
func = Field()
optimizer = torch.optim.Adam(func.parameters(), lr=3e-3)
SPAN = 10
for itr in range(1, 601):
    which = torch.randint(len(train_paths), (64,))
    when = torch.randint(60 - SPAN, (64,))
    true_y = torch.stack([train_paths[i, t : t + SPAN + 1] for i, t in zip(which, when)])
    optimizer.zero_grad()
    pred_y = odeint(func, true_y[:, 0], SPAN)
    loss = (pred_y - true_y).abs().mean()
    loss.backward()
    optimizer.step()
    if itr % 100 == 0:
        print(f"Iter {itr:04d} | Loss {loss.item():.6f}")

with torch.no_grad():
    guess = odeint(func, test_paths[:, 0], 30)
    rest = ((guess - test_paths[:, :31]) ** 2).mean()
    still = ((test_paths[:, :1] - test_paths[:, :31]) ** 2).mean()
print(f"of the movement explained: {max(-1.0, (1 - rest / still).item()):.4f}")
