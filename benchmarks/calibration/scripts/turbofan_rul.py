"""Remaining useful life of engines (in the manner of C-MAPSS, made up): windows of sensors, an LSTM, capped target."""

import random
import sys

import numpy as np
import torch
from torch import nn

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)

WINDOW = 24
MAX_RUL = 100
BASE = np.array([518.0, 642.0, 1589.0, 47.5, 2388.0, 8.4])  # kelvins, psi, rpm, a ratio
SPAN = np.array([0.0, 3.0, 25.0, 1.2, 0.9, 0.25])
SLOPE = np.array([0.0, 1.0, 1.0, -1.0, 1.0, 1.0])


def run_to_failure(rng):
    life = int(rng.integers(110, 210))
    t = np.arange(life)
    wear = np.exp((t - life) / rng.uniform(35, 55))
    noise = rng.normal(0, 0.06, (life, len(BASE)))
    sensors = BASE + SPAN * (SLOPE * wear[:, None] + rng.normal(0, 0.04, len(BASE)) + noise)
    rul = np.minimum(life - t, MAX_RUL)
    return sensors, rul


def windows(engines, step):
    xs, ys = [], []
    for sensors, rul in engines:
        for end in range(WINDOW, len(sensors) + 1, step):
            xs.append(sensors[end - WINDOW : end])
            ys.append(rul[end - 1])
    return np.array(xs), np.array(ys)


rng = np.random.default_rng(7)
fleet = [run_to_failure(rng) for _ in range(70)]
train_x, train_y = windows(fleet[:55], step=4)
test_x, test_y = windows(fleet[55:], step=4)

mu = train_x.mean(axis=(0, 1))
sd = train_x.std(axis=(0, 1)) + 1e-8
train_x = (train_x - mu) / sd
test_x = (test_x - mu) / sd

train_x = torch.tensor(train_x, dtype=torch.float32)
test_x = torch.tensor(test_x, dtype=torch.float32)
train_y = torch.tensor(train_y / MAX_RUL, dtype=torch.float32)
test_y = torch.tensor(test_y / MAX_RUL, dtype=torch.float32)


class RULNet(nn.Module):
    def __init__(self, n_sensors, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(n_sensors, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1, :])


def train_one_epoch(net, opt, loss_fn, batch_size=32):
    net.train()
    losses = []
    for idx in torch.randperm(len(train_x)).split(batch_size):
        prediction = net(train_x[idx]).squeeze(-1)
        loss = loss_fn(prediction, train_y[idx])
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def explained(net):
    net.eval()
    error = (net(test_x).squeeze(-1) - test_y).pow(2).mean()
    return (1 - error / test_y.var()).item()


net = RULNet(len(BASE))
loss_fn = nn.MSELoss()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

for epoch in range(1, 17):
    loss = train_one_epoch(net, opt, loss_fn)
    if epoch % 4 == 0:
        print(f"Epoch {epoch:3d} | loss {loss:.5f} | R2 on the other engines {explained(net):.3f}")
