"""DeepONet: from a force sampled at fifty sensors to the motion of a damped oscillator at any time (aligned data)."""

import sys

import numpy as np
import torch
import torch.nn as nn

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(SEED)
M, Q = 50, 40  # sensors of the input function, times asked for


def gaussian_process(n, rng, scale=0.2):
    t = np.linspace(0, 1, M)
    K = np.exp(-0.5 * ((t[:, None] - t[None]) / scale) ** 2) + 1e-8 * np.eye(M)
    return (np.linalg.cholesky(K) @ rng.normal(size=(M, n))).T


def solve(forces, times):
    """s'' + 2 s' + 60 s = 60 u from rest, semi-implicit Euler."""
    n_steps = 1000
    s, v = np.zeros(len(forces)), np.zeros(len(forces))
    grid = np.linspace(0, 1, M)
    path = [s]
    for k in range(n_steps):
        at = k / n_steps
        j = min(int(at * (M - 1)), M - 2)
        w = (at - grid[j]) * (M - 1)
        u = (1 - w) * forces[:, j] + w * forces[:, j + 1]
        v = v + (60 * (u - s) - 2 * v) / n_steps
        s = s + v / n_steps
        path.append(s)
    path = np.stack(path, axis=1)
    return path[:, np.round(times * n_steps).astype(int)]


def make_set(n, seed):
    rng = np.random.default_rng(seed)
    u = gaussian_process(n, rng)
    t = np.linspace(0, 1, Q)
    return u, solve(u, t)


def mlp(sizes, activation):
    layers = []
    for i in range(len(sizes) - 1):
        layers.append(nn.Linear(sizes[i], sizes[i + 1]))
        if i < len(sizes) - 2:
            layers.append(activation())
    return nn.Sequential(*layers)


class DeepONet(nn.Module):
    def __init__(self, width=64, p=32):
        super().__init__()
        self.branch = mlp([M, width, width, p], nn.Tanh)
        self.trunk = mlp([1, width, width, p], nn.Tanh)
        self.b0 = nn.Parameter(torch.zeros(1))
        for m in self.modules():
            if isinstance(m, nn.Linear):
                nn.init.xavier_normal_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, u, y):
        b = self.branch(u)
        t = torch.tanh(self.trunk(y))
        return torch.einsum("bp,qp->bq", b, t) + self.b0


u_train, s_train = make_set(600, 0)
u_test, s_test = make_set(100, 1)
mu, sd = s_train.mean(), s_train.std()
s_train, s_test = (s_train - mu) / sd, (s_test - mu) / sd
u_train, s_train, u_test, s_test = (
    torch.tensor(a, dtype=torch.float32) for a in (u_train, s_train, u_test, s_test)
)
y = torch.linspace(-1, 1, Q).unsqueeze(1)

model = DeepONet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=500, gamma=0.5)
batch_size = 60


def loss_fn(pred, true):
    return torch.mean((pred - true) ** 2)


iterations = 2000
history = []
for it in range(iterations):
    idx = torch.randint(0, len(u_train), (batch_size,))
    pred = model(u_train[idx], y)
    loss = loss_fn(pred, s_train[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    history.append(loss.item())
    if (it + 1) % 500 == 0:
        print(f"{it + 1:5d}  mse {np.mean(history[-100:]):.3e}")

with torch.no_grad():
    error = loss_fn(model(u_test, y), s_test) / s_test.var()
print("relative error", error.item(), "explained", 1 - error.item())
